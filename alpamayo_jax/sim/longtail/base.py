"""What the scenario families share: drafts, drivers, roads without surprises, road users."""

import dataclasses
import math
from typing import Callable

import numpy as np

from alpamayo_jax.clip import GRID_DT
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.sim.expert import Drive, drive
from alpamayo_jax.sim.layouts import Profile, Site
from alpamayo_jax.sim.motion import move
from alpamayo_jax.sim.paths import Path, Pieces, curve, straight
from alpamayo_jax.sim.style import Style
from alpamayo_jax.sim.world import Actor, Kind, Layout, Span, World

VIEW = 170.0  # metres of road beyond the furthest point that the ego can reach
PAINTS = (
    (0.72, 0.73, 0.75), (0.16, 0.17, 0.19), (0.62, 0.10, 0.10), (0.12, 0.23, 0.50),
    (0.85, 0.85, 0.82), (0.33, 0.36, 0.38), (0.55, 0.45, 0.28), (0.10, 0.35, 0.28),
)  # fmt: skip
CLOTHES = (
    (0.80, 0.16, 0.14), (0.16, 0.30, 0.72), (0.90, 0.78, 0.20), (0.20, 0.52, 0.28),
    (0.86, 0.86, 0.86), (0.52, 0.24, 0.56), (0.90, 0.48, 0.14),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Draft:
    """What a family decides.

    Attributes:
      world: with everybody who matters, and nobody else.
      without: the same world with the cause taken away.
      style, speed: the driver, and its speed at the start.
      cause: in words, why the expert does what it does.
      clear: stretches of the route where no car may park.
      traffic: whether others may come along the lanes of the other direction.
    """

    world: World
    without: World
    style: Style
    speed: float
    cause: str
    clear: tuple[Span, ...] = ()
    traffic: bool = True


@dataclasses.dataclass(frozen=True)
class Family:
    """One kind of scenario: the class of its critical moment, and how it is drawn."""

    scenario: ScenarioClass
    draw: Callable[[np.random.Generator, float], Draft]


def draw_style(rng: np.random.Generator, low: float = 8.0, high: float = 16.0, **fixed) -> Style:
    """A driver whose set speed lies between `low` and `high` m/s."""
    return dataclasses.replace(
        Style(
            set_speed=rng.uniform(low, high),
            accel=rng.uniform(1.1, 1.8),
            brake=rng.uniform(1.3, 1.9),
            lateral=rng.uniform(1.7, 2.3),
            time_gap=rng.uniform(1.2, 1.8),
            min_gap=rng.uniform(2.5, 4.0),
            reaction=rng.uniform(0.5, 0.9),
            offset=rng.uniform(-0.12, 0.12),
        ),
        **fixed,
    )


def draw_site(rng: np.random.Generator) -> Site:
    """Somewhere in the world."""
    return Site(tuple(rng.uniform(-200.0, 200.0, 2)), rng.uniform(-math.pi, math.pi))


def draw_profile(rng: np.random.Generator, **fixed) -> Profile:
    """One lane each way, or as `fixed` says."""
    drawn = Profile(width=rng.uniform(3.3, 3.8), dashed=bool(rng.random() < 0.7))
    return dataclasses.replace(drawn, **fixed)


def sense(rng: np.random.Generator) -> float:
    """1 or -1."""
    return 1.0 if rng.random() < 0.5 else -1.0


def long_enough(pieces: Pieces, style: Style, seconds: float) -> Pieces:
    """The pieces, and straight on for as far as the ego can get and see."""
    missing = style.set_speed * seconds + VIEW - sum(length for length, _ in pieces)
    return pieces + [(missing, 0.0)] if missing > 0.0 else pieces


def gentle(rng: np.random.Generator, speed: float, first: float = 20.0) -> Pieces:
    """A road whose curves need no slowing from `speed`; straight for `first` metres."""
    pieces, heading = [], 0.0
    for _ in range(4):
        kappa = rng.uniform(0.2, 0.9) / speed**2
        angle = min(rng.uniform(0.1, 0.6), 150.0 * kappa)
        side = sense(rng) if abs(heading) < 0.5 else -float(np.sign(heading))
        lead = first + rng.uniform(0.0, 70.0)
        pieces += [(lead, 0.0)] + curve(side * kappa, angle, 2.0 * speed)
        heading, first = heading + side * angle, 20.0
    return pieces


def straight_to(rng: np.random.Generator, line: float) -> Pieces:
    """Straight past a line, then a gentle curve."""
    kappa = sense(rng) * rng.uniform(0.001, 0.003)
    return [(line + 60.0, 0.0)] + curve(kappa, rng.uniform(0.1, 0.3), 25.0)


_SIZES = {
    Kind.CAR: ((4.0, 4.9), (1.75, 1.92), (1.4, 1.6)),
    Kind.VAN: ((4.8, 5.6), (1.9, 2.0), (1.9, 2.4)),
    Kind.TRUCK: ((6.5, 8.5), (2.2, 2.4), (2.8, 3.3)),
}  # length, width, height


def car(rng: np.random.Generator, path: Path, s: float, d: float = 0.0, **plan) -> Actor:
    """A car, now and then a van or a truck."""
    kind = list(_SIZES)[int(rng.choice(3, p=[0.78, 0.14, 0.08]))]
    lwh = tuple(rng.uniform(*span) for span in _SIZES[kind])
    paint = PAINTS[int(rng.integers(len(PAINTS)))]
    return Actor(kind, path, s, d, lwh=lwh, colour=paint, **plan)


def person(rng: np.random.Generator, path: Path, s: float, d: float = 0.0, **plan) -> Actor:
    """Someone on foot."""
    clothes = CLOTHES[int(rng.integers(len(CLOTHES)))]
    lwh = (0.5, 0.6, rng.uniform(1.55, 1.9))
    return Actor(Kind.PEDESTRIAN, path, s, d, lwh=lwh, colour=clothes, **plan)


def cyclist(rng: np.random.Generator, path: Path, s: float, d: float = 0.0, **plan) -> Actor:
    """Someone on a bicycle."""
    clothes = CLOTHES[int(rng.integers(len(CLOTHES)))]
    lwh = (1.75, 0.6, rng.uniform(1.6, 1.8))
    return Actor(Kind.CYCLIST, path, s, d, lwh=lwh, colour=clothes, **plan)


def across(layout: Layout, s: float, side: float, reach: float = 30.0) -> Path:
    """A straight path square across the route at s, that comes from `side` (1: left, -1: right).

    Its s = 0 is on the route.
    """
    x, y, heading = layout.route.place(s)
    return straight((x, y, heading - side * math.pi / 2), reach, reach)


def alone(layout: Layout, style: Style, speed: float, seconds: float, **world) -> Drive:
    """How the expert drives a road with nobody on it."""
    there = World(layout, **world)
    motions = tuple(move(actor, steps(seconds)) for actor in there.actors)
    return drive(there, motions, style, steps(seconds), speed)


def steps(seconds: float) -> int:
    """Rows of the 10 Hz grid."""
    return int(round(seconds / GRID_DT)) + 1


def arrival(nominal: Drive, s: float) -> float:
    """When the ego's rear axle comes to s; past the end of the drive at its last speed."""
    last = max(float(nominal.v[-1]), 1.0)
    beyond = max(s - float(nominal.s[-1]), 0.0) / last
    return float(np.interp(s, nominal.s, nominal.t)) + beyond
