"""Symmetric positive definite band matrices: Cholesky factor, solve, difference penalties.

A matrix of bandwidth w is stored by rows of its lower band, `band[..., i, d] = A[i, i - d]` for
d = 0 .. w. Entries with i < d lie outside the matrix and are ignored, so `band[..., k:, :]` is the
matrix without its first k unknowns. Factor and solve cost O(n w^2) and compile to scans over rows,
whatever n and the batch.
"""

import math
from typing import Sequence

import jax.numpy as jnp
from jax import lax
import numpy as np

from alpamayo_jax.kernels.banded_solve import banded_solve, cholesky, cholesky_solve
from alpamayo_jax.types import Array

RIDGE_GROWTH = 10.0
MAX_RETRIES = 10


def difference_matrix(n: int, order: int) -> np.ndarray:
    """Dense finite differences of `order` >= 1 on n samples, float64 [max(n - order, 0), n]."""
    if order < 1:
        raise ValueError(f"difference order must be at least 1, got {order}")
    return np.diff(np.eye(n), n=order, axis=0)


def difference_penalty(n: int, order: int, weight: float = 1.0) -> np.ndarray:
    """Band of weight * D^T D, float64 [n, order + 1], for differences D of `order` on n samples."""
    if order < 1:
        raise ValueError(f"difference order must be at least 1, got {order}")
    # Row r of D is the stencil at columns r .. r + order, so A[i, i - d] sums products of stencil
    # entries d apart over the rows that cover both columns.
    stencil = [(-1.0) ** (order - k) * math.comb(order, k) for k in range(order + 1)]
    band = np.zeros((n, order + 1))
    for d in range(order + 1):
        for k in range(d, order + 1):
            rows = np.arange(max(n - order, 0))
            band[rows + k, d] += stencil[k] * stencil[k - d]
    return weight * band


def to_dense(band: Array) -> np.ndarray:
    """The full symmetric matrix [..., n, n] of `band` [..., n, w + 1], on the host, for looking."""
    band = np.asarray(band)
    n, width = band.shape[-2:]
    dense = np.zeros(band.shape[:-1] + (n,), band.dtype)
    for d in range(min(width, n)):
        rows = np.arange(d, n)
        dense[..., rows, rows - d] = dense[..., rows - d, rows] = band[..., d:, d]
    return dense


def add(first: Array, second: Array) -> Array:
    """Sum of two bands of the same n and possibly different bandwidths."""
    width = max(first.shape[-1], second.shape[-1])

    def widen(band: Array) -> Array:
        pad = [(0, 0)] * (band.ndim - 1) + [(0, width - band.shape[-1])]
        return jnp.pad(band, pad)

    if first.shape[-2] != second.shape[-2]:
        raise ValueError(f"bands of {first.shape[-2]} and {second.shape[-2]} rows cannot be added")
    return widen(first) + widen(second)


def add_ridge(band: Array, ridge: Array | float) -> Array:
    """A + ridge I; `ridge` is a number or has the batch shape [...] of `band`."""
    band = jnp.asarray(band)
    ridge = jnp.asarray(ridge, band.dtype)[..., None, None]
    # No scatter: exporters turn that into what their targets reject.
    return jnp.concatenate([band[..., :1] + ridge, band[..., 1:]], axis=-1)


def solve(
    band: Array, rhs: Array, *, unroll: bool = False, implementation: str | Sequence[str] = "auto"
) -> Array:
    """Solves A x = rhs for x [..., n]; NaN where A is not positive definite.

    `band` is [..., n, w + 1], or [n, w + 1] for one matrix and many `rhs` [..., n]. `unroll`: no
    loop over rows, for exporters that take none. `implementation`: see `kernels.banded_solve`.
    """
    if unroll:
        return cholesky_solve(cholesky(band, unroll=True), rhs, unroll=True)
    return banded_solve(band, rhs, implementation=implementation)


def sufficient_ridge(band: Array, ridge: float) -> Array:
    """The first of ridge, 10 ridge, 100 ridge ... for which A + ridge I can be factored.

    Args:
      band: [..., n, w + 1].
      ridge: the value tried first, > 0.

    Returns:
      Ridge of every matrix of the batch, [...]; after `MAX_RETRIES` failures the last one tried.
      No gradient flows through the choice.
    """
    band = lax.stop_gradient(band)

    def attempt(state):
        ridges, failed, attempts = state
        ridges = jnp.where(failed & (attempts > 0), ridges * RIDGE_GROWTH, ridges)
        factor = cholesky(add_ridge(band, ridges))
        return ridges, ~jnp.isfinite(factor).all(axis=(-2, -1)), attempts + 1

    def unfinished(state):
        _, failed, attempts = state
        return failed.any() & (attempts <= MAX_RETRIES)

    ridges = jnp.full(band.shape[:-2], ridge, band.dtype)
    untried = jnp.full(band.shape[:-2], True)
    ridges, _, _ = lax.while_loop(unfinished, attempt, (ridges, untried, 0))
    return ridges


def solve_ridge(band: Array, rhs: Array, ridge: float) -> Array:
    """Solves (A + ridge I) x = rhs, with 10 times the ridge for each failed factorisation.

    Each matrix of the batch gets its own ridge, so a result does not depend on its neighbours
    (the released model raises the ridge of the whole batch; one trajectory alone is the same).
    """
    return solve(add_ridge(band, sufficient_ridge(band, ridge)), rhs)
