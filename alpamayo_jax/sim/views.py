"""What the expert's driver has in view at a step: bends of the road, people who wait."""

import dataclasses

import numpy as np

from alpamayo_jax.sim.rules import Limits, curve_limits
from alpamayo_jax.sim.scenarios import Run
from alpamayo_jax.sim.seen import FRONT, Other
from alpamayo_jax.sim.style import Task
from alpamayo_jax.sim.world import Kind

_STRAIGHT = 0.0015  # 1/m, curvature that still counts as straight
_SHARP, _GENTLE = 0.035, 0.012  # 1/m
_PERSON_VIEW = 45.0  # metres ahead in which someone who waits is worth a word
_PERSON_ASIDE = 6.5  # metres


@dataclasses.dataclass(frozen=True)
class Bend:
    """A bend to name: its largest curvature in 1/m, and whether the ego is in it."""

    kappa: float
    inside: bool = False

    @property
    def side(self) -> str:
        """Where it goes."""
        return "left" if self.kappa > 0 else "right"

    @property
    def sharpness(self) -> str:
        """As `component.ATTRIBUTES` has it."""
        size = abs(self.kappa)
        return "sharp" if size > _SHARP else "gentle" if size < _GENTLE else "moderate"

    @property
    def name(self) -> str:
        """For a trace, for example "sharp left curve"."""
        word = "" if self.sharpness == "moderate" else f"{self.sharpness} "
        return f"{word}{self.side} curve"


def bend_ahead(run: Run, k: int, slows: bool) -> Bend | None:
    """The bend to name at step k, or None on a straight.

    Args:
      run: the played scenario.
      k: step.
      slows: whether the ego slows down for it; then the first that asks for less than its speed.
    """
    speed = run.drive.v[k]
    if slows:
        return _bend(run, k, _sight(run, k), speed - 0.3)
    return _bend(run, k, max(1.5 * speed, 8.0), 0.0)


def _sight(run: Run, k: int) -> float:
    """Metres of road that a driver at step k minds: the way to brake to a crawl, and one second."""
    speed = run.drive.v[k]
    return max(speed + speed**2 / (2.0 * run.scenario.style.brake), 15.0)


def _bend(run: Run, k: int, reach: float, slower_than: float) -> Bend | None:
    route, s = run.world.layout.route, run.drive.s[k]
    ahead = route.kappa[(route.s >= s) & (route.s <= s + reach)]
    size = np.abs(ahead)
    if not size.size or size.max() < _STRAIGHT:
        return None
    tight = np.nonzero(run.scenario.style.lateral < size * slower_than**2)[0]
    at = int(tight[0]) if len(tight) else int(np.argmax(size))
    sense = np.sign(ahead[at])
    over = np.nonzero(ahead[at:] * sense < _STRAIGHT)[0]
    peak = float(size[at : at + int(over[0]) if len(over) else None].max())
    here = abs(float(np.interp(s, route.s, route.kappa)))
    return Bend(float(sense) * peak, here >= 0.3 * peak)


class Coming:
    """Curves that will ask for a lower speed than now, within three seconds."""

    def __init__(self, run: Run):
        self._run = run
        self._limits: Limits = curve_limits(Task(run.world, run.scenario.style))

    def coming(self, k: int) -> Bend | None:
        """Such a curve at step k, or None."""
        route, speed, s = self._run.world.layout.route, self._run.drive.v[k], self._run.drive.s[k]
        window = (route.s >= s) & (route.s <= s + 3.0 * speed)
        if not window.any() or self._limits.values[window].min() > speed - 1.0:
            return None
        return _bend(self._run, k, _sight(self._run, k) + 2.0 * speed, speed - 0.3)


def waiting_person(run: Run, others: tuple[Other, ...], k: int) -> tuple[int, str] | None:
    """(number, side) of someone on foot who stands close to the ego's way ahead, or None."""
    drive = run.drive
    for number, other in enumerate(others):
        if other.actor.kind is not Kind.PEDESTRIAN or other.motion.v[k] > 0.2:
            continue
        gap = float(other.s[k] - drive.s[k] - FRONT)
        if 1.0 < gap < _PERSON_VIEW and abs(other.d[k]) < _PERSON_ASIDE + 3.0 * (other.d[k] > 0):
            return number, "left" if other.d[k] > 0 else "right"
    return None
