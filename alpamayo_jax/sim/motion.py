"""How actors move by themselves: plans of speeds and offsets, played on the 10 Hz grid.

Nobody reacts to the ego. Lengths in metres, times in seconds, speeds in m/s.
"""

import dataclasses
import functools

import numpy as np

from alpamayo_jax.clip import GRID_DT
from alpamayo_jax.sim.world import Actor, Kind

_JERK = 3.0  # m/s^3
_RESPONSE = 0.6  # seconds in which an actor closes its speed error, within its acceleration
_SIGNALS_BEFORE = 1.0  # seconds


@dataclasses.dataclass(frozen=True, eq=False)
class Motion:
    """How an actor moved, all [N] on the 10 Hz grid.

    Attributes:
      s, d: path coordinates; v, a: along its own direction.
      xy: float64 [N, 2] centre, world; yaw: radians.
      present: bool, False beyond the ends of its path.
      blinks: int32, 1 while it signals to its left, -1 to its right.
    """

    s: np.ndarray
    d: np.ndarray
    v: np.ndarray
    a: np.ndarray
    xy: np.ndarray
    yaw: np.ndarray
    present: np.ndarray
    blinks: np.ndarray

    @functools.cached_property
    def braking(self) -> np.ndarray:
        """bool [N]: the brake lights are on."""
        return (self.a < -0.25) | ((self.v < 0.1) & (self.v.max() > 0.5))

    @functools.cached_property
    def pose(self) -> np.ndarray:
        """float64 [N, 3]: x, y, yaw."""
        return np.concatenate([self.xy, self.yaw[:, None]], -1)


def move(actor: Actor, num_steps: int) -> Motion:
    """Plays an actor's plan: speeds with limited jerk, offsets with none at their ends."""
    s, v, a = _along(actor, num_steps)
    d, sideways, blinks = _aside(actor, num_steps)
    xy, heading, _ = actor.path.pose(s, d)
    # A car points where it goes; only someone on foot can step aside.
    lean = np.arctan2(actor.direction * sideways, np.maximum(v, 0.5))
    lean = np.where(v > 0.5, lean, 0.0) if actor.kind is not Kind.PEDESTRIAN else 0.0
    yaw = heading + (0.0 if actor.direction > 0 else np.pi) + lean + actor.turned
    return Motion(
        s=s,
        d=d,
        v=v,
        a=a,
        xy=xy,
        yaw=np.arctan2(np.sin(yaw), np.cos(yaw)),
        present=(s > actor.path.s[0]) & (s < actor.path.s[-1]),
        blinks=blinks,
    )


def _along(actor: Actor, num_steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    s, v, a = actor.s, actor.speed, 0.0
    if not actor.changes:
        t = np.arange(num_steps) * GRID_DT
        return s + actor.direction * v * t, np.full(num_steps, v), np.zeros(num_steps)
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
    return tuple(rows.T)


def _aside(actor: Actor, num_steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(d, its rate of change, blinks), each [num_steps]."""
    t = np.arange(num_steps) * GRID_DT
    d, rate = np.full(num_steps, float(actor.d)), np.zeros(num_steps)
    blinks, last = np.zeros(num_steps, np.int32), float(actor.d)
    for shift in actor.shifts:
        part = np.clip((t - shift.t) / shift.seconds, 0.0, 1.0)
        d += (shift.d - last) * smooth(part)
        rate += (shift.d - last) * 30.0 * part**2 * (1.0 - part) ** 2 / shift.seconds
        if shift.signals:
            on = (t >= shift.t - _SIGNALS_BEFORE) & (t < shift.t + shift.seconds)
            blinks[on] = int(np.sign(shift.d - last)) * actor.direction
        last = shift.d
    return d, rate, blinks


def smooth(part: np.ndarray | float) -> np.ndarray | float:
    """From 0 to 1 with the least jerk, for part in [0, 1]."""
    return part**3 * (10.0 - 15.0 * part + 6.0 * part**2)
