"""Moves to the side: the offset from the route that the expert follows, and when it changes.

An offset changes along a polynomial of the fifth degree from where the ego is to where it shall be,
so that neither heading nor curvature jumps.
"""

import dataclasses

from alpamayo_jax.sim.paths import Path


@dataclasses.dataclass(frozen=True)
class Swerve:
    """An offset d(s): a polynomial over `length` metres from `s`, then constant `target`.

    Attributes:
      s, length: where it happens.
      target: offset at its end.
      c: coefficients of the deviation from the target, in part = (s - self.s) / length.
    """

    s: float
    length: float
    target: float
    c: tuple[float, float, float, float, float, float] = (0.0,) * 6

    def at(self, s: float) -> tuple[float, float, float]:
        """(offset, its first and second derivative by s)."""
        part = (s - self.s) / self.length
        if part >= 1.0:
            return self.target, 0.0, 0.0
        part = max(part, 0.0)
        c0, c1, c2, c3, c4, c5 = self.c
        value = c0 + part * (c1 + part * (c2 + part * (c3 + part * (c4 + part * c5))))
        first = c1 + part * (2 * c2 + part * (3 * c3 + part * (4 * c4 + part * 5 * c5)))
        second = 2 * c2 + part * (6 * c3 + part * (12 * c4 + part * 20 * c5))
        return self.target + value, first / self.length, second / self.length**2

    def towards(self, s: float, target: float, length: float) -> "Swerve":
        """A move from where this one is at `s` to another offset."""
        d, slope, bend = self.at(s)
        c0, c1, c2 = d - target, slope * length, bend * length**2 / 2
        # Value, slope and bend are zero at the end.
        c3 = -10 * c0 - 6 * c1 - 3 * c2
        c4 = 15 * c0 + 8 * c1 + 3 * c2
        c5 = -6 * c0 - 3 * c1 - c2
        return Swerve(s, length, target, (c0, c1, c2, c3, c4, c5))


@dataclasses.dataclass(frozen=True)
class Move:
    """A decision to move aside.

    Attributes:
      step: at which it begins.
      kind: "nudge", "lane_change", "merge" or "return".
      side: "left" or "right".
      target: offset from the route that it goes to.
      actor: number of the actor that is why, or -1.
      leaves: whether the ego crosses the edge of its lane.
    """

    step: int
    kind: str
    side: str
    target: float
    actor: int = -1
    leaves: bool = False


class Line:
    """A path with its samples as plain numbers, for look-ups one at a time."""

    def __init__(self, path: Path):
        self._first, self._step = float(path.s[0]), float(path.s[1] - path.s[0])
        self._last = len(path.s) - 1
        self._rows = list(
            zip(path.xy[:, 0].tolist(), path.xy[:, 1].tolist(), path.heading.tolist(),
                path.kappa.tolist())
        )  # fmt: skip

    def at(self, s: float) -> tuple[float, float, float, float]:
        """(x, y, heading, curvature) at arc length s, held beyond the ends."""
        place = min(max((s - self._first) / self._step, 0.0), self._last - 1e-9)
        i = int(place)
        part = place - i
        a, b = self._rows[i], self._rows[i + 1]
        return (
            a[0] + part * (b[0] - a[0]),
            a[1] + part * (b[1] - a[1]),
            a[2] + part * (b[2] - a[2]),
            a[3] + part * (b[3] - a[3]),
        )
