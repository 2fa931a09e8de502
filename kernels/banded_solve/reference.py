"""Cholesky factor and solution of symmetric positive definite band matrices, in plain XLA.

A matrix of bandwidth w is stored by rows of its lower band, `band[..., i, d] = A[i, i - d]` for
d = 0 .. w; entries with i < d lie outside of it and are ignored. Factor and solve cost O(n w^2) and
compile to scans over rows, whatever n and the batch.
"""

from typing import Any, Callable

import chex
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

Array = Any


def _over_rows(step: Callable, start: Any, rows: Any, *, reverse: bool, unroll: bool) -> Any:
    """Stacked results of `lax.scan`; with `unroll` the program has no loop."""
    if not unroll:
        return lax.scan(step, start, rows, reverse=reverse)[1]
    count = jax.tree.leaves(rows)[0].shape[0]
    carry, results = start, [None] * count
    for i in reversed(range(count)) if reverse else range(count):
        carry, results[i] = step(carry, jax.tree.map(lambda a: a[i], rows))
    return jnp.stack(results)


def cholesky(band: Array, *, unroll: bool = False) -> Array:
    """Lower Cholesky factor, in the layout of `band` [..., n, w + 1].

    Where the matrix is not positive definite, the factor is NaN from the failing row on. `unroll`:
    no loop over rows, for exporters that take none.
    """
    n, width = band.shape[-2:]
    inside = np.arange(n)[:, None] >= np.arange(width)
    rows = jnp.moveaxis(jnp.where(inside, band, 0), -2, 0)  # [n, ..., w + 1]
    # Rows above the first one act as rows of the identity.
    identity = (np.arange(width) == 0).astype(band.dtype)
    before = jnp.broadcast_to(identity, band.shape[:-2] + (width,))

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

    start = (before,) * (width - 1)
    factor = _over_rows(factor_row, start, rows, reverse=False, unroll=unroll)
    return jnp.moveaxis(factor, 0, -2)


def cholesky_solve(factor: Array, rhs: Array, *, unroll: bool = False) -> Array:
    """Solves L L^T x = rhs for x [..., n].

    Args:
      factor: L of `cholesky`, [..., n, w + 1], or [n, w + 1] for one matrix and many `rhs`.
      rhs: [..., n].
      unroll: no loop over rows.
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
    given = (rows, jnp.moveaxis(rhs, -1, 0))
    forward = _over_rows(substitute, start, given, reverse=False, unroll=unroll)
    solution = _over_rows(substitute, start, (columns, forward), reverse=True, unroll=unroll)
    return jnp.moveaxis(solution, 0, -1)


def solve_reference(band: Array, rhs: Array) -> tuple[Array, Array]:
    """The solution [..., n] and the factor in the shape of the band; shapes as in `cholesky_solve`."""
    factor = cholesky(band)
    return cholesky_solve(factor, rhs), factor
