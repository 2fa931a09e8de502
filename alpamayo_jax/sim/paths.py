"""Paths: curves on the ground, sampled by arc length, of piecewise linear curvature.

Path coordinates (s, d): s is the arc length along the path, d the signed distance to it, positive
to the left; metres. World frame: z up, the road at z = 0.
"""

import dataclasses
import functools
import math

import chex
import numpy as np
from scipy.spatial import cKDTree

from alpamayo_jax.config import ConfigError

STEP = 0.25  # metres between stored samples; the chord of the tightest curve errs by 0.6 mm
_COARSE = 4  # samples between the points that a search for the nearest looks at

Pieces = list[tuple[float, float]]


@dataclasses.dataclass(frozen=True, eq=False)
class Path:
    """A curve sampled every `STEP` metres.

    Attributes:
      s: float64 [N], arc length; it may begin below 0.
      xy: float64 [N, 2], world.
      heading: float64 [N], radians, unwrapped.
      kappa: float64 [N], 1/m, positive to the left.
    """

    s: np.ndarray
    xy: np.ndarray
    heading: np.ndarray
    kappa: np.ndarray

    def pose(self, s: np.ndarray | float, d: np.ndarray | float = 0.0):
        """(xy [..., 2], heading [...], curvature [...]) at path coordinates (s, d)."""
        heading = np.interp(s, self.s, self.heading)
        x = np.interp(s, self.s, self.xy[:, 0]) - d * np.sin(heading)
        y = np.interp(s, self.s, self.xy[:, 1]) + d * np.cos(heading)
        return np.stack([x, y], -1), heading, np.interp(s, self.s, self.kappa)

    def place(self, s: float, d: float = 0.0) -> tuple[float, float, float]:
        """(x, y, heading) at path coordinates (s, d), as numbers."""
        (x, y), heading, _ = self.pose(s, d)
        return float(x), float(y), float(heading)

    def points(self, begin: float, end: float, d: float = 0.0, spacing: float = 2.0) -> np.ndarray:
        """World points [M, 2] along the path from s = `begin` to `end`, both included."""
        count = max(int(math.ceil(abs(end - begin) / spacing)), 1) + 1
        return self.pose(np.linspace(begin, end, count), d)[0]

    def project(self, xy: np.ndarray, guess: np.ndarray | float, iterations: int = 3):
        """(s [...], d [...]) of points xy [..., 2], by Newton steps from s = `guess`."""
        chex.assert_axis_dimension(xy, -1, 2)
        s = guess
        for _ in range(iterations + 1):
            centre, heading, kappa = self.pose(s)
            x, y = xy[..., 0] - centre[..., 0], xy[..., 1] - centre[..., 1]
            along = x * np.cos(heading) + y * np.sin(heading)
            d = y * np.cos(heading) - x * np.sin(heading)
            s = s + along / np.maximum(1.0 - kappa * d, 0.2)
        return s, d

    def locate(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(s [...], d [...]) of points xy [..., 2] anywhere: the nearest place of the path."""
        chex.assert_axis_dimension(xy, -1, 2)
        _, nearest = self._tree.query(xy)
        return self.project(xy, self.s[::_COARSE][nearest], 2)

    def distance(self, xy: np.ndarray) -> np.ndarray:
        """Distance [...] from points xy [..., 2] to the path, to within a metre along it."""
        return self._tree.query(xy)[0]

    @property
    def closed(self) -> bool:
        """Whether it comes back to where it began."""
        return bool(np.hypot(*(self.xy[0] - self.xy[-1])) < 1.0)

    @functools.cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.xy[::_COARSE])

    def __getstate__(self):
        return {name: self.__dict__[name] for name in ("s", "xy", "heading", "kappa")}


def build_path(
    pieces: Pieces,
    *,
    start: float = -60.0,
    origin: tuple[float, float] = (0.0, 0.0),
    heading: float = 0.0,
) -> Path:
    """Builds a path from pieces of linearly changing curvature.

    Args:
      pieces: (length in metres, curvature at its end in 1/m); curvature begins at 0.
      start: s of the first sample, at most 0; pieces begin at s = 0, before it all is straight.
      origin: world position of s = 0.
      heading: heading at s = 0, radians.

    Raises:
      ConfigError: a piece has no positive length.
    """
    if not pieces or min(length for length, _ in pieces) <= 0.0 or start > 0.0:
        raise ConfigError(
            f"a path needs pieces of positive length and a start at or below 0, got {pieces}, "
            f"{start}"
        )
    knots = np.concatenate([[start - 1.0, 0.0], np.cumsum([length for length, _ in pieces])])
    values = np.array([0.0, 0.0] + [kappa for _, kappa in pieces])
    # One sample more than fit, so that the last is never short of the end by a rounding.
    zero = int(round(-start / STEP))
    s = STEP * (np.arange(zero + math.floor(knots[-1] / STEP) + 2) - zero)
    kappa = np.interp(s, knots, values)
    turned = np.concatenate([[0.0], np.cumsum((kappa[1:] + kappa[:-1]) * STEP / 2)])
    theta = heading + turned - turned[zero]
    # Position from the heading in the middle of a step: exact to second order in STEP.
    middle = (theta[1:] + theta[:-1]) / 2
    steps = STEP * np.stack([np.cos(middle), np.sin(middle)], -1)
    xy = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
    return Path(s, xy - xy[zero] + np.asarray(origin), theta, kappa)


def straight(place: tuple[float, float, float], back: float, ahead: float) -> Path:
    """A straight path through place (x, y, heading), from s = -back to `ahead`."""
    return build_path([(ahead, 0.0)], start=-back, origin=place[:2], heading=place[2])


def ring(centre: tuple[float, float], radius: float, heading: float) -> Path:
    """A circle, once around to the left; it begins where its heading is `heading`."""
    x, y = centre
    steps = int(round(2.0 * math.pi * radius / STEP)) + 1
    s = np.linspace(0.0, 2.0 * math.pi * radius, steps)
    theta = heading + s / radius
    xy = np.stack([x + radius * np.sin(theta), y - radius * np.cos(theta)], -1)
    return Path(s, xy, theta, np.full(steps, 1.0 / radius))


def curve(kappa: float, angle: float, transition: float) -> Pieces:
    """Pieces of one curve: clothoid in, arc, clothoid out.

    Args:
      kappa: curvature of the arc, 1/m, positive to the left.
      angle: total change of heading, radians, positive.
      transition: length of each clothoid, metres; shortened when the angle is too small for it.
    """
    transition = min(transition, 0.9 * angle / abs(kappa))
    return [(transition, kappa), (angle / abs(kappa) - transition, kappa), (transition, 0.0)]
