"""Deformable attention: a query reads an image at a few places around where it projects.

Letters: N queries, P image tokens, H heads, K points per head, D width of a head. Reading is a
product with bilinear weights over all tokens of an image: an image has few of them, a product
has a fast gradient on every device, and images of different sizes share one program.
"""

import chex
import jax
import jax.numpy as jnp

from alpamayo_jax.types import Array


def bilinear_weights(uv: Array, grid: Array, num_tokens: int) -> Array:
    """How much each token of an image counts at a place in it.

    Tokens are at the centres of the cells of a grid, row by row. Between the outermost centres and
    the border the border's token counts; outside of the image nothing does.

    Args:
      uv: float [..., 2], fractions of the image's width and height.
      grid: int [2], rows and columns of tokens; (0, 0) for an absent image.
      num_tokens: P, at least rows x columns; the rest is padding.

    Returns:
      float [..., P]; sums to 1 inside the image, else 0.
    """
    chex.assert_axis_dimension(uv, -1, 2)
    rows, columns = grid[0], grid[1]
    size = jnp.stack([columns, rows]).astype(uv.dtype)
    inside = ((uv >= 0) & (uv <= 1)).all(-1) & (rows > 0)
    at = jnp.clip(uv * size - 0.5, 0.0, jnp.maximum(size - 1, 0))
    token = jnp.arange(num_tokens)
    row, column = token // jnp.maximum(columns, 1), token % jnp.maximum(columns, 1)
    hat = lambda where, centre: jnp.maximum(1.0 - jnp.abs(where[..., None] - centre), 0.0)  # noqa: E731
    weights = hat(at[..., 0], column) * hat(at[..., 1], row)
    return jnp.where(inside[..., None] & (token < rows * columns), weights, 0.0)


def deformable_read(
    values: Array, grid: Array, reference: Array, offsets: Array, weights: Array
) -> Array:
    """Reads an image for N queries.

    Args:
      values: [P, H, D], of one image.
      grid: int [2], rows and columns of its tokens.
      reference: [N, 2], where the queries project, fractions of width and height.
      offsets: [N, H, K, 2] from there, in tokens (x to the right, y down).
      weights: [N, H, K] of the points.

    Returns:
      [N, H, D]: the weighted sum over the points.
    """
    chex.assert_rank([values, reference, offsets, weights], [3, 2, 4, 3])
    size = jnp.maximum(jnp.stack([grid[1], grid[0]]), 1).astype(offsets.dtype)
    uv = reference[:, None, None] + offsets / size
    at = bilinear_weights(uv, grid, values.shape[0])
    taken = jnp.einsum("nhk,nhkp->nhp", weights, at)
    precision = jax.lax.Precision.HIGHEST if values.dtype == jnp.float32 else None
    return jnp.einsum("nhp,phd->nhd", taken.astype(values.dtype), values, precision=precision)
