"""Decode attention for GPUs, through Triton, in two kernels.

The first reads the prefix: a program takes a share of the keys of one head and the queries of all
samples. The second takes one sample's queries of one head, its own keys, and combines everything.
"""

import functools
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt
import jax.numpy as jnp

from alpamayo_jax.kernels import tiles
from alpamayo_jax.kernels.attention import Segment
from alpamayo_jax.kernels.decode_attention.reference import by_kv_head, by_query, plain_masks
from alpamayo_jax.kernels.dispatch import Unsupported
from alpamayo_jax.kernels.tiles import LOG2_E, LOWEST, load_rows, load_vector, product

Array = Any
_KEYS = 64  # of a step
_ROWS = 128  # queries that fit a program beside its keys
_PROGRAMS = 256  # about two for each multiprocessor of a large GPU


def _attend(q, k, v, visible, state, factor):
    """One more block of keys in the running softmax of `state`; exponents have base 2."""
    top, total, out = state
    score = sum(product(a, b, trans_b=True) for a, b in zip(q, k)) * factor
    score = jnp.where(visible, score, LOWEST)
    new_top = jnp.maximum(top, score.max(1))
    shrink = jnp.exp2(top - new_top)
    weight = jnp.where(visible, jnp.exp2(score - new_top[:, None]), 0)
    total = total * shrink + weight.sum(1)
    weight = weight.astype(v[0].dtype)
    out = tuple(o * shrink[:, None] + product(weight, part) for o, part in zip(out, v))
    return new_top, total, out


def _empty(rows, columns):
    return (
        jnp.full((rows,), LOWEST, jnp.float32),
        jnp.zeros((rows,), jnp.float32),
        tuple(jnp.zeros((rows, part.size), jnp.float32) for part in columns),
    )


def _prefix_kernel(
    q_ref, k_ref, v_ref, mask_ref, out_ref, top_ref, total_ref, *, rows, share, factor
):
    count, size = q_ref.shape[0], k_ref.shape[0]
    columns = tiles.columns_of(q_ref.shape[1])
    which = pl.program_id(0)
    zero = 0 * which
    q = [load_rows(q_ref, zero, rows, count, part) for part in columns]

    def body(step, state):
        start = (which * share + step) * _KEYS
        visible = load_vector(mask_ref, start, _KEYS, size) != 0
        k = [load_rows(k_ref, start, _KEYS, size, part) for part in columns]
        v = [load_rows(v_ref, start, _KEYS, size, part) for part in columns]
        return _attend(q, k, v, visible[None, :], state, factor)

    top, total, out = jax.lax.fori_loop(0, share, body, _empty(rows, columns))
    for part, value in zip(columns, out):
        tiles.store_rows(out_ref, zero, rows, count, part, value)
    tiles.store_vector(top_ref, zero, rows, count, top)
    tiles.store_vector(total_ref, zero, rows, count, total)


def _own_kernel(
    q_ref, k_ref, v_ref, mask_ref, part_ref, top_ref, total_ref, out_ref, *, rows, shares, factor
):
    count, size = q_ref.shape[0], k_ref.shape[0]
    columns = tiles.columns_of(q_ref.shape[1])
    zero = 0 * pl.program_id(0)
    q = [load_rows(q_ref, zero, rows, count, part) for part in columns]

    def body(step, state):
        start = step * _KEYS
        at = mask_ref.at[pl.ds(zero, rows), pl.ds(start, _KEYS)]
        real = (jnp.arange(rows) < count)[:, None] & (start + jnp.arange(_KEYS) < size)[None, :]
        visible = plt.load(at, mask=real, other=0) != 0
        k = [load_rows(k_ref, start, _KEYS, size, part) for part in columns]
        v = [load_rows(v_ref, start, _KEYS, size, part) for part in columns]
        return _attend(q, k, v, visible, state, factor)

    def combine(share, state):
        top, total, out = state
        part_top = load_vector(top_ref, zero, rows, count, (share,))
        part_total = load_vector(total_ref, zero, rows, count, (share,))
        new_top = jnp.maximum(top, part_top)
        shrink, part_shrink = jnp.exp2(top - new_top), jnp.exp2(part_top - new_top)
        mixed = []
        for value, part in zip(out, columns):
            other = plt.load(
                part_ref.at[
                    share, pl.ds(zero, rows), pl.ds(part.start + zero, part.size)
                ],
                mask=(jnp.arange(rows) < count)[:, None]
                & (jnp.arange(part.size) < part.width)[None, :],
                other=0,
            )  # fmt: skip
            mixed.append(value * shrink[:, None] + other * part_shrink[:, None])
        return new_top, total * shrink + part_total * part_shrink, tuple(mixed)

    state = jax.lax.fori_loop(0, pl.cdiv(size, _KEYS), body, _empty(rows, columns))
    _, total, out = jax.lax.fori_loop(0, shares, combine, state)
    total = jnp.where(total > 0, total, 1)
    for part, value in zip(columns, out):
        tiles.store_rows(out_ref, zero, rows, count, part, value / total[:, None])


def decode_attention(
    q: Array, shared: Segment, own: Segment, *, scale: float, interpret: bool
) -> Array:
    """See `kernels.decode_attention`; without a gradient.

    Raises:
      Unsupported: more queries of one key-value head than a program holds, or a mask of the prefix
        that differs between samples.
    """
    batch, samples, queries, heads, head_dim = q.shape
    groups, size = shared.k.shape[1:3]
    prefix_mask, own_mask = plain_masks(q, shared, own)
    each = queries * heads // groups
    rows = tiles.power_of_two(samples * each)
    if rows > _ROWS:
        raise Unsupported(
            f"{samples} samples x {each} queries of a key-value head are more than {_ROWS}"
        )
    steps = pl.cdiv(size, _KEYS)
    share = pl.cdiv(steps, max(1, min(steps, _PROGRAMS // (batch * groups))))
    shares = pl.cdiv(steps, share)
    q = by_kv_head(q, groups)
    factor = scale * LOG2_E
    params = dict(interpret=interpret, compiler_params=plt.CompilerParams(num_warps=4, num_stages=3))

    flat = q.reshape(batch, groups, samples * each, head_dim)
    cached = pl.BlockSpec((None, None, size, head_dim), lambda i, g, b: (b, g, 0, 0))
    part = pl.BlockSpec((None, None, None, *flat.shape[2:]), lambda i, g, b: (b, g, i, 0, 0))
    sums = pl.BlockSpec((None, None, None, samples * each), lambda i, g, b: (b, g, i, 0))
    parts = pl.pallas_call(
        functools.partial(_prefix_kernel, rows=rows, share=share, factor=factor),
        grid=(shares, groups, batch),
        in_specs=[
            pl.BlockSpec((None, None, *flat.shape[2:]), lambda i, g, b: (b, g, 0, 0)),
            cached,
            cached,
            pl.BlockSpec((None, size), lambda i, g, b: (b, 0)),
        ],
        out_specs=[part, sums, sums],
        out_shape=[
            jax.ShapeDtypeStruct((batch, groups, shares, *flat.shape[2:]), jnp.float32),
            *[jax.ShapeDtypeStruct((batch, groups, shares, samples * each), jnp.float32)] * 2,
        ],
        name="decode_attention_prefix",
        **params,
    )(flat, shared.k, shared.v, prefix_mask)

    slots = own.k.shape[-2]
    # One row of the mask per query and head, as the scores have them.
    own_mask = jnp.repeat(own_mask, each // queries, axis=2)
    per_sample = pl.BlockSpec((None, None, None, each, head_dim), lambda g, k, b: (b, g, k, 0, 0))
    keys = pl.BlockSpec((None, None, None, slots, head_dim), lambda g, k, b: (b, k, g, 0, 0))
    sums = pl.BlockSpec((None, None, shares, each), lambda g, k, b: (b, g, 0, k))
    out = pl.pallas_call(
        functools.partial(
            _own_kernel, rows=tiles.power_of_two(each), shares=shares, factor=factor
        ),
        grid=(groups, samples, batch),
        in_specs=[
            per_sample,
            keys,
            keys,
            pl.BlockSpec((None, None, each, slots), lambda g, k, b: (b, k, 0, 0)),
            pl.BlockSpec((None, None, shares, each, head_dim), lambda g, k, b: (b, g, 0, k, 0)),
            sums,
            sums,
        ],
        out_specs=per_sample,
        out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
        name="decode_attention_own",
        **params,
    )(q, own.k, own.v, own_mask, *parts)
    return by_query(out, queries)
