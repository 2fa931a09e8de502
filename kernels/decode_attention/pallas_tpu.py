"""Decode attention for TPUs, in one kernel.

The core walks over the prefix once with the queries of all samples of a key-value head, which stand
together; the samples' own keys follow one after another at the end.
"""

import functools
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from alpamayo_jax.kernels.attention import Segment
from alpamayo_jax.kernels.decode_attention.reference import by_kv_head, by_query, plain_masks
from alpamayo_jax.kernels.dispatch import Unsupported
from alpamayo_jax.kernels.tiles import LOWEST

Array = Any
_ROWS = 512  # queries that fit beside them


def _product(a, b, side):
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return jax.lax.dot_general(
        a, b, (((1,), (side,)), ((), ())), precision=precision, preferred_element_type=jnp.float32
    )


def _attend(q, k, v, visible, top, total, out, scale):
    score = jnp.where(visible, _product(q, k, 1) * scale, LOWEST)
    new_top = jnp.maximum(top, score.max(axis=1, keepdims=True))
    shrink = jnp.exp(top - new_top)
    weight = jnp.where(visible, jnp.exp(score - new_top), 0)
    total = total * shrink + weight.sum(axis=1, keepdims=True)
    return new_top, total, out * shrink + _product(weight.astype(v.dtype), v, 0)


def _kernel(
    q_ref, k_ref, v_ref, mask_ref, own_k_ref, own_v_ref, own_mask_ref, out_ref,
    top_ref, total_ref, mixed_ref, *, scale, samples, each,
):  # fmt: skip
    step = pl.program_id(2)

    @pl.when(step == 0)
    def _start():
        top_ref[...] = jnp.full_like(top_ref, LOWEST)
        total_ref[...] = jnp.zeros_like(total_ref)
        mixed_ref[...] = jnp.zeros_like(mixed_ref)

    top_ref[...], total_ref[...], mixed_ref[...] = _attend(
        q_ref[...], k_ref[...], v_ref[...], mask_ref[...] != 0,
        top_ref[...], total_ref[...], mixed_ref[...], scale,
    )  # fmt: skip

    @pl.when(step == pl.num_programs(2) - 1)
    def _end():
        for sample in range(samples):
            rows = slice(sample * each, (sample + 1) * each)
            _, total, out = _attend(
                q_ref[rows, :], own_k_ref[sample], own_v_ref[sample], own_mask_ref[sample] != 0,
                top_ref[rows, :], total_ref[rows, :], mixed_ref[rows, :], scale,
            )  # fmt: skip
            out_ref[rows, :] = (out / jnp.where(total > 0, total, 1)).astype(out_ref.dtype)


def _padded(x: Array, axis: int, size: int) -> Array:
    pad = [(0, 0)] * x.ndim
    pad[axis] = (0, size - x.shape[axis])
    return jnp.pad(x, pad)


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def decode_attention(
    q: Array, shared: Segment, own: Segment, *, scale: float, interpret: bool
) -> Array:
    """See `kernels.decode_attention`; without a gradient.

    Raises:
      Unsupported: more queries of one key-value head than fit, or a mask of the prefix that differs
        between samples.
    """
    batch, samples, queries, heads, head_dim = q.shape
    groups, size = shared.k.shape[1:3]
    prefix_mask, own_mask = plain_masks(q, shared, own)
    count = queries * heads // groups
    each = _up(count, 16)  # rows of a tile of 16-bit numbers
    if samples * each > _ROWS:
        raise Unsupported(f"{samples} samples x {each} queries are more than {_ROWS}")
    # Lengths that are multiples of 128 are read where they lie; others are copied to be padded.
    whole, slots = _up(size, 128), _up(own.k.shape[-2], 128)
    block = next(size for size in (512, 384, 256, 128) if whole % size == 0)
    rows = _padded(by_kv_head(q, groups), 3, each).reshape(batch, groups, samples * each, head_dim)
    own_mask = jnp.repeat(own_mask, count // queries, axis=2)
    own_mask = _padded(_padded(own_mask, 2, each), 3, slots)

    query = pl.BlockSpec((None, None, samples * each, head_dim), lambda b, g, j: (b, g, 0, 0))
    key = pl.BlockSpec((None, None, block, head_dim), lambda b, g, j: (b, g, j, 0))
    mine = pl.BlockSpec((None, samples, None, slots, head_dim), lambda b, g, j: (b, 0, g, 0, 0))
    out = pl.pallas_call(
        functools.partial(_kernel, scale=scale, samples=samples, each=each),
        grid=(batch, groups, whole // block),
        in_specs=[
            query,
            key,
            key,
            pl.BlockSpec((None, 1, block), lambda b, g, j: (b, 0, j)),
            mine,
            mine,
            pl.BlockSpec((None, samples, each, slots), lambda b, g, j: (b, 0, 0, 0)),
        ],
        out_specs=query,
        out_shape=jax.ShapeDtypeStruct(rows.shape, q.dtype),
        scratch_shapes=[
            pltpu.VMEM((samples * each, 1), jnp.float32),
            pltpu.VMEM((samples * each, 1), jnp.float32),
            pltpu.VMEM((samples * each, head_dim), jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary")
        ),
        interpret=interpret,
        name="decode_attention",
    )(
        rows,
        _padded(shared.k, 2, whole),
        _padded(shared.v, 2, whole),
        _padded(prefix_mask, 1, whole)[:, None],
        _padded(own.k, 3, slots),
        _padded(own.v, 3, slots),
        own_mask,
    )
    out = out.reshape(batch, groups, samples, each, head_dim)[:, :, :, :count]
    return by_query(out, queries)
