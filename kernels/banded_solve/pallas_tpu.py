"""Band systems on TPUs: a lane per system, the whole of it in VMEM."""

from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from alpamayo_jax.kernels.banded_solve.pallas_gpu import (
    as_asked,
    factor_row,
    start_of_factor,
    systems,
)

Array = Any

_LANES = 128


def _kernel(band_ref, rhs_ref, solution_ref, factor_ref):
    n, width, _ = band_ref.shape
    # A loop's first state must lie in registers as its later ones do, which a constant does not: the
    # first row's entry left of the matrix is a zero from memory.
    zero = band_ref[pl.ds(0, 1), width - 1, :]

    def down(i, state):
        above, known = state
        entries = factor_row([band_ref[pl.ds(i, 1), d, :] for d in range(width)], above)
        value = rhs_ref[pl.ds(i, 1), :]
        for d, earlier in enumerate(known, start=1):
            value = value - entries[d] * earlier
        value = value / entries[0]
        for d, entry in enumerate(entries):
            factor_ref[pl.ds(i, 1), d, :] = entry
        solution_ref[pl.ds(i, 1), :] = value
        return [entries, *above][: width - 1], [value, *known][: width - 1]

    jax.lax.fori_loop(0, n, down, (start_of_factor(width, zero), [zero] * (width - 1)))

    def up(step, known):
        i = n - 1 - step
        value = solution_ref[pl.ds(i, 1), :]
        for d, later in enumerate(known, start=1):
            beneath = factor_ref[pl.ds(jnp.minimum(i + d, n - 1), 1), d, :]
            value = value - jnp.where(i + d < n, beneath, 0.0) * later
        value = value / factor_ref[pl.ds(i, 1), 0, :]
        solution_ref[pl.ds(i, 1), :] = value
        return [value, *known][: width - 1]

    jax.lax.fori_loop(0, n, up, [zero] * (width - 1))


def solve(band: Array, rhs: Array, *, interpret: bool) -> tuple[Array, Array]:
    """What `reference.solve_reference` computes."""
    bands, values = systems(band, rhs)
    (n, width, count), spare = bands.shape, -values.shape[-1] % _LANES
    bands = jnp.pad(bands, ((0, 0), (0, 0), (0, spare)))
    bands = bands.at[:, 0, count:].set(1.0)  # the identity: nothing in it becomes NaN
    values = jnp.pad(values, ((0, 0), (0, spare)))
    specs = [
        pl.BlockSpec((n, width, _LANES), lambda i: (0, 0, i)),
        pl.BlockSpec((n, _LANES), lambda i: (0, i)),
    ]
    solution, factor = pl.pallas_call(
        _kernel,
        out_shape=[
            jax.ShapeDtypeStruct(values.shape, jnp.float32),
            jax.ShapeDtypeStruct(bands.shape, jnp.float32),
        ],
        grid=(values.shape[-1] // _LANES,),
        in_specs=specs,
        out_specs=specs[::-1],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",)),
        interpret=interpret,
        name="banded_solve",
    )(bands, values)
    return as_asked(solution[:, :count], factor[..., :count], band.shape, rhs.shape)
