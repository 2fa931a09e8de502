"""Band systems on GPUs, in Pallas through Triton: a thread per system, one launch for all of it.

The rows of a system follow each other, so a program in XLA is three loops of tiny launches. Here a
thread walks down a system, factor and forward substitution at once with the last rows in registers,
and up again. Systems lie next to each other in memory, so threads read lines.
"""

import functools
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.kernels.dispatch import Unsupported

Array = Any

_SYSTEMS = 32  # of a program: one warp
LARGEST_WIDTH = 4  # diagonals whose last rows fit the registers


def factor_row(row: list[Array], above: list[list[Array]]) -> list[Array]:
    """A row of the Cholesky factor.

    Args:
      row: w + 1 entries A[i, i - d]; those left of the matrix are 0.
      above: the w rows of the factor before it, nearest first.
    """
    width = len(row)
    entries: list[Any] = [None] * width
    for d in range(width - 1, 0, -1):
        total = row[d]
        for e in range(d + 1, width):
            total = total - entries[e] * above[d - 1][e - d]
        entries[d] = total / above[d - 1][0]
    pivot = row[0]
    for entry in entries[1:]:
        pivot = pivot - entry * entry
    entries[0] = jnp.sqrt(jnp.where(pivot > 0, pivot, jnp.nan))
    return entries


def start_of_factor(width: int, zero: Array) -> list[list[Array]]:
    """What stands above the first row: rows of the identity."""
    return [[zero + 1.0] + [zero] * (width - 1) for _ in range(width - 1)]


def _kernel(band_ref, rhs_ref, solution_ref, factor_ref, *, barrier: bool):
    n, width, count = band_ref.shape
    first = pl.program_id(0) * _SYSTEMS
    here = pl.ds(first, _SYSTEMS)
    inside = first + jnp.arange(_SYSTEMS) < count
    # A masked load in the interpreter takes arrays, not numbers, as indices.
    spot = lambda *at: (*(jnp.int32(i) for i in at), here)  # noqa: E731
    load = lambda ref, *at, other: plt.load(ref.at[spot(*at)], mask=inside, other=other)  # noqa: E731
    store = lambda ref, *at, value: plt.store(ref.at[spot(*at)], value, mask=inside)  # noqa: E731
    zero = jnp.zeros(_SYSTEMS, jnp.float32)

    def down(i, state):
        above, known = state
        # A system behind the last one is the identity, so that nothing in it becomes NaN.
        row = [load(band_ref, i, d, other=float(d == 0)) for d in range(width)]
        entries = factor_row(row, above)
        value = load(rhs_ref, i, other=0.0)
        for d, earlier in enumerate(known, start=1):
            value = value - entries[d] * earlier
        value = value / entries[0]
        for d, entry in enumerate(entries):
            store(factor_ref, i, d, value=entry)
        store(solution_ref, i, value=value)
        return [entries, *above][: width - 1], [value, *known][: width - 1]

    jax.lax.fori_loop(0, n, down, (start_of_factor(width, zero), [zero] * (width - 1)))
    if barrier:  # the way up reads what the way down wrote; the interpreter does not know it
        plt.debug_barrier()

    def up(step, known):
        i = n - 1 - step
        value = load(solution_ref, i, other=0.0)
        for d, later in enumerate(known, start=1):
            # L[i + d, i]; below the last row there is nothing.
            beneath = load(factor_ref, jnp.minimum(i + d, n - 1), d, other=0.0)
            value = value - jnp.where(i + d < n, beneath, 0.0) * later
        value = value / load(factor_ref, i, 0, other=1.0)
        store(solution_ref, i, value=value)
        return [value, *known][: width - 1]

    jax.lax.fori_loop(0, n, up, [zero] * (width - 1))


def systems(band: Array, rhs: Array) -> tuple[Array, Array]:
    """The systems as [n, w + 1, C] and [n, C], C of them next to each other; zeros where i < d.

    Raises:
      Unsupported: a type or a width that the kernels do not know.
    """
    n, width = band.shape[-2:]
    if band.dtype != jnp.float32 or rhs.dtype != jnp.float32:
        raise Unsupported(f"band systems of {band.dtype} and {rhs.dtype}, not float32")
    if width > LARGEST_WIDTH:
        raise Unsupported(f"{width} diagonals are more than {LARGEST_WIDTH}")
    band = jnp.where(np.arange(n)[:, None] >= np.arange(width), band, 0.0)
    band = jnp.broadcast_to(band, (*rhs.shape, width)).reshape(-1, n, width)
    return jnp.moveaxis(band, 0, -1), jnp.moveaxis(rhs.reshape(-1, n), 0, -1)


def as_asked(
    solution: Array, factor: Array, band_shape: tuple[int, ...], rhs_shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """`systems` undone: solution [..., n], factor in the shape of the band."""
    solution = jnp.moveaxis(solution, -1, 0).reshape(rhs_shape)
    factor = jnp.moveaxis(factor, -1, 0)
    return solution, (factor[0] if len(band_shape) == 2 else factor.reshape(band_shape))


def solve(band: Array, rhs: Array, *, interpret: bool) -> tuple[Array, Array]:
    """What `reference.solve_reference` computes."""
    bands, values = systems(band, rhs)
    whole = lambda shape: pl.BlockSpec(shape, lambda i: (0,) * len(shape))  # noqa: E731
    solution, factor = pl.pallas_call(
        functools.partial(_kernel, barrier=not interpret),
        out_shape=[
            jax.ShapeDtypeStruct(values.shape, jnp.float32),
            jax.ShapeDtypeStruct(bands.shape, jnp.float32),
        ],
        grid=(pl.cdiv(values.shape[-1], _SYSTEMS),),
        in_specs=[whole(bands.shape), whole(values.shape)],
        out_specs=[whole(values.shape), whole(bands.shape)],
        compiler_params=plt.CompilerParams(num_warps=1, num_stages=1),
        interpret=interpret,
        name="banded_solve",
    )(bands, values)
    return as_asked(solution, factor, band.shape, rhs.shape)
