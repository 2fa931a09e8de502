"""Cholesky factor and solution of symmetric positive definite band matrices, in plain XLA.

A matrix of bandwidth w is stored by rows of its lower band, `band[..., i, d] = A[i, i - d]` for
d = 0 .. w; entries with i < d lie outside of it and are ignored. Scans over rows, whatever n is.
"""

from typing import Any

import chex
from jax import lax
import jax.numpy as jnp
import numpy as np

Array = Any


def cholesky(band: Array) -> Array:
    """Lower Cholesky factor, in the layout of `band` [..., n, w + 1].

    Where the matrix is not positive definite, the factor is NaN from the failing row on.
    """
    n, width = band.shape[-2:]
    inside = np.arange(n)[:, None] >= np.arange(width)
    rows = jnp.moveaxis(jnp.where(inside, band, 0), -2, 0)  # [n, ..., w + 1]
    # Rows above the first one act as rows of the identity.
    before = jnp.zeros(band.shape[:-2] + (width,), band.dtype).at[..., 0].set(1)

    def factor_row(previous: tuple[Array, ...], row: Array):
        entries = [None] * width
        for d in range(width - 1, 0, -1):
            above = previous[d - 1]  # row i - d of the factor
            total = row[..., d]
            for e in range(d + 1, width):
                total = total - entries[e] * above[..., e - d]
            entries[d] = total / above[..., 0]
        pivot = row[..., 0]
        for entry in entries[1:]:
            pivot = pivot - entry * entry
        entries[0] = jnp.sqrt(jnp.where(pivot > 0, pivot, jnp.nan))
        factored = jnp.stack(entries, axis=-1)
        return (factored, *previous)[: width - 1], factored

    _, factor = lax.scan(factor_row, (before,) * (width - 1), rows)
    return jnp.moveaxis(factor, 0, -2)


def cholesky_solve(factor: Array, rhs: Array) -> Array:
    """Solves L L^T x = rhs for x [..., n].

    Args:
      factor: L of `cholesky`, [..., n, w + 1], or [n, w + 1] for one matrix and many `rhs`.
      rhs: [..., n].
    """
    n, width = factor.shape[-2:]
    chex.assert_shape(rhs, (*factor.shape[:-2], n) if factor.ndim > 2 else (..., n))
    # beneath[..., i, d] = L[i + d, i]: the columns of L by rows, for the backward pass.
    beneath = jnp.stack(
        [
            jnp.concatenate(
                [factor[..., d:, d], jnp.zeros_like(factor[..., : min(d, n), d])], axis=-1
            )
            for d in range(width)
        ],
        axis=-1,
    )
    start = (jnp.zeros(rhs.shape[:-1], rhs.dtype),) * (width - 1)

    def substitute(known: tuple[Array, ...], inputs: tuple[Array, Array]):
        row, value = inputs
        for d, x in enumerate(known, start=1):
            value = value - row[..., d] * x
        value = value / row[..., 0]
        return (value, *known)[: width - 1], value

    rows, columns = jnp.moveaxis(factor, -2, 0), jnp.moveaxis(beneath, -2, 0)
    _, forward = lax.scan(substitute, start, (rows, jnp.moveaxis(rhs, -1, 0)))
    _, solution = lax.scan(substitute, start, (columns, forward), reverse=True)
    return jnp.moveaxis(solution, 0, -1)


def solve_reference(band: Array, rhs: Array) -> tuple[Array, Array]:
    """The solution [..., n] and the factor [..., n, w + 1]; shapes as in `cholesky_solve`."""
    factor = cholesky(band)
    return cholesky_solve(factor, rhs), factor
