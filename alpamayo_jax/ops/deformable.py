"""Deformable attention: a query reads an image at a few places around where it projects.

Letters: M images, N queries, P image tokens, H heads, K points per head, D width of a head. Images of
different sizes share one program; `kernels.deformable_sampling` does the reading.
"""

from typing import Sequence

import chex
import jax.numpy as jnp

from alpamayo_jax.kernels.deformable_sampling import deformable_sampling, hats
from alpamayo_jax.types import Array


def token_places(uv: Array, grid: Array) -> tuple[Array, Array, Array]:
    """Places in an image as places among its tokens.

    Tokens are at the centres of the cells of a grid, row by row. Between the outermost centres and
    the border the border's token counts.

    Args:
      uv: float [..., 2], fractions of the image's width and height.
      grid: int [..., 2] with or without the axes of uv, rows and columns of tokens; (0, 0) for an
        absent image.

    Returns:
      Columns and rows from the centre of the first token, [...], and whether uv is inside, bool.
    """
    chex.assert_axis_dimension(uv, -1, 2)
    size = grid[..., ::-1].astype(uv.dtype)
    inside = ((uv >= 0) & (uv <= 1)).all(-1) & (grid[..., 0] > 0)
    at = jnp.clip(uv * size - 0.5, 0.0, jnp.maximum(size - 1, 0))
    return at[..., 0], at[..., 1], inside


def bilinear_weights(uv: Array, grid: Array, num_tokens: int) -> Array:
    """How much each token of an image counts at a place in it.

    Args:
      uv: float [..., 2], fractions of the image's width and height.
      grid: int [2], rows and columns of tokens; (0, 0) for an absent image.
      num_tokens: P, at least rows x columns; the rest is padding.

    Returns:
      float [..., P]; sums to 1 inside the image, else 0.
    """
    x, y, inside = token_places(uv, grid)
    weights = hats(jnp.maximum(grid[1], 1), x, y, num_tokens)
    return jnp.where(inside[..., None], weights, 0.0)


def deformable_read(
    values: Array,
    grid: Array,
    reference: Array,
    offsets: Array,
    weights: Array,
    *,
    implementation: str | Sequence[str] = "auto",
) -> Array:
    """Reads M images, each for N queries.

    Args:
      values: [M, P, H, D].
      grid: int [M, 2], rows and columns of an image's tokens.
      reference: [M, N, 2], where the queries project, fractions of width and height.
      offsets: [M, N, H, K, 2] from there, in tokens (x to the right, y down).
      weights: [M, N, H, K] of the points.
      implementation: see `kernels.deformable_sampling`.

    Returns:
      [M, N, H, D]: the weighted sum over the points, where outside of an image is nothing.
    """
    chex.assert_rank([values, grid, reference, offsets, weights], [4, 2, 3, 5, 4])
    grid = grid[:, None, None, None]
    size = jnp.maximum(grid[..., ::-1], 1).astype(offsets.dtype)
    x, y, inside = token_places(reference[:, :, None, None] + offsets / size, grid)
    columns = jnp.maximum(grid[:, 0, 0, 0, 1], 1)
    weights = jnp.where(inside, weights, 0.0)
    return deformable_sampling(values, columns, x, y, weights, implementation=implementation)
