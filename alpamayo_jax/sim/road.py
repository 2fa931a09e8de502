"""Roads: a centre line of piecewise linear curvature (straights, clothoids, arcs) with two lanes.

Road coordinates (s, d): s is the arc length along the centre line of the ego lane, d the signed
distance to it, positive to the left; metres. The ego lane is |d| < lane_width / 2, the oncoming
lane follows on its left, shoulders and grass lie outside. World frame: z up, metres, road at z = 0.
"""

import dataclasses
import math

import chex
import numpy as np

from alpamayo_jax.clip import MapLines
from alpamayo_jax.config import ConfigError

STEP = 0.25  # metres between stored samples; the chord of the tightest curve errs by 0.6 mm
LEFT_SHOULDER = 1.0  # metres of asphalt outside the left edge line
FAR = 99.0  # d of a place too far from the road to matter
_CORRIDOR = 26.0  # metres to each side that a RoadField covers


@dataclasses.dataclass(frozen=True, eq=False)
class Road:
    """A road sampled every `STEP` metres.

    Attributes:
      s: float64 [N], arc length; 0 is where the ego starts.
      xy: float64 [N, 2], centre line of the ego lane, world.
      heading: float64 [N], radians, unwrapped.
      kappa: float64 [N], 1/m, positive to the left.
      lane_width: metres.
      shoulder: metres of asphalt outside the right edge line.
      dashed: whether the line between the two directions is dashed.
    """

    s: np.ndarray
    xy: np.ndarray
    heading: np.ndarray
    kappa: np.ndarray
    lane_width: float = 3.5
    shoulder: float = 2.8
    dashed: bool = True

    def pose(self, s: np.ndarray | float, d: np.ndarray | float = 0.0):
        """(xy [..., 2], heading [...], curvature [...]) at road coordinates (s, d)."""
        heading = np.interp(s, self.s, self.heading)
        x = np.interp(s, self.s, self.xy[:, 0]) - d * np.sin(heading)
        y = np.interp(s, self.s, self.xy[:, 1]) + d * np.cos(heading)
        return np.stack([x, y], -1), heading, np.interp(s, self.s, self.kappa)

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

    def nearest(self, xy: np.ndarray) -> np.ndarray:
        """Distance [...] from points xy [..., 2] to the centre line, to within a sample."""
        chex.assert_axis_dimension(xy, -1, 2)
        delta = xy[..., None, :] - self.xy[::8]
        return np.sqrt((delta**2).sum(-1).min(-1))

    @property
    def edges(self) -> tuple[float, float, float]:
        """d of the right edge line, of the line between directions, and of the left edge line."""
        return -self.lane_width / 2, self.lane_width / 2, 1.5 * self.lane_width


def build_road(
    pieces: list[tuple[float, float]],
    *,
    start: float = -60.0,
    origin: tuple[float, float] = (0.0, 0.0),
    heading: float = 0.0,
    **style,
) -> Road:
    """Builds a road from pieces of linearly changing curvature.

    Args:
      pieces: (length in metres, curvature at its end in 1/m); curvature begins at 0.
      start: s of the first sample; pieces begin at s = 0, the road before is straight.
      origin: world position of s = 0.
      heading: heading at s = 0, radians.
      **style: `lane_width`, `shoulder`, `dashed` of `Road`.

    Raises:
      ConfigError: a piece has no positive length.
    """
    if not pieces or min(length for length, _ in pieces) <= 0.0:
        raise ConfigError(f"a road needs pieces of positive length, got {pieces}")
    knots = np.concatenate([[start, 0.0], np.cumsum([length for length, _ in pieces])])
    values = np.array([0.0, 0.0] + [kappa for _, kappa in pieces])
    # One sample more than fit, so that the last is never short of the end by a rounding.
    s = start + STEP * np.arange(math.floor((knots[-1] - start) / STEP) + 2)
    kappa = np.interp(s, knots, values)
    turned = np.concatenate([[0.0], np.cumsum((kappa[1:] + kappa[:-1]) * STEP / 2)])
    zero = int(round(-start / STEP))
    theta = heading + turned - turned[zero]
    # Position from the heading in the middle of a step: exact to second order in STEP.
    middle = (theta[1:] + theta[:-1]) / 2
    steps = STEP * np.stack([np.cos(middle), np.sin(middle)], -1)
    xy = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
    return Road(s, xy - xy[zero] + np.asarray(origin), theta, kappa, **style)


def curve(kappa: float, angle: float, transition: float) -> list[tuple[float, float]]:
    """Pieces of one curve: clothoid in, arc, clothoid out.

    Args:
      kappa: curvature of the arc, 1/m, positive to the left.
      angle: total change of heading, radians, positive.
      transition: length of each clothoid, metres; shortened when the angle is too small for it.
    """
    transition = min(transition, 0.9 * angle / abs(kappa))
    return [(transition, kappa), (angle / abs(kappa) - transition, kappa), (transition, 0.0)]


@dataclasses.dataclass(frozen=True, eq=False)
class RoadField:
    """Road coordinates on a grid of the world, for quick look-up at many points.

    Attributes:
      origin: world xy of cell (0, 0).
      cell: metres.
      values: float32 [rows (y), columns (x), 2], (s, d); d is `FAR` away from the road.
    """

    origin: np.ndarray
    cell: float
    values: np.ndarray

    def lookup(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bilinear (s, d), each of the shape of world coordinates x and y."""
        chex.assert_equal_shape([x, y])
        rows, columns = self.values.shape[:2]
        u = np.clip((x - np.float32(self.origin[0])) / np.float32(self.cell), 0, columns - 1.001)
        v = np.clip((y - np.float32(self.origin[1])) / np.float32(self.cell), 0, rows - 1.001)
        iu, iv = u.astype(np.int32), v.astype(np.int32)
        fu, fv = (u - iu)[..., None], (v - iv)[..., None]
        flat, index = self.values.reshape(-1, 2), iv * columns + iu
        low, high = flat.take(index, 0), flat.take(index + columns, 0)
        low += fu * (flat.take(index + 1, 0) - low)
        high += fu * (flat.take(index + columns + 1, 0) - high)
        low += fv * (high - low)
        return low[..., 0], low[..., 1]


def road_field(road: Road, cell: float = 1.0) -> RoadField:
    """Tabulates road coordinates within 26 m of the road.

    With 1 m cells the interpolated d is within 2 cm of the true one on any curve used here.
    """
    origin = np.floor(road.xy.min(0) - _CORRIDOR - 2.0)
    columns, rows = (np.ceil((road.xy.max(0) + _CORRIDOR + 2.0 - origin) / cell)).astype(int) + 1
    best = np.full((rows, columns), (_CORRIDOR + 1.0) ** 2)
    guess = np.zeros((rows, columns))
    half = int(_CORRIDOR / cell) + 1
    for k in range(0, len(road.s), max(int(2.0 / STEP), 1)):
        at = road.xy[k] - origin
        i, j = (at / cell).astype(int)
        left, right = max(i - half, 0), min(i + half + 1, columns)
        low, high = max(j - half, 0), min(j + half + 1, rows)
        dx = np.arange(left, right) * cell - at[0]
        dy = np.arange(low, high) * cell - at[1]
        squared = dy[:, None] ** 2 + dx**2
        block = best[low:high, left:right]
        nearer = squared < block
        block[nearer] = squared[nearer]
        guess[low:high, left:right][nearer] = road.s[k]
    inside = best < _CORRIDOR**2
    row, column = np.nonzero(inside)
    points = origin + cell * np.stack([column, row], -1)
    values = np.zeros((rows, columns, 2), np.float32)
    values[..., 1] = FAR
    values[inside] = np.stack(road.project(points, guess[inside]), -1)
    return RoadField(origin, cell, values)


def map_lines(road: Road, stop_line: float | None = None, spacing: float = 2.0) -> MapLines:
    """The road as polylines: lane centre, lane boundaries, edges of the asphalt, stop line."""
    s = np.arange(road.s[0], road.s[-1], spacing)
    right, middle, left = road.edges
    lines = [
        ("lane_centre", s, np.zeros_like(s)),
        ("lane_left:" + ("DASHED" if road.dashed else "SOLID") + "_YELLOW", s, s * 0 + middle),
        ("lane_right:SOLID_WHITE", s, s * 0 + right),
        ("oncoming_lane_edge:SOLID_WHITE", s, s * 0 + left),
        ("road_edge", s, s * 0 + right - road.shoulder),
        ("road_edge", s, s * 0 + left + LEFT_SHOULDER),
    ]
    if stop_line is not None:
        lines.append(("stop_line", np.full(2, stop_line), np.array([right, middle])))
    points = [np.pad(road.pose(at, d)[0], ((0, 0), (0, 1))) for _, at, d in lines]
    offsets = np.concatenate([[0], np.cumsum([len(p) for p in points])])
    return MapLines(
        points=np.concatenate(points),
        offsets=offsets.astype(np.int64),
        kind=np.array([kind for kind, _, _ in lines]),
    )
