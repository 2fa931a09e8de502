"""What the parts of the expert share: its style, its state, and what it has been given to see."""

import dataclasses

from alpamayo_jax.sim.seen import Other
from alpamayo_jax.sim.sideways import Swerve
from alpamayo_jax.sim.world import World

INF = float("inf")


@dataclasses.dataclass(frozen=True)
class Style:
    """One driver. Speeds m/s, accelerations m/s^2, times s, lengths m.

    Attributes:
      set_speed: kept where nothing else constrains.
      accel: largest acceleration.
      brake: comfortable braking.
      lateral: lateral acceleration accepted in a curve.
      time_gap, min_gap: to a lead vehicle (IDM).
      reaction: delay before acting on what others, or a light, begin to do.
      offset: constant position in the lane, positive to the left.
      overtakes: whether it changes lane to pass a slower lead.
    """

    set_speed: float
    accel: float = 1.4
    brake: float = 1.6
    lateral: float = 2.0
    time_gap: float = 1.4
    min_gap: float = 3.0
    reaction: float = 0.6
    offset: float = 0.0
    overtakes: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """One actor at one step in coordinates of the route, see `seen.Other`."""

    number: int
    other: Other
    s: float
    d: float
    ahead: float
    aside: float
    speed: float
    across: float
    gone: float
    sidling: float
    v: float
    blinks: int

    @property
    def rear(self) -> float:
        """s of the end that is nearer to the start of the route."""
        return self.s - self.ahead

    @property
    def front(self) -> float:
        """s of its other end."""
        return self.s + self.ahead

    @property
    def still(self) -> bool:
        """Whether it stands."""
        return self.v < 0.3


@dataclasses.dataclass
class State:
    """The driver at one step.

    Attributes:
      k, t: the step and its time.
      s, d, v: route coordinates of the rear axle, and speed.
      swerve: the offset that it follows.
      rows: who is there, within reach.
      passes: numbers of those whom it is about to pass, and needs not follow.
    """

    k: int
    t: float
    s: float
    d: float
    v: float
    swerve: Swerve
    rows: tuple[Row, ...]
    passes: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True)
class Task:
    """What stays the same throughout a drive."""

    world: World
    style: Style


def rows_at(
    others: tuple[Other, ...], table: list[list[tuple]], k: int, s: float
) -> tuple[Row, ...]:
    """Who is present at step k between 60 m behind and 160 m ahead of s."""
    found = []
    for number, (other, rows) in enumerate(zip(others, table)):
        present, *values = rows[k]
        if present and -60.0 < values[0] - s < 160.0:
            found.append(Row(number, other, *values))
    return tuple(found)
