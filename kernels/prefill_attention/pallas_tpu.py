"""Attention of a prompt for TPUs.

The grid walks over blocks of keys innermost (backwards, for keys and values: over queries) and adds
up in scratch memory. Blocks that nobody sees are neither fetched nor computed.
"""

import functools
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from alpamayo_jax.kernels.attention import KeyRange
from alpamayo_jax.kernels.prefill_attention.gradient import block_bounds
from alpamayo_jax.kernels.prefill_attention.reference import MRope
from alpamayo_jax.kernels.tiles import LOWEST

Array = Any
_BLOCK = 256


def _product(a, b, contract=(1, 0)):
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    dimensions = (((contract[0],), (contract[1],)), ((), ()))
    return jax.lax.dot_general(
        a, b, dimensions, precision=precision, preferred_element_type=jnp.float32
    )


def _rotated(x, tables):
    if not tables:
        return x
    cos, sin = (table[...] for table in tables)
    half = x.shape[-1] // 2
    first, second = x[:, :half].astype(jnp.float32), x[:, half:].astype(jnp.float32)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def _unrotated(x, tables):
    if not tables:
        return x
    cos, sin = (table[...] for table in tables)
    half = x.shape[-1] // 2
    first, second = x[:, :half], x[:, half:]
    return jnp.concatenate([first * cos + second * sin, second * cos - first * sin], axis=-1)


def _visible(first_ref, end_ref, block_k, j):
    """bool [block of q, block of k] from columns first and end."""
    shape = (first_ref.shape[0], block_k)
    key = j * block_k + jax.lax.broadcasted_iota(jnp.int32, shape, 1)
    return (first_ref[...] <= key) & (key < end_ref[...])


def _forward_kernel(low_ref, high_ref, first_ref, end_ref, q_ref, k_ref, v_ref, *refs, scale, block):
    *rope_refs, out_ref, lse_ref, top_ref, total_ref, mixed_ref = refs
    b, i, j = (pl.program_id(axis) for axis in (0, 2, 3))

    @pl.when(j == 0)
    def _start():
        top_ref[...] = jnp.full_like(top_ref, LOWEST)
        total_ref[...] = jnp.zeros_like(total_ref)
        mixed_ref[...] = jnp.zeros_like(mixed_ref)

    @pl.when((low_ref[b, i] <= j) & (j < high_ref[b, i]))
    def _block():
        q = _rotated(q_ref[...], rope_refs[:2])
        k = _rotated(k_ref[...], rope_refs[2:])
        visible = _visible(first_ref, end_ref, block, j)
        score = jnp.where(visible, _product(q, k, (1, 1)) * scale, LOWEST)
        top = jnp.maximum(top_ref[...], score.max(axis=1, keepdims=True))
        shrink = jnp.exp(top_ref[...] - top)
        weight = jnp.where(visible, jnp.exp(score - top), 0)
        total_ref[...] = total_ref[...] * shrink + weight.sum(axis=1, keepdims=True)
        v = v_ref[...]
        mixed_ref[...] = mixed_ref[...] * shrink + _product(weight.astype(v.dtype), v)
        top_ref[...] = top

    @pl.when(j == pl.num_programs(3) - 1)
    def _end():
        total = jnp.where(total_ref[...] > 0, total_ref[...], 1)
        out_ref[...] = (mixed_ref[...] / total).astype(out_ref.dtype)
        lse_ref[...] = top_ref[...] + jnp.log(total)


def _d_scores(first_ref, end_ref, q, k, v, lse_ref, delta_ref, d_out, scale, j):
    """Weights and the gradient of the scores, both [block of q, block of k]."""
    visible = _visible(first_ref, end_ref, k.shape[0], j)
    weight = jnp.where(visible, jnp.exp(_product(q, k, (1, 1)) * scale - lse_ref[...]), 0)
    return weight, weight * (_product(d_out, v, (1, 1)) - delta_ref[...]) * scale


def _dq_kernel(
    low_ref, high_ref, first_ref, end_ref, q_ref, k_ref, v_ref, lse_ref, delta_ref, d_out_ref, *refs,
    scale,
):  # fmt: skip
    *rope_refs, dq_ref, sum_ref = refs
    b, i, j = (pl.program_id(axis) for axis in (0, 2, 3))

    @pl.when(j == 0)
    def _start():
        sum_ref[...] = jnp.zeros_like(sum_ref)

    @pl.when((low_ref[b, i] <= j) & (j < high_ref[b, i]))
    def _block():
        q = _rotated(q_ref[...], rope_refs[:2])
        k = _rotated(k_ref[...], rope_refs[2:])
        _, d_score = _d_scores(
            first_ref, end_ref, q, k, v_ref[...], lse_ref, delta_ref, d_out_ref[...], scale, j
        )
        sum_ref[...] += _product(d_score.astype(k.dtype), k)

    @pl.when(j == pl.num_programs(3) - 1)
    def _end():
        dq_ref[...] = _unrotated(sum_ref[...], rope_refs[:2]).astype(dq_ref.dtype)


def _dkv_kernel(
    low_ref, high_ref, first_ref, end_ref, q_ref, k_ref, v_ref, lse_ref, delta_ref, d_out_ref, *refs,
    scale,
):  # fmt: skip
    *rope_refs, dk_ref, dv_ref, sum_k_ref, sum_v_ref = refs
    b, j, r, i = (pl.program_id(axis) for axis in (0, 2, 3, 4))

    @pl.when((r == 0) & (i == 0))
    def _start():
        sum_k_ref[...] = jnp.zeros_like(sum_k_ref)
        sum_v_ref[...] = jnp.zeros_like(sum_v_ref)

    @pl.when((low_ref[b, j] <= i) & (i < high_ref[b, j]))
    def _block():
        q = _rotated(q_ref[...], rope_refs[:2])
        k = _rotated(k_ref[...], rope_refs[2:])
        v, d_out = v_ref[...], d_out_ref[...]
        weight, d_score = _d_scores(
            first_ref, end_ref, q, k, v, lse_ref, delta_ref, d_out, scale, j
        )
        sum_k_ref[...] += _product(d_score.astype(q.dtype), q, (0, 0))
        sum_v_ref[...] += _product(weight.astype(v.dtype), d_out, (0, 0))

    @pl.when((r == pl.num_programs(3) - 1) & (i == pl.num_programs(4) - 1))
    def _end():
        dk_ref[...] = _unrotated(sum_k_ref[...], rope_refs[2:]).astype(dk_ref.dtype)
        dv_ref[...] = sum_v_ref[...].astype(dv_ref.dtype)


def _padded(x: Array, axis: int, size: int) -> Array:
    pad = [(0, 0)] * x.ndim
    pad[axis] = (0, size - x.shape[axis])
    return jnp.pad(x, pad)


def _prepared(q, k, v, keys, rope):
    """Everything padded to whole blocks, heads before tokens; ranges as columns."""
    size = q.shape[1]
    block = min(_BLOCK, -(-size // 8) * 8)
    whole = -(-size // block) * block
    keys = KeyRange(*(_padded(a, 1, whole) for a in (keys.first, keys.end)))
    tables = () if rope is None else rope.half_tables(q.shape[-1])
    return (
        block,
        whole,
        block_bounds(keys, block, block),
        [a[..., None] for a in (keys.first, keys.end)],
        [_padded(a, 2, whole) for a in (jnp.swapaxes(q, 1, 2), k, v)],
        [_padded(a, 1, whole) for a in tables],
    )


def _clipped(j, low, high):
    """A block that is used anyway, in place of one that is skipped: nothing new to fetch."""
    return jnp.clip(j, low, jnp.maximum(high - 1, low))


def _specs(block, head_dim, at_q, at_k):
    """Blocks of [B, T, 1] ranges, of [B, heads, T, H], of [B, heads, T, 1] and of the tables.

    at_q and at_k map the grid's indices to (row, head, block).
    """

    def range_map(*index):
        b, _, i = at_q(*index)
        return b, i, 0

    def table_map(at, *index):
        b, _, i = at(*index)
        return b, i, 0

    def head_map(at, *index):
        return (*at(*index), 0)

    def spec(shape, at, kind):
        return pl.BlockSpec(shape, functools.partial(kind, at))

    ranges = [pl.BlockSpec((None, block, 1), range_map)] * 2
    query = spec((None, None, block, head_dim), at_q, head_map)
    key = spec((None, None, block, head_dim), at_k, head_map)
    row = spec((None, None, block, 1), at_q, head_map)
    tables = [
        *[spec((None, block, head_dim // 2), at_q, table_map)] * 2,
        *[spec((None, block, head_dim // 2), at_k, table_map)] * 2,
    ]
    return ranges, query, key, row, tables


def _params(*semantics):
    return pltpu.CompilerParams(dimension_semantics=semantics)


def forward(
    q: Array, k: Array, v: Array, keys: KeyRange, rope: MRope | None, scale: float, interpret: bool
) -> tuple[Array, Array]:
    """out [B, T, N, H] and the logarithm of the sum of exponentials, float32 [B, N, T]."""
    batch, size, heads, head_dim = q.shape
    group = heads // k.shape[1]
    block, whole, bounds, ranges, (q, k, v), tables = _prepared(q, k, v, keys, rope)
    at_q = lambda b, n, i, j, low, high: (b, n, i)  # noqa: E731
    at_k = lambda b, n, i, j, low, high: (  # noqa: E731
        b, n // group, _clipped(j, low[b, i], high[b, i])
    )  # fmt: skip
    range_specs, query, key, row, table_specs = _specs(block, head_dim, at_q, at_k)
    out, lse = pl.pallas_call(
        functools.partial(_forward_kernel, scale=scale, block=block),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(batch, heads, whole // block, whole // block),
            in_specs=[*range_specs, query, key, key, *(table_specs if tables else [])],
            out_specs=[query, row],
            scratch_shapes=[
                pltpu.VMEM((block, 1), jnp.float32),
                pltpu.VMEM((block, 1), jnp.float32),
                pltpu.VMEM((block, head_dim), jnp.float32),
            ],
        ),
        out_shape=[
            jax.ShapeDtypeStruct(q.shape, q.dtype),
            jax.ShapeDtypeStruct((batch, heads, whole, 1), jnp.float32),
        ],
        compiler_params=_params("parallel", "parallel", "parallel", "arbitrary"),
        interpret=interpret,
        name="prefill_attention",
    )(*bounds[:2], *ranges, q, k, v, *tables, *tables)
    return jnp.swapaxes(out[:, :, :size], 1, 2), lse[:, :, :size, 0]


def backward(
    q: Array, k: Array, v: Array, keys: KeyRange, rope: MRope | None, lse: Array, delta: Array,
    d_out: Array, scale: float, interpret: bool,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Gradients of q, k and v from lse and delta, float32 [B, N, T], and d_out, as q."""
    batch, size, heads, head_dim = q.shape
    kv_heads = k.shape[1]
    group = heads // kv_heads
    block, whole, bounds, ranges, (q, k, v), tables = _prepared(q, k, v, keys, rope)
    rows = [_padded(a, 2, whole)[..., None] for a in (lse, delta)]
    d_out = _padded(jnp.swapaxes(d_out, 1, 2), 2, whole)
    inputs = (*ranges, q, k, v, *rows, d_out, *tables, *tables)
    count = whole // block

    at_q = lambda b, n, i, j, low, high: (b, n, i)  # noqa: E731
    at_k = lambda b, n, i, j, low, high: (  # noqa: E731
        b, n // group, _clipped(j, low[b, i], high[b, i])
    )  # fmt: skip
    range_specs, query, key, row, table_specs = _specs(block, head_dim, at_q, at_k)
    table_specs = table_specs if tables else []
    dq = pl.pallas_call(
        functools.partial(_dq_kernel, scale=scale),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(batch, heads, count, count),
            in_specs=[*range_specs, query, key, key, row, row, query, *table_specs],
            out_specs=query,
            scratch_shapes=[pltpu.VMEM((block, head_dim), jnp.float32)],
        ),
        out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
        compiler_params=_params("parallel", "parallel", "parallel", "arbitrary"),
        interpret=interpret,
        name="prefill_attention_dq",
    )(*bounds[:2], *inputs)

    at_q = lambda b, g, j, r, i, low, high: (  # noqa: E731
        b, g * group + r, _clipped(i, low[b, j], high[b, j])
    )  # fmt: skip
    at_k = lambda b, g, j, r, i, low, high: (b, g, j)  # noqa: E731
    range_specs, query, key, row, table_specs = _specs(block, head_dim, at_q, at_k)
    table_specs = table_specs if tables else []
    dk, dv = pl.pallas_call(
        functools.partial(_dkv_kernel, scale=scale),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(batch, kv_heads, count, group, count),
            in_specs=[*range_specs, query, key, key, row, row, query, *table_specs],
            out_specs=[key, key],
            scratch_shapes=[pltpu.VMEM((block, head_dim), jnp.float32)] * 2,
        ),
        out_shape=[jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (k, v)],
        compiler_params=_params("parallel", "parallel", "parallel", "arbitrary", "arbitrary"),
        interpret=interpret,
        name="prefill_attention_dkv",
    )(*bounds[2:], *inputs)
    return jnp.swapaxes(dq[:, :, :size], 1, 2), dk[:, :, :size], dv[:, :, :size]
