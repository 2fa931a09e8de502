"""Road surfaces as tables: path coordinates of every place near the ego, for quick look-up.

A strip's (s, d) are tabulated on a grid of the world, once; around the ego a window is cut out of
the tables of all strips. With cells of 1.5 m the interpolated d is within 2 cm of the true one.
"""

import dataclasses

import numpy as np

from alpamayo_jax.sim.looks import Look
from alpamayo_jax.sim.paths import STEP, Path
from alpamayo_jax.sim.world import Band, Layout, World

CELL = 1.5  # metres
WINDOW = 256  # cells along each side of the window
FAR = 999.0  # d of a place too far from a strip to matter
BAND_COLUMNS = 14
_CORRIDOR = 26.0  # metres to each side of a path that its table covers
_RECENTRE = 16  # cells from one middle of the window to the next
_ENDLESS = 1e6
_FAR_ALONG = 4000.0  # metres beyond which no path goes
_BUMP = 1.1  # metres, half the length of a speed bump


@dataclasses.dataclass(frozen=True, eq=False)
class Field:
    """(s, d) of one path on a grid: cell (0, 0) is at `origin` cells; values [rows, columns, 2]."""

    origin: np.ndarray
    values: np.ndarray


def tabulate(path: Path) -> Field:
    """Tabulates path coordinates within 26 m of a path."""
    low = np.floor((path.xy.min(0) - _CORRIDOR) / CELL).astype(int) - 1
    high = np.ceil((path.xy.max(0) + _CORRIDOR) / CELL).astype(int) + 2
    columns, rows = high - low
    best = np.full((rows, columns), _CORRIDOR**2)
    guess = np.full((rows, columns), np.nan)
    half = int(_CORRIDOR / CELL) + 1
    for k in range(0, len(path.s), max(int(3.0 / STEP), 1)):
        at = path.xy[k] / CELL - low
        i, j = at.astype(int)
        x0, x1 = max(i - half, 0), min(i + half + 2, columns)
        y0, y1 = max(j - half, 0), min(j + half + 2, rows)
        dx = (np.arange(x0, x1) - at[0]) * CELL
        dy = (np.arange(y0, y1) - at[1]) * CELL
        squared = dy[:, None] ** 2 + dx**2
        block = best[y0:y1, x0:x1]
        nearer = squared < block
        block[nearer] = squared[nearer]
        guess[y0:y1, x0:x1][nearer] = path.s[k]
    row, column = np.nonzero(~np.isnan(guess))
    points = CELL * (np.stack([column, row], -1) + low)
    values = np.zeros((rows, columns, 2), np.float32)
    values[..., 1] = FAR
    values[row, column] = np.stack(path.project(points, guess[row, column]), -1)
    # A path ends where it ends: Newton runs on past it, along the last tangent.
    return Field(low, values)


class Surface:
    """The tables and bands of a world."""

    def __init__(self, world: World, look: Look):
        """Tabulates the strips.

        Args:
          world: whose roads.
          look: whose colours.
        """
        strips = world.layout.strips
        paths = list({id(strip.path): strip.path for strip in strips}.values())
        number = {id(path): i for i, path in enumerate(paths)}
        self._fields = [tabulate(path) for path in paths]
        bands = [(number[id(strip.path)], band) for strip in strips for band in strip.bands]
        bands += [(number[id(world.layout.route)], band) for band in _bumps(world)
                  if id(world.layout.route) in number]  # fmt: skip
        self.bands = np.array([_row(i, band, look) for i, band in bands], np.float32)
        self.strips = len(paths)
        self._middle: np.ndarray | None = None
        self._window: np.ndarray | None = None

    def window(self, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
        """(tables float32 [strips, WINDOW, WINDOW, 2], world xy [2] of cell (0, 0)) around (x, y).

        The same array is given again until the ego has moved on.
        """
        # A function of the place alone, so that a frame does not depend on those drawn before it.
        middle = _RECENTRE * np.round(np.array([x, y]) / (CELL * _RECENTRE)).astype(int)
        if self._middle is None or (middle != self._middle).any():
            self._middle = middle
            self._window = np.stack([_cut(field, middle - WINDOW // 2) for field in self._fields])
        corner = (self._middle - WINDOW // 2) * CELL
        return self._window, corner.astype(np.float32)


def _cut(field: Field, corner: np.ndarray) -> np.ndarray:
    out = np.zeros((WINDOW, WINDOW, 2), np.float32)
    out[..., 1] = FAR
    rows, columns = field.values.shape[:2]
    start = corner - field.origin
    x0, y0 = np.maximum(start, 0)
    x1, y1 = min(start[0] + WINDOW, columns), min(start[1] + WINDOW, rows)
    if x1 > x0 and y1 > y0:
        out[y0 - start[1] : y1 - start[1], x0 - start[0] : x1 - start[0]] = field.values[
            y0:y1, x0:x1
        ]
    return out


def _bumps(world: World) -> list[Band]:
    layout: Layout = world.layout
    bands = []
    for s in world.bumps:
        span = (s - _BUMP, s + _BUMP)
        bands.append(Band("dark", layout.edges, span))
        bands.append(Band("yellow", layout.edges, span, (0.55, 1.1), across=True))
    return bands


def _row(strip: int, band: Band, look: Look) -> list[float]:
    """Strip, s from and to, d from and to, length and period along s, the same along d, colour."""
    along = band.dash if band.dash and not band.across else (_ENDLESS, _ENDLESS)
    aside = band.dash if band.dash and band.across else (_ENDLESS, _ENDLESS)
    s = [min(max(value, -_FAR_ALONG), _FAR_ALONG) for value in band.s]
    return [strip, *s, *band.d, *along, *aside, *look.surfaces[band.surface], 0.0]
