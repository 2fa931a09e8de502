"""The narrow product on TPUs: the values stream through VMEM, accumulated over a sequential grid."""

import functools
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from alpamayo_jax.kernels.quantised_matvec.pallas_gpu import as_rows

Array = Any

_COLUMNS = 512
_DEPTH = 1024


def _kernel(x_ref, values_ref, scale_ref, out_ref, total_ref, *, depth: int):
    step = pl.program_id(1)

    @pl.when(step == 0)
    def _():
        total_ref[...] = jnp.zeros_like(total_ref)

    rows, values = x_ref[...], values_ref[...].astype(jnp.float32)
    if depth % _DEPTH:
        # What a last block reads behind the end can be anything, also NaN.
        inside = step * _DEPTH + jax.lax.broadcasted_iota(jnp.int32, values.shape, 0) < depth
        values = jnp.where(inside, values, 0.0)
        inside = step * _DEPTH + jax.lax.broadcasted_iota(jnp.int32, rows.shape, 1) < depth
        rows = jnp.where(inside, rows.astype(jnp.float32), 0.0).astype(rows.dtype)
    total_ref[...] += jnp.dot(
        rows,
        values.astype(rows.dtype),
        precision=jax.lax.Precision.HIGHEST if rows.dtype == jnp.float32 else None,
        preferred_element_type=jnp.float32,
    )

    @pl.when(step == pl.num_programs(1) - 1)
    def _():
        out_ref[...] = (total_ref[...] * scale_ref[...]).astype(out_ref.dtype)


def matvec(x: Array, values: Array, scale: Array, *, interpret: bool) -> Array:
    """What `quantised_matvec` computes, see there."""
    rows = as_rows(x, values)
    depth, width = values.shape
    # The vector units have no float16.
    rows = rows.astype(jnp.float32) if x.dtype == jnp.float16 else rows
    product = pl.pallas_call(
        functools.partial(_kernel, depth=depth),
        out_shape=jax.ShapeDtypeStruct((rows.shape[0], width), rows.dtype),
        grid=(pl.cdiv(width, _COLUMNS), pl.cdiv(depth, _DEPTH)),
        in_specs=[
            pl.BlockSpec((rows.shape[0], _DEPTH), lambda i, j: (0, j)),
            pl.BlockSpec((_DEPTH, _COLUMNS), lambda i, j: (j, i)),
            pl.BlockSpec((1, _COLUMNS), lambda i, j: (0, i)),
        ],
        out_specs=pl.BlockSpec((rows.shape[0], _COLUMNS), lambda i, j: (0, i)),
        scratch_shapes=[pltpu.VMEM((rows.shape[0], _COLUMNS), jnp.float32)],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        interpret=interpret,
        name="quantised_matvec",
    )(rows, values, scale[None])
    return product.astype(x.dtype)[: x.size // depth].reshape(*x.shape[:-1], width)
