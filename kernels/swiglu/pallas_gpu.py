"""The gated unit for GPUs, through Triton: a program owns one tile of the result."""

import functools
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt
import jax.numpy as jnp

from alpamayo_jax.kernels import tiles
from alpamayo_jax.kernels.swiglu.reference import gated, gated_gradients
from alpamayo_jax.kernels.tiles import product

Array = Any


def _blocks(rows: int, width: int, features: int, dtype: Any) -> tuple[int, int, int]:
    """Tile of the result, and how much of D a step takes: two accumulators fill the registers."""
    rows, width, features = (tiles.power_of_two(n) for n in (rows, width, features))
    most = (64, 64, 32) if jnp.dtype(dtype).itemsize == 4 else (128, 128, 64)
    return min(most[0], rows), min(most[1], features), min(most[2], width)


def _tile(ref, row, rows, column, columns):
    """A tile of a matrix; zeros outside, without masks where the shape leaves nothing outside."""
    at = ref.at[pl.ds(row, rows), pl.ds(column, columns)]
    if ref.shape[0] % rows == 0 and ref.shape[1] % columns == 0:
        return plt.load(at)
    inside = (row + jnp.arange(rows) < ref.shape[0])[:, None]
    inside = inside & (column + jnp.arange(columns) < ref.shape[1])[None, :]
    return plt.load(at, mask=inside, other=0)


def _store(ref, row, column, tile):
    rows, columns = tile.shape
    inside = (row + jnp.arange(rows) < ref.shape[0])[:, None]
    inside = inside & (column + jnp.arange(columns) < ref.shape[1])[None, :]
    at = ref.at[pl.ds(row, rows), pl.ds(column, columns)]
    plt.store(at, tile.astype(ref.dtype), mask=inside)


def _products(x_ref, gate_ref, up_ref, blocks):
    """Both products of this program's tile, float32, and where the tile stands."""
    block_m, block_f, block_d = blocks
    row, column = pl.program_id(0) * block_m, pl.program_id(1) * block_f

    def body(step, sums):
        start = step * block_d
        x = _tile(x_ref, row, block_m, start, block_d)
        return tuple(
            so_far + product(x, _tile(ref, start, block_d, column, block_f))
            for so_far, ref in zip(sums, (gate_ref, up_ref))
        )

    zeros = jnp.zeros((block_m, block_f), jnp.float32)
    steps = pl.cdiv(x_ref.shape[1], block_d)
    return *jax.lax.fori_loop(0, steps, body, (zeros, zeros)), row, column


def _forward_kernel(x_ref, gate_ref, up_ref, out_ref, *, blocks):
    gate, up, row, column = _products(x_ref, gate_ref, up_ref, blocks)
    _store(out_ref, row, column, gated(gate, up))


def _backward_kernel(x_ref, gate_ref, up_ref, d_out_ref, d_gate_ref, d_up_ref, *, blocks):
    gate, up, row, column = _products(x_ref, gate_ref, up_ref, blocks)
    d_out = _tile(d_out_ref, row, blocks[0], column, blocks[1]).astype(jnp.float32)
    for ref, tile in zip((d_gate_ref, d_up_ref), gated_gradients(gate, up, d_out)):
        _store(ref, row, column, tile)


def _call(kernel, name, x, gate, up, *more, outputs, interpret):
    rows, features = x.shape[0], gate.shape[1]
    blocks = _blocks(*x.shape, features, x.dtype)
    inputs = (x, gate, up, *more)
    whole = lambda a: pl.BlockSpec(a.shape, lambda m, f: (0, 0))  # noqa: E731
    shape = jax.ShapeDtypeStruct((rows, features), x.dtype)
    return pl.pallas_call(
        functools.partial(kernel, blocks=blocks),
        # Programs that run together share a column of the weights, which are the larger operand.
        grid=(pl.cdiv(rows, blocks[0]), pl.cdiv(features, blocks[1])),
        in_specs=[whole(a) for a in inputs],
        out_specs=[whole(shape)] * outputs,
        out_shape=[shape] * outputs,
        compiler_params=plt.CompilerParams(num_warps=8 if blocks[0] >= 128 else 4, num_stages=2),
        interpret=interpret,
        name=name,
    )(*inputs)


def forward(x: Array, gate: Array, up: Array, interpret: bool) -> Array:
    """silu(x gate) * (x up), [M, F], of x [M, D]."""
    return _call(_forward_kernel, "swiglu", x, gate, up, outputs=1, interpret=interpret)[0]


def backward(
    x: Array, gate: Array, up: Array, d_out: Array, interpret: bool
) -> tuple[Array, Array]:
    """Gradients [M, F] of the products x gate and x up."""
    return tuple(
        _call(
            _backward_kernel, "swiglu_gradient", x, gate, up, d_out, outputs=2, interpret=interpret
        )
    )
