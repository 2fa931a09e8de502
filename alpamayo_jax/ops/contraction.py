"""Grids of cells that are fine near the ego and coarse far away: piecewise-linear contraction."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import TriplaneConfig
from alpamayo_jax.types import Array


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis: metres and cells of its breakpoints, both rising; between them it is linear.

    Attributes:
      metres: of the breakpoints.
      cells: how many cells lie before each of them; the first is 0.
    """

    metres: tuple[float, ...]
    cells: tuple[float, ...]

    @property
    def size(self) -> int:
        """Number of cells."""
        return int(self.cells[-1])

    def to_cells(self, metres: Array) -> Array:
        """Metres -> cells from the start; the centre of cell i is at i + 0.5. Clipped to the ends."""
        xp = jnp if isinstance(metres, jax.Array) else np
        return xp.interp(metres, xp.asarray(self.metres), xp.asarray(self.cells))

    def to_metres(self, cells: Array) -> Array:
        """The inverse of `to_cells`."""
        xp = jnp if isinstance(cells, jax.Array) else np
        return xp.interp(cells, xp.asarray(self.cells), xp.asarray(self.metres))

    def centres(self) -> np.ndarray:
        """Metres of the centres of the cells, float64 [size]."""
        return self.to_metres(np.arange(self.size) + 0.5)


def axes(config: TriplaneConfig) -> tuple[Axis, Axis, Axis]:
    """The x, y and z axes of a triplane, in the ego frame; of x only the half that is kept."""
    (x, y, z), inner = config.grid, config.inner_cells_xy
    flat = -config.range_xy, -config.inner_xy, config.inner_xy, config.range_xy
    middle = [0, (x - inner) // 2, (x + inner) // 2, x], [0, (y - inner) // 2, (y + inner) // 2, y]
    x_axis, y_axis = (Axis(flat, tuple(map(float, cells))) for cells in middle)
    if config.half_plane:
        x_axis = Axis((0.0, *flat[2:]), (0.0, inner / 2, x / 2))
    low, high = config.range_z
    z_axis = Axis((low, config.inner_top_z, high), (0.0, float(config.inner_cells_z), float(z)))
    return x_axis, y_axis, z_axis


def cell_centres(config: TriplaneConfig) -> np.ndarray:
    """Metres of all cells of a triplane, ego frame, float32 [X, Y, Z, 3]."""
    centres = [axis.centres() for axis in axes(config)]
    return np.stack(np.meshgrid(*centres, indexing="ij"), -1).astype(np.float32)
