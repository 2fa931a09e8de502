"""The procedural world: one description that expert, renderer, labels and scenes all read.

A `World` is data: where the road is, who is on it and what each of them does when, what lights
show, and how it looks. Nothing in it knows the ego, except where the ego's route leads.
World frame: x, y in metres, z up, the road at z = 0; times in seconds from the clip's start.
"""

import dataclasses
import enum
import math

import numpy as np

from alpamayo_jax.config import ConfigError
from alpamayo_jax.sim.paths import Path

COLOURS = ("green", "yellow", "red")
SIGNS = ("stop", "yield", "bump", "construction", "crosswalk")
WEATHERS = ("clear", "overcast", "dusk", "rain", "fog")
Span = tuple[float, float]  # of s or d, metres


class Kind(enum.StrEnum):
    """What an actor is; the value is its category in the clip."""

    CAR = "CAR"
    VAN = "VEHICLE"
    TRUCK = "TRUCK"
    BUS = "BUS"
    PEDESTRIAN = "PEDESTRIAN"
    CYCLIST = "CYCLIST"
    CONE = "TRAFFIC_CONE"
    BARRIER = "BARRIER"

    @property
    def vulnerable(self) -> bool:
        """Whether it is a person without a car around."""
        return self in (Kind.PEDESTRIAN, Kind.CYCLIST)

    @property
    def vehicle(self) -> bool:
        """Whether it is a motor vehicle."""
        return self in (Kind.CAR, Kind.VAN, Kind.TRUCK, Kind.BUS)


@dataclasses.dataclass(frozen=True)
class Band:
    """A rectangle of path coordinates with a surface: asphalt, or paint on it.

    Attributes:
      surface: key of `looks.SURFACES`.
      d: from right to left.
      s: along the path.
      dash: (length, period) of a pattern along s, or None.
      across: whether the pattern runs along d instead, as the bars of a crosswalk.
    """

    surface: str
    d: Span
    s: Span = (-math.inf, math.inf)
    dash: tuple[float, float] | None = None
    across: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Strip:
    """A road surface: a path and the bands beside it, later ones over earlier ones."""

    path: Path
    bands: tuple[Band, ...]

    @property
    def asphalt(self) -> list[tuple[Span, Span]]:
        """(s, d) spans that can be driven on; s is cut to the path."""
        low, high = float(self.path.s[0]), float(self.path.s[-1])
        return [
            ((max(band.s[0], low), min(band.s[1], high)), band.d)
            for band in self.bands
            if band.surface == "asphalt"
        ]


@dataclasses.dataclass(frozen=True, eq=False)
class Lane:
    """A lane of the map.

    Attributes:
      centre: float64 [N, 2], in driving direction.
      width: metres.
      left, right: marks of its edges, as in "SOLID_WHITE"; "NONE" in a junction.
    """

    centre: np.ndarray
    width: float
    left: str
    right: str


@dataclasses.dataclass(frozen=True)
class Beside:
    """A lane beside the route: d of its centre, its direction (1 or -1), where along the route."""

    d: float
    direction: int
    s: Span = (-math.inf, math.inf)


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Where the road is.

    Attributes:
      route: centre of the lanes that the ego follows; s = 0 is where it starts.
      width: of a lane, metres.
      edges: d of the right and of the left edge of the asphalt beside the route.
      strips: surfaces; the first belongs to the road that the route starts on.
      lanes: of the map.
      beside: lanes beside the route.
      lane_end: s at which the route's own lane ends, inf where it does not.
      junctions: stretches of the route in a junction.
      crosswalks: float64 [4, 2] each; stop_lines: float64 [2, 2] each.
    """

    route: Path
    width: float
    edges: Span
    strips: tuple[Strip, ...]
    lanes: tuple[Lane, ...]
    beside: tuple[Beside, ...] = ()
    lane_end: float = math.inf
    junctions: tuple[Span, ...] = ()
    crosswalks: tuple[np.ndarray, ...] = ()
    stop_lines: tuple[np.ndarray, ...] = ()


@dataclasses.dataclass(frozen=True)
class SpeedChange:
    """From time `t` on, aim for `speed`, accelerating or braking by at most `rate` m/s^2."""

    t: float
    speed: float
    rate: float


@dataclasses.dataclass(frozen=True)
class Shift:
    """From time `t` on, move sideways to offset `d` within `seconds`; `signals` before by 1 s."""

    t: float
    d: float
    seconds: float
    signals: bool = True


@dataclasses.dataclass(frozen=True, eq=False)
class Actor:
    """Somebody or something on or beside the road, with its plan.

    Attributes:
      kind: what.
      path: what it moves along.
      s, d: path coordinates of its centre at time 0.
      direction: 1 along the path, -1 against it.
      speed: at time 0, along its own direction.
      changes: later speeds, in order of time.
      shifts: later offsets, in order of time.
      lwh: length, width, height.
      colour: paint or clothes, RGB in [0, 1].
      turned: radians to the left by which it faces away from its direction.
    """

    kind: Kind
    path: Path
    s: float
    d: float = 0.0
    direction: int = 1
    speed: float = 0.0
    changes: tuple[SpeedChange, ...] = ()
    shifts: tuple[Shift, ...] = ()
    lwh: tuple[float, float, float] = (4.6, 1.85, 1.5)
    colour: tuple[float, float, float] = (0.6, 0.6, 0.65)
    turned: float = 0.0


@dataclasses.dataclass(frozen=True)
class Signal:
    """A traffic light across the route.

    Attributes:
      s: its stop line, on the route.
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


@dataclasses.dataclass(frozen=True)
class Sign:
    """A sign beside the route.

    Attributes:
      kind: one of `SIGNS`.
      s, d: where it stands.
      line: s of the line at which one stops for it, or None.
    """

    kind: str
    s: float
    d: float
    line: float | None = None

    def __post_init__(self):
        if self.kind not in SIGNS:
            raise ConfigError(f"sign {self.kind!r} is unknown; known: {', '.join(SIGNS)}")


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """Everything that is there.

    Attributes:
      layout: the road.
      actors: who is there; an actor's number is its place here, and its track in the clip.
      signal: the traffic light of the route, or None.
      signs: beside the route.
      bumps: s of speed bumps across the route.
      weather: one of `WEATHERS`.
      look: seed of scenery, colours and textures.
    """

    layout: Layout
    actors: tuple[Actor, ...] = ()
    signal: Signal | None = None
    signs: tuple[Sign, ...] = ()
    bumps: tuple[float, ...] = ()
    weather: str = "clear"
    look: int = 0

    def __post_init__(self):
        if self.weather not in WEATHERS:
            raise ConfigError(f"weather {self.weather!r} is unknown; known: {', '.join(WEATHERS)}")
