"""RMS normalisation for GPUs, through Triton: a program takes some rows of one head."""

import functools
from typing import Any, Sequence

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt
import jax.numpy as jnp

from alpamayo_jax.kernels import tiles
from alpamayo_jax.kernels.rms_norm.reference import gradient_tile, normed_tile
from alpamayo_jax.kernels.tiles import Columns, load_rows, load_vector

Array = Any
_VALUES = 8192  # of a tile


def _layout(rows: int, width: int, tables: Sequence[Array]) -> tuple[tuple[Columns, ...], int]:
    """The parts of a row, and how many rows a program takes."""
    if tables:
        parts = tiles.halves_of(width)
    else:
        parts = (Columns(0, width, tiles.power_of_two(width)),)
    most = max(1, _VALUES // sum(part.size for part in parts))
    return parts, min(most, tiles.power_of_two(rows))


def _scales(ref, parts, dtype):
    zero = 0 * pl.program_id(0)
    return [
        load_vector(ref, zero + part.start, part.size, part.start + part.width).astype(dtype)
        for part in parts
    ]


def _forward_kernel(*refs, parts, block, rows, eps, add, dtype):
    x_ref, *refs = refs
    residual_ref = refs.pop(0) if add else None
    scale_ref, *table_refs, out_ref = refs[: -1 if add else None]
    start = pl.program_id(0) * block
    width = sum(part.width for part in parts)
    load = lambda ref: [load_rows(ref, start, block, rows, part) for part in parts]  # noqa: E731
    x = load(x_ref)
    if add:
        # The sum is rounded as it is stored, so that the way back sees the same numbers.
        x = [(a.astype(dtype) + b.astype(dtype)) for a, b in zip(x, load(residual_ref))]
        for part, value in zip(parts, x):
            tiles.store_rows(refs[-1], start, block, rows, part, value)
    tables = [load_rows(ref, start, block, rows, parts[0]) for ref in table_refs]
    x = [part.astype(jnp.float32) for part in x]
    out = normed_tile(x, _scales(scale_ref, parts, dtype), tables, eps, width, dtype)
    for part, value in zip(parts, out):
        tiles.store_rows(out_ref, start, block, rows, part, value)


def _backward_kernel(*refs, parts, block, rows, eps, add):
    x_ref, scale_ref, d_out_ref, *refs = refs
    d_sum_ref = refs.pop(0) if add else None
    *table_refs, d_x_ref, d_scale_ref = refs
    start = pl.program_id(0) * block
    width = sum(part.width for part in parts)

    def load(ref):
        return [load_rows(ref, start, block, rows, part).astype(jnp.float32) for part in parts]

    tables = [load_rows(ref, start, block, rows, parts[0]) for ref in table_refs]
    scales = _scales(scale_ref, parts, x_ref.dtype)
    d_x, d_scale = gradient_tile(load(x_ref), scales, tables, load(d_out_ref), eps, width)
    if add:
        d_x = [a + b for a, b in zip(d_x, load(d_sum_ref))]
    for part, value, row in zip(parts, d_x, d_scale):
        tiles.store_rows(d_x_ref, start, block, rows, part, value)
        column = 0 * start + part.start
        tiles.store_vector(d_scale_ref, column, part.size, part.start + part.width, row.sum(axis=0))


def _specs(rows, width, tables):
    head = pl.BlockSpec((rows, None, width), lambda i, n: (0, n, 0))
    scale = pl.BlockSpec((width,), lambda i, n: (0,))
    return head, scale, [pl.BlockSpec((rows, width // 2), lambda i, n: (0, 0))] * len(tables)


def forward(
    x: Array, residual: Array | None, scale: Array, tables: Sequence[Array], eps: float,
    interpret: bool,
) -> tuple[Array, Array | None]:  # fmt: skip
    """The norm of x [rows, heads, D] (+ residual), and the sum or None."""
    rows, heads, width = x.shape
    parts, block = _layout(rows, width, tables)
    add = residual is not None
    dtype = jnp.result_type(x, residual) if add else x.dtype
    head, scale_spec, table_specs = _specs(rows, width, tables)
    shape = jax.ShapeDtypeStruct(x.shape, dtype)
    out = pl.pallas_call(
        functools.partial(
            _forward_kernel, parts=parts, block=block, rows=rows, eps=eps, add=add, dtype=dtype
        ),
        grid=(pl.cdiv(rows, block), heads),
        in_specs=[*[head] * (1 + add), scale_spec, *table_specs],
        out_specs=[head] * (1 + add),
        out_shape=[shape] * (1 + add),
        compiler_params=plt.CompilerParams(num_warps=4, num_stages=1),
        interpret=interpret,
        name="rms_norm",
    )(x, *([residual] if add else []), scale, *tables)
    return out[0], out[1] if add else None


def backward(
    x: Array, scale: Array, tables: Sequence[Array], d_out: Array, d_sum: Array | None, eps: float,
    interpret: bool,
) -> tuple[Array, Array]:  # fmt: skip
    """Gradients of x (what was normalised, [rows, heads, D]) and of the scale, float32 [D]."""
    rows, heads, width = x.shape
    parts, block = _layout(rows, width, tables)
    add = d_sum is not None
    blocks = pl.cdiv(rows, block)
    head, scale_spec, table_specs = _specs(rows, width, tables)
    d_x, d_scale = pl.pallas_call(
        functools.partial(
            _backward_kernel, parts=parts, block=block, rows=rows, eps=eps, add=add
        ),
        grid=(blocks, heads),
        in_specs=[head, scale_spec, *[head] * (1 + add), *table_specs],
        out_specs=[head, pl.BlockSpec((None, None, width), lambda i, n: (i, n, 0))],
        out_shape=[
            jax.ShapeDtypeStruct(x.shape, x.dtype),
            jax.ShapeDtypeStruct((blocks, heads, width), jnp.float32),
        ],
        compiler_params=plt.CompilerParams(num_warps=4, num_stages=1),
        interpret=interpret,
        name="rms_norm_gradient",
    )(x, scale, d_out, *([d_sum] if add else []), *tables)
    return d_x, d_scale.sum((0, 1))
