"""Solutions of band systems, with the gradient of the solution rather than of the way to it."""

import functools
from typing import Any, Sequence

import jax
import jax.numpy as jnp

from alpamayo_jax.kernels import dispatch
from alpamayo_jax.kernels.banded_solve.reference import cholesky, cholesky_solve, solve_reference

Array = Any

__all__ = ["banded_solve", "cholesky", "cholesky_solve"]


def _gpu(*args, **kwargs):
    # Pallas takes long to import, and only who uses it should wait.
    from alpamayo_jax.kernels.banded_solve import pallas_gpu

    return pallas_gpu.solve(*args, **kwargs)


def _tpu(*args, **kwargs):
    from alpamayo_jax.kernels.banded_solve import pallas_tpu

    return pallas_tpu.solve(*args, **kwargs)


_CANDIDATES = {"xla": solve_reference, "pallas": dispatch.pallas(gpu=_gpu, tpu=_tpu)}


def banded_solve(
    band: Array,
    rhs: Array,
    *,
    implementation: str | Sequence[str] = "auto",
    interpret: bool = False,
) -> Array:
    """Solves A x = rhs for symmetric positive definite band matrices A.

    Its gradient is that of the solution: with z solving A z = g, the right-hand side's is z and the
    matrix's is -z x^T within the band. It reuses the factor.

    Args:
      band: float32 [..., n, w + 1], `band[..., i, d] = A[i, i - d]`; entries with i < d are ignored.
        Or [n, w + 1]: one matrix for many right-hand sides.
      rhs: float32 [..., n].
      implementation, interpret: see `dispatch.run`.

    Returns:
      x [..., n]; NaN where A is not positive definite.
    """
    return _solve(jnp.asarray(band), jnp.asarray(rhs), implementation, interpret)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _solve(band, rhs, implementation, interpret):
    return _forward(band, rhs, implementation, interpret)[0]


def _forward(band, rhs, implementation, interpret):
    solution, factor = dispatch.run(
        "banded_solve", implementation, _CANDIDATES, band, rhs, interpret=interpret
    )
    return solution, (factor, solution)


def _backward(implementation, interpret, kept, cotangent):
    del implementation, interpret
    factor, solution = kept
    z = cholesky_solve(factor, cotangent)
    n, width = factor.shape[-2:]
    slope = []
    for d in range(width):
        kept_rows = max(n - d, 0)
        pairs = z[..., d:] * solution[..., :kept_rows]
        pairs += z[..., :kept_rows] * solution[..., d:] if d else 0.0
        slope.append(jnp.pad(-pairs, [(0, 0)] * (z.ndim - 1) + [(min(d, n), 0)]))
    slope = jnp.stack(slope, axis=-1)
    if factor.ndim == 2:
        slope = slope.reshape(-1, n, width).sum(0)
    return slope, z


_solve.defvjp(_forward, _backward)
