"""Attention of a prompt for GPUs, through Triton.

One program takes a block of one head's queries (backwards also: a block of one head's keys) and walks
over the blocks that belong to it. Heads wider than a power of two are cut into columns, and rotated
heads into the two halves that a rotation pairs: q k = q_1 k_1 + q_2 k_2.
"""

import functools
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt
import jax.numpy as jnp

from alpamayo_jax.kernels import tiles
from alpamayo_jax.kernels.attention import KeyRange
from alpamayo_jax.kernels.prefill_attention.gradient import block_bounds
from alpamayo_jax.kernels.prefill_attention.reference import MRope
from alpamayo_jax.kernels.tiles import LOG2_E, LOWEST, load_rows, load_vector, product

Array = Any


def _blocks(size: int, dtype: Any, backward: bool) -> tuple[int, int]:
    """Queries and keys of a block: what fits the shared memory of every target."""
    block_q, block_k = (64, 64) if backward else (128, 64)
    if jnp.dtype(dtype).itemsize == 4:
        block_q, block_k = (32, 32) if backward else (64, 32)
    most = tiles.power_of_two(size)
    return min(block_q, most), min(block_k, most)


def _columns(head_dim: int, rope: MRope | None):
    return tiles.columns_of(head_dim) if rope is None else tiles.halves_of(head_dim)


def _rotated(parts, table):
    (first, second), (cos, sin) = parts, table
    dtype = first.dtype
    first, second = first.astype(jnp.float32), second.astype(jnp.float32)
    return (first * cos - second * sin).astype(dtype), (second * cos + first * sin).astype(dtype)


def _unrotated(parts, table):
    (first, second), (cos, sin) = parts, table
    return first * cos + second * sin, second * cos - first * sin


def _load_heads(ref, start, rows, end, columns, rope_refs, middle=()):
    """The columns of some rows, rotated where there are positions."""
    parts = tuple(load_rows(ref, start, rows, end, part, middle) for part in columns)
    if not rope_refs:
        return parts, None
    # Tables, not positions: the sine of a large angle costs more here than the products do.
    table = tuple(load_rows(ref, start, rows, end, columns[0]) for ref in rope_refs)
    return _rotated(parts, table), table


def _visible(first, end, start, rows):
    key = start + jnp.arange(rows)
    return (first[:, None] <= key[None, :]) & (key[None, :] < end[:, None])


def _scores(q, k, factor):
    return sum(product(a, b, trans_b=True) for a, b in zip(q, k)) * factor


def _forward_kernel(
    first_ref, end_ref, low_ref, high_ref, q_ref, k_ref, v_ref, *refs, scale, blocks, columns
):
    *rope_refs, out_ref, lse_ref = refs
    size, (block_q, block_k) = q_ref.shape[0], blocks
    values = tiles.columns_of(q_ref.shape[-1])
    index = pl.program_id(0)
    start_q = index * block_q
    first = load_vector(first_ref, start_q, block_q, size)
    end = load_vector(end_ref, start_q, block_q, size)
    q, _ = _load_heads(q_ref, start_q, block_q, size, columns, rope_refs)

    def body(j, carry):
        top, total, out = carry
        start = j * block_k
        k, _ = _load_heads(k_ref, start, block_k, size, columns, rope_refs)
        visible = _visible(first, end, start, block_k)
        score = jnp.where(visible, _scores(q, k, scale * LOG2_E), LOWEST)
        new_top = jnp.maximum(top, score.max(1))
        shrink = jnp.exp2(top - new_top)
        weight = jnp.where(visible, jnp.exp2(score - new_top[:, None]), 0)
        total = total * shrink + weight.sum(1)
        mixed = []
        for part, so_far in zip(values, out):
            v = load_rows(v_ref, start, block_k, size, part)
            mixed.append(so_far * shrink[:, None] + product(weight.astype(v.dtype), v))
        return new_top, total, tuple(mixed)

    empty = (
        jnp.full((block_q,), LOWEST, jnp.float32),
        jnp.zeros((block_q,), jnp.float32),
        tuple(jnp.zeros((block_q, part.size), jnp.float32) for part in values),
    )
    low, high = low_ref[index], high_ref[index]
    top, total, out = jax.lax.fori_loop(low, high, body, empty)
    seen = jnp.where(total > 0, total, 1)
    for part, mixed in zip(values, out):
        tiles.store_rows(out_ref, start_q, block_q, size, part, mixed / seen[:, None])
    tiles.store_vector(lse_ref, start_q, block_q, size, top / LOG2_E + jnp.log(seen))


def _weights(q, k, first, end, lse, start, rows, scale):
    """The attention weights [block of q, block of k] once more."""
    visible = _visible(first, end, start, rows)
    score = _scores(q, k, scale * LOG2_E)
    return jnp.where(visible, jnp.exp2(score - (lse * LOG2_E)[:, None]), 0)


def _dq_kernel(
    first_ref, end_ref, low_ref, high_ref, q_ref, k_ref, v_ref, lse_ref, delta_ref, d_out_ref, *refs,
    scale, blocks, columns,
):  # fmt: skip
    *rope_refs, dq_ref = refs
    size, (block_q, block_k) = q_ref.shape[0], blocks
    values = tiles.columns_of(q_ref.shape[-1])
    index = pl.program_id(0)
    start_q = index * block_q
    first, end, lse, delta = (
        load_vector(ref, start_q, block_q, size) for ref in (first_ref, end_ref, lse_ref, delta_ref)
    )
    q, table = _load_heads(q_ref, start_q, block_q, size, columns, rope_refs)
    d_out = [load_rows(d_out_ref, start_q, block_q, size, part) for part in values]

    def body(j, dq):
        start = j * block_k
        k, _ = _load_heads(k_ref, start, block_k, size, columns, rope_refs)
        weight = _weights(q, k, first, end, lse, start, block_k, scale)
        v = [load_rows(v_ref, start, block_k, size, part) for part in values]
        d_score = weight * (_scores(d_out, v, 1.0) - delta[:, None]) * scale
        return tuple(so_far + product(d_score.astype(b.dtype), b) for so_far, b in zip(dq, k))

    zeros = tuple(jnp.zeros((block_q, part.size), jnp.float32) for part in columns)
    dq = jax.lax.fori_loop(low_ref[index], high_ref[index], body, zeros)
    dq = dq if table is None else _unrotated(dq, table)
    for part, value in zip(columns, dq):
        tiles.store_rows(dq_ref, start_q, block_q, size, part, value)


def _dkv_kernel(
    first_ref, end_ref, low_ref, high_ref, q_ref, k_ref, v_ref, lse_ref, delta_ref, d_out_ref, *refs,
    scale, blocks, columns,
):  # fmt: skip
    *rope_refs, dk_ref, dv_ref = refs
    size, groups, head_dim = q_ref.shape
    block_q, block_k = blocks
    values = tiles.columns_of(head_dim)
    index = pl.program_id(0)
    start_k = index * block_k
    k, table = _load_heads(k_ref, start_k, block_k, size, columns, rope_refs)
    v = [load_rows(v_ref, start_k, block_k, size, part) for part in values]

    def body(step, carry):
        dk, dv = carry
        head, block = step // (high - low), low + step % (high - low)
        start = block * block_q
        first, end = (load_vector(ref, start, block_q, size) for ref in (first_ref, end_ref))
        lse, delta = (
            load_vector(ref, start, block_q, size, (head,)) for ref in (lse_ref, delta_ref)
        )
        q, _ = _load_heads(q_ref, start, block_q, size, columns, rope_refs, (head,))
        d_out = [
            load_rows(d_out_ref, start, block_q, size, part, (head,)) for part in values
        ]
        weight = _weights(q, k, first, end, lse, start_k, block_k, scale)
        d_score = (weight * (_scores(d_out, v, 1.0) - delta[:, None]) * scale).astype(k[0].dtype)
        weight = weight.astype(v[0].dtype)
        dv = tuple(so_far + product(weight, d, trans_a=True) for so_far, d in zip(dv, d_out))
        dk = tuple(so_far + product(d_score, a, trans_a=True) for so_far, a in zip(dk, q))
        return dk, dv

    low, high = low_ref[index], high_ref[index]
    zeros = tuple(
        tuple(jnp.zeros((block_k, part.size), jnp.float32) for part in parts)
        for parts in (columns, values)
    )
    dk, dv = jax.lax.fori_loop(0, (high - low) * groups, body, zeros)
    dk = dk if table is None else _unrotated(dk, table)
    for part, value in zip(columns, dk):
        tiles.store_rows(dk_ref, start_k, block_k, size, part, value)
    for part, value in zip(values, dv):
        tiles.store_rows(dv_ref, start_k, block_k, size, part, value)


def _rope_inputs(rope: MRope | None, size: int, head_dim: int):
    if rope is None:
        return [], []
    spec = pl.BlockSpec((None, size, head_dim // 2), lambda i, n, b: (b, 0, 0))
    return rope.half_tables(head_dim), [spec, spec]


def _range_specs(size: int, blocks: int):
    return [
        *[pl.BlockSpec((None, size), lambda i, n, b: (b, 0))] * 2,
        *[pl.BlockSpec((None, blocks), lambda i, n, b: (b, 0))] * 2,
    ]


def forward(
    q: Array, k: Array, v: Array, keys: KeyRange, rope: MRope | None, scale: float, interpret: bool
) -> tuple[Array, Array]:
    """out [B, T, N, H] and the logarithm of the sum of exponentials, float32 [B, N, T]."""
    batch, size, heads, head_dim = q.shape
    group = heads // k.shape[1]
    blocks = _blocks(size, q.dtype, backward=False)
    low, high, _, _ = block_bounds(keys, *blocks)
    rope_arrays, rope_specs = _rope_inputs(rope, size, head_dim)
    query = pl.BlockSpec((None, size, None, head_dim), lambda i, n, b: (b, 0, n, 0))
    key = pl.BlockSpec((None, None, size, head_dim), lambda i, n, b: (b, n // group, 0, 0))
    row = pl.BlockSpec((None, None, size), lambda i, n, b: (b, n, 0))
    return pl.pallas_call(
        functools.partial(
            _forward_kernel, scale=scale, blocks=blocks, columns=_columns(head_dim, rope)
        ),
        grid=(low.shape[1], heads, batch),
        in_specs=[*_range_specs(size, low.shape[1]), query, key, key, *rope_specs],
        out_specs=[query, row],
        out_shape=[
            jax.ShapeDtypeStruct(q.shape, q.dtype),
            jax.ShapeDtypeStruct((batch, heads, size), jnp.float32),
        ],
        compiler_params=plt.CompilerParams(num_warps=8 if blocks[0] >= 128 else 4, num_stages=2),
        interpret=interpret,
        name="prefill_attention",
    )(keys.first, keys.end, low, high, q, k, v, *rope_arrays)


def backward(
    q: Array, k: Array, v: Array, keys: KeyRange, rope: MRope | None, lse: Array, delta: Array,
    d_out: Array, scale: float, interpret: bool,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Gradients of q, k and v from lse and delta, float32 [B, N, T], and d_out, as q."""
    batch, size, heads, head_dim = q.shape
    kv_heads = k.shape[1]
    group = heads // kv_heads
    blocks = _blocks(size, q.dtype, backward=True)
    low, high, low_k, high_k = block_bounds(keys, *blocks)
    rope_arrays, rope_specs = _rope_inputs(rope, size, head_dim)
    shared = dict(
        compiler_params=plt.CompilerParams(num_warps=4, num_stages=1), interpret=interpret
    )
    kernel = dict(scale=scale, blocks=blocks, columns=_columns(head_dim, rope))

    query = pl.BlockSpec((None, size, None, head_dim), lambda i, n, b: (b, 0, n, 0))
    key = pl.BlockSpec((None, None, size, head_dim), lambda i, n, b: (b, n // group, 0, 0))
    row = pl.BlockSpec((None, None, size), lambda i, n, b: (b, n, 0))
    dq = pl.pallas_call(
        functools.partial(_dq_kernel, **kernel),
        grid=(low.shape[1], heads, batch),
        in_specs=[
            *_range_specs(size, low.shape[1]), query, key, key, row, row, query, *rope_specs,
        ],
        out_specs=query,
        out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
        name="prefill_attention_dq",
        **shared,
    )(keys.first, keys.end, low, high, q, k, v, lse, delta, d_out, *rope_arrays)  # fmt: skip

    query = pl.BlockSpec((None, size, group, head_dim), lambda j, g, b: (b, 0, g, 0))
    key = pl.BlockSpec((None, None, size, head_dim), lambda j, g, b: (b, g, 0, 0))
    row = pl.BlockSpec((None, group, size), lambda j, g, b: (b, g, 0))
    dk, dv = pl.pallas_call(
        functools.partial(_dkv_kernel, **kernel),
        grid=(low_k.shape[1], kv_heads, batch),
        in_specs=[
            *_range_specs(size, low_k.shape[1]), query, key, key, row, row, query, *rope_specs,
        ],
        out_specs=[key, key],
        out_shape=[jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (k, v)],
        name="prefill_attention_dkv",
        **shared,
    )(keys.first, keys.end, low_k, high_k, q, k, v, lse, delta, d_out, *rope_arrays)  # fmt: skip
    return dq, dk, dv
