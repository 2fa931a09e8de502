"""Other road users and traffic lights: what they are and how they move by themselves.

Actors keep to a constant offset from the centre line and follow a schedule of speeds, independent
of the ego. Lengths in metres, times in seconds, speeds in m/s.
"""

import dataclasses
import functools

import numpy as np

from alpamayo_jax.clip import GRID_DT
from alpamayo_jax.config import ConfigError

COLOURS = ("green", "yellow", "red")
_JERK = 3.0  # m/s^3
_RESPONSE = 0.6  # seconds in which an actor closes its speed error, within its acceleration


@dataclasses.dataclass(frozen=True)
class SpeedChange:
    """From time `t` on, aim for `speed`, accelerating or braking by at most `rate` m/s^2."""

    t: float
    speed: float
    rate: float


@dataclasses.dataclass(frozen=True)
class Actor:
    """A vehicle on the road.

    Attributes:
      s, d: road coordinates of its centre at time 0.
      direction: 1 along the ego's direction, -1 towards it.
      speed: at time 0, along its own direction.
      changes: later speeds, in order of time.
      lwh: length, width, height.
      colour: paint, RGB in [0, 1].
    """

    s: float
    d: float
    direction: int = 1
    speed: float = 0.0
    changes: tuple[SpeedChange, ...] = ()
    lwh: tuple[float, float, float] = (4.6, 1.85, 1.5)
    colour: tuple[float, float, float] = (0.6, 0.6, 0.65)


@dataclasses.dataclass(frozen=True, eq=False)
class Motion:
    """How an actor moved, on the 10 Hz grid: s, v (own direction) and a, each float64 [N]."""

    s: np.ndarray
    v: np.ndarray
    a: np.ndarray

    @functools.cached_property
    def braking(self) -> np.ndarray:
        """bool [N]: the brake lights are on."""
        return (self.a < -0.25) | ((self.v < 0.1) & (self.v.max() > 0.5))


def move(actor: Actor, num_steps: int) -> Motion:
    """Integrates an actor's schedule with limited jerk; the road does not slow it down."""
    s, v, a = actor.s, actor.speed, 0.0
    rows = np.zeros((num_steps, 3))
    for k in range(num_steps):
        target, rate = actor.speed, 1.0
        for change in actor.changes:
            if k * GRID_DT >= change.t:
                target, rate = change.speed, change.rate
        wanted = min(max((target - v) / _RESPONSE, -rate), rate)
        a += min(max(wanted - a, -_JERK * GRID_DT), _JERK * GRID_DT)
        if v + a * GRID_DT < 0.02 and target == 0.0:
            a = -v / GRID_DT
        rows[k] = s, v, a
        s += actor.direction * (v * GRID_DT + 0.5 * a * GRID_DT**2)
        v += a * GRID_DT
    return Motion(*rows.T)


@dataclasses.dataclass(frozen=True)
class Signal:
    """A traffic light with its stop line.

    Attributes:
      s: stop line, road coordinate.
      phases: (start time, colour) in order of time, the first at or before 0.
    """

    s: float
    phases: tuple[tuple[float, str], ...]

    def __post_init__(self):
        unknown = [colour for _, colour in self.phases if colour not in COLOURS]
        if unknown or not self.phases or self.phases[0][0] > 0.0:
            raise ConfigError(
                f"a traffic light needs phases from time 0 on with colours {COLOURS}, "
                f"got {self.phases}"
            )

    def colour(self, t: float) -> str:
        """The colour shown at time t."""
        return [colour for start, colour in self.phases if start <= t + 1e-9][-1]

    def since(self, t: float) -> float:
        """Seconds at time t since the light last changed between green and not green."""
        begun = self.phases[0][0]
        for (_, before), (start, colour) in zip(self.phases, self.phases[1:]):
            if start <= t + 1e-9 and (before == "green") != (colour == "green"):
                begun = start
        return t - begun
