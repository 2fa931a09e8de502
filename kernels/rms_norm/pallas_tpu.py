"""RMS normalisation for TPUs: blocks of rows of one head, one after another."""

import functools
from typing import Any, Sequence

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from alpamayo_jax.kernels.dispatch import Unsupported
from alpamayo_jax.kernels.rms_norm.reference import gradient_tile, normed_tile

Array = Any
_VALUES = 128 * 1024  # of a block


def _block(rows: int, width: int) -> int:
    """Rows of a block: a multiple of the tiles of 16-bit numbers, or all of them."""
    return min(rows, max(16, _VALUES // width // 16 * 16))


def _parts(x: Array, tables: Sequence[Array]) -> list[Array]:
    half = x.shape[-1] // 2
    return [x[..., :half], x[..., half:]] if tables else [x]


def _whole(parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


def _scales(scale_ref, tables, dtype):
    return [part[0] for part in _parts(scale_ref[...].astype(dtype), tables)]


def _forward_kernel(*refs, eps, add, dtype):
    x_ref, *refs = refs
    residual_ref = refs.pop(0) if add else None
    total_ref = refs.pop() if add else None
    scale_ref, *table_refs, out_ref = refs
    tables = [ref[...] for ref in table_refs]
    x = x_ref[...].astype(jnp.float32)
    if add:
        total = (x + residual_ref[...].astype(jnp.float32)).astype(dtype)
        total_ref[...] = total
        x = total.astype(jnp.float32)
    scales = _scales(scale_ref, tables, dtype)
    out_ref[...] = _whole(normed_tile(_parts(x, tables), scales, tables, eps, x.shape[-1], dtype))


def _backward_kernel(*refs, eps, add, rows):
    x_ref, scale_ref, d_out_ref, *refs = refs
    d_sum_ref = refs.pop(0) if add else None
    *table_refs, d_x_ref, d_scale_ref = refs
    head, index = pl.program_id(0), pl.program_id(1)
    block, width = x_ref.shape
    # The last block may reach past the end, where anything may stand.
    real = index * block + jax.lax.broadcasted_iota(jnp.int32, (block, 1), 0) < rows
    tables = [ref[...] for ref in table_refs]
    x = jnp.where(real, x_ref[...].astype(jnp.float32), 0)
    d_out = jnp.where(real, d_out_ref[...].astype(jnp.float32), 0)
    tables = [jnp.where(real, table, 0) for table in tables]
    scales = _scales(scale_ref, tables, x_ref.dtype)
    d_x, d_scale = gradient_tile(
        _parts(x, tables), scales, tables, _parts(d_out, tables), eps, width
    )
    d_x = _whole(d_x)
    if add:
        d_x = d_x + d_sum_ref[...].astype(jnp.float32)
    d_x_ref[...] = d_x.astype(d_x_ref.dtype)

    @pl.when((head == 0) & (index == 0))
    def _start():
        d_scale_ref[...] = jnp.zeros_like(d_scale_ref)

    d_scale_ref[...] += _whole(d_scale).sum(axis=0, keepdims=True)


def _flat(x: Array | None) -> Array | None:
    """Heads side by side: a block of one of them is a run of whole lanes."""
    return None if x is None else x.reshape(x.shape[0], -1)


def _specs(block, width, tables):
    head = pl.BlockSpec((block, width), lambda n, i: (i, n))
    row = pl.BlockSpec((1, width), lambda n, i: (0, 0))
    return head, row, [pl.BlockSpec((block, width // 2), lambda n, i: (i, 0))] * len(tables)


def _check(heads: int, width: int, interpret: bool) -> None:
    if heads > 1 and width % 128 and not interpret:
        raise Unsupported(f"heads of {width}: a TPU's lanes come in 128s")


def forward(
    x: Array, residual: Array | None, scale: Array, tables: Sequence[Array], eps: float,
    interpret: bool,
) -> tuple[Array, Array | None]:  # fmt: skip
    """The norm of x [rows, heads, D] (+ residual), and the sum or None."""
    rows, heads, width = x.shape
    _check(heads, width, interpret)
    add = residual is not None
    dtype = jnp.result_type(x, residual) if add else x.dtype
    block = _block(rows, width)
    head, row, table_specs = _specs(block, width, tables)
    out = pl.pallas_call(
        functools.partial(_forward_kernel, eps=eps, add=add, dtype=dtype),
        grid=(heads, pl.cdiv(rows, block)),
        in_specs=[*[head] * (1 + add), row, *table_specs],
        out_specs=[head] * (1 + add),
        out_shape=[jax.ShapeDtypeStruct((rows, heads * width), dtype)] * (1 + add),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        interpret=interpret,
        name="rms_norm",
    )(_flat(x), *([_flat(residual)] if add else []), scale[None], *tables)
    return out[0].reshape(x.shape), out[1].reshape(x.shape) if add else None


def backward(
    x: Array, scale: Array, tables: Sequence[Array], d_out: Array, d_sum: Array | None, eps: float,
    interpret: bool,
) -> tuple[Array, Array]:  # fmt: skip
    """Gradients of x (what was normalised, [rows, heads, D]) and of the scale, float32 [D]."""
    rows, heads, width = x.shape
    _check(heads, width, interpret)
    add = d_sum is not None
    block = _block(rows, 2 * width)
    head, row, table_specs = _specs(block, width, tables)
    d_x, d_scale = pl.pallas_call(
        functools.partial(_backward_kernel, eps=eps, add=add, rows=rows),
        grid=(heads, pl.cdiv(rows, block)),
        in_specs=[head, row, *[head] * (1 + add), *table_specs],
        out_specs=[head, row],
        out_shape=[
            jax.ShapeDtypeStruct((rows, heads * width), x.dtype),
            jax.ShapeDtypeStruct((1, width), jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("arbitrary", "arbitrary")),
        interpret=interpret,
        name="rms_norm_gradient",
    )(_flat(x), scale[None], _flat(d_out), *([_flat(d_sum)] if add else []), *tables)
    return d_x.reshape(x.shape), d_scale[0]
