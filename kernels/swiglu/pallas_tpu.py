"""The gated unit for TPUs: tiles of the result, D innermost, two sums in scratch memory."""

from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from alpamayo_jax.kernels.swiglu.reference import gated, gated_gradients

Array = Any
_BLOCKS = (256, 512, 512)  # of rows, of F, of D


def _add_products(x_ref, gate_ref, up_ref, gate_sum, up_sum):
    step = pl.program_id(2)

    @pl.when(step == 0)
    def _start():
        gate_sum[...] = jnp.zeros_like(gate_sum)
        up_sum[...] = jnp.zeros_like(up_sum)

    x = x_ref[...]
    precision = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    for ref, total in ((gate_ref, gate_sum), (up_ref, up_sum)):
        total[...] += jnp.dot(
            x, ref[...], precision=precision, preferred_element_type=jnp.float32
        )
    return step == pl.num_programs(2) - 1


def _forward_kernel(x_ref, gate_ref, up_ref, out_ref, gate_sum, up_sum):
    last = _add_products(x_ref, gate_ref, up_ref, gate_sum, up_sum)

    @pl.when(last)
    def _end():
        out_ref[...] = gated(gate_sum[...], up_sum[...]).astype(out_ref.dtype)


def _backward_kernel(x_ref, gate_ref, up_ref, d_out_ref, d_gate_ref, d_up_ref, gate_sum, up_sum):
    last = _add_products(x_ref, gate_ref, up_ref, gate_sum, up_sum)

    @pl.when(last)
    def _end():
        d_out = d_out_ref[...].astype(jnp.float32)
        tiles = gated_gradients(gate_sum[...], up_sum[...], d_out)
        d_gate_ref[...], d_up_ref[...] = (tile.astype(d_gate_ref.dtype) for tile in tiles)


def _fit(size: int, block: int, unit: int) -> int:
    """The largest block, a multiple of `unit` where it can be, that divides the padded size."""
    whole = -(-size // unit) * unit
    return next(b for b in range(min(block, whole), 0, -unit) if whole % b == 0)


def _padded(x: Array, rows: int, columns: int) -> Array:
    """Padded to whole blocks; a copy only where they are not whole already."""
    return jnp.pad(x, ((0, -x.shape[0] % rows), (0, -x.shape[1] % columns)))


def _call(kernel, name, x, gate, up, *more, outputs, interpret):
    (rows, width), features = x.shape, gate.shape[1]
    block_m = _fit(rows, _BLOCKS[0], 16)
    block_f, block_d = _fit(features, _BLOCKS[1], 128), _fit(width, _BLOCKS[2], 128)
    x = _padded(x, block_m, block_d)
    gate, up = (_padded(a, block_d, block_f) for a in (gate, up))
    more = [_padded(a, block_m, block_f) for a in more]
    weight = pl.BlockSpec((block_d, block_f), lambda m, f, d: (d, f))
    result = pl.BlockSpec((block_m, block_f), lambda m, f, d: (m, f))
    out = pl.pallas_call(
        kernel,
        grid=(x.shape[0] // block_m, gate.shape[1] // block_f, x.shape[1] // block_d),
        in_specs=[
            pl.BlockSpec((block_m, block_d), lambda m, f, d: (m, d)),
            weight,
            weight,
            *[result] * len(more),
        ],
        out_specs=[result] * outputs,
        out_shape=[jax.ShapeDtypeStruct((x.shape[0], gate.shape[1]), x.dtype)] * outputs,
        scratch_shapes=[pltpu.VMEM((block_m, block_f), jnp.float32)] * 2,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary")
        ),
        interpret=interpret,
        name=name,
    )(x, gate, up, *more)
    return tuple(a[:rows, :features] for a in out)


def forward(x: Array, gate: Array, up: Array, interpret: bool) -> Array:
    """silu(x gate) * (x up), [M, F], of x [M, D]."""
    return _call(_forward_kernel, "swiglu", x, gate, up, outputs=1, interpret=interpret)[0]


def backward(
    x: Array, gate: Array, up: Array, d_out: Array, interpret: bool
) -> tuple[Array, Array]:
    """Gradients [M, F] of the products x gate and x up."""
    return _call(
        _backward_kernel, "swiglu_gradient", x, gate, up, d_out, outputs=2, interpret=interpret
    )
