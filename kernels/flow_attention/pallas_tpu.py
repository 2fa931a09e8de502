"""Attention of a flow step on TPUs: all samples of a prefix meet each block of its keys in VMEM.

A program owns the rows (samples, query heads and waypoints) of one key-value head, and the grid walks
along the prefix; after its end come each sample's own reasoning and the waypoints themselves.
"""

import functools
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from alpamayo_jax.kernels.dispatch import Unsupported
from alpamayo_jax.kernels.flow_attention.pallas_gpu import supported
from alpamayo_jax.kernels.flow_attention.reference import Keys, check_shapes, normed_and_rotated
from alpamayo_jax.kernels.tiles import LOWEST

Array = Any

_KEYS = 256  # of a step
_LANES = 128
_ROWS = 2048  # whose scores and sums fit VMEM


def _kernel(
    q_ref, shared_k_ref, shared_v_ref, shared_mask_ref, own_k_ref, own_v_ref, own_mask_ref,
    out_ref, total_ref, norm_ref, highest_ref, *, scale, prefix,
):  # fmt: skip
    step = pl.program_id(2)
    samples, rows, size = q_ref.shape
    precision = jax.lax.Precision.HIGHEST if q_ref.dtype == jnp.float32 else None

    @pl.when(step == 0)
    def _():
        total_ref[...] = jnp.zeros_like(total_ref)
        norm_ref[...] = jnp.zeros_like(norm_ref)
        highest_ref[...] = jnp.full_like(highest_ref, LOWEST)

    def product(a, b, contracted):
        return jax.lax.dot_general(
            a, b, (contracted, ((), ())), precision=precision, preferred_element_type=jnp.float32
        )

    def attend(at, q, keys, values, mask):
        """Rows `at` meet keys [S, H] where mask [1, S] says so."""
        score = product(q, keys, ((1,), (1,)))
        score = jnp.where(mask, score * scale, LOWEST)
        before = highest_ref[at, :1]
        higher = jnp.maximum(before, score.max(1, keepdims=True))
        shrink = jnp.exp(before - higher)
        weights = jnp.where(mask, jnp.exp(score - higher), 0.0)
        added = product(weights.astype(values.dtype), values, ((1,), (0,)))
        total_ref[at] = total_ref[at] * shrink + added
        norm = norm_ref[at, :1] * shrink + weights.sum(1, keepdims=True)
        norm_ref[at] = jnp.broadcast_to(norm, (norm.shape[0], _LANES))
        highest_ref[at] = jnp.broadcast_to(higher, (norm.shape[0], _LANES))

    values, mask = shared_v_ref[...], shared_mask_ref[...] != 0
    if prefix % _KEYS:
        # What a last block reads behind the end can be anything, also NaN.
        inside = lambda shape, axis: (  # noqa: E731
            step * _KEYS + jax.lax.broadcasted_iota(jnp.int32, shape, axis) < prefix
        )
        values = jnp.where(inside(values.shape, 0), values.astype(jnp.float32), 0.0)
        values = values.astype(shared_v_ref.dtype)
        mask = mask & inside(mask.shape, 1)
    everyone = slice(0, samples * rows)
    attend(everyone, q_ref[...].reshape(samples * rows, size), shared_k_ref[...], values, mask)

    @pl.when(step == pl.num_programs(2) - 1)
    def _():
        for sample in range(samples):
            at = slice(sample * rows, (sample + 1) * rows)
            attend(at, q_ref[sample], own_k_ref[sample], own_v_ref[sample], own_mask_ref[sample] != 0)
        out = total_ref[...] / norm_ref[...][:, :1]
        out_ref[...] = out.reshape(samples, rows, size).astype(out_ref.dtype)


def flow_attention(
    q: Array,
    k: Array,
    v: Array,
    q_norm: Array,
    k_norm: Array,
    cos: Array,
    sin: Array,
    shared: Keys,
    own: Keys,
    *,
    scale: float,
    eps: float,
    interpret: bool,
) -> Array:
    """What `flow_attention` computes, see there.

    Norms and rotations of the few queries and keys are left to XLA, which fuses them into the
    rearrangement of heads.

    Raises:
      Unsupported: types and sizes that the kernel does not know.
    """
    check_shapes(q, k, v, q_norm, k_norm, cos, sin, shared, own)
    supported(q, shared, own)
    if q.dtype == jnp.float16:
        raise Unsupported("float16, which TPUs do not have")
    batch, samples, waypoints, heads, size = q.shape
    groups, prefix = k.shape[3], shared.k.shape[2]
    ratio = heads // groups
    rows = ratio * waypoints
    if samples * rows > _ROWS or rows % 8:
        raise Unsupported(f"{samples} samples of {rows} rows; a multiple of 8, and {_ROWS} in all")
    q = normed_and_rotated(q, q_norm, cos, sin, eps)
    q = q.reshape(batch, samples, waypoints, groups, ratio, size)
    q = q.transpose(0, 3, 1, 4, 2, 5).reshape(batch, groups, samples, rows, size)
    k = jnp.swapaxes(normed_and_rotated(k, k_norm, cos, sin, eps), -3, -2)
    later = [
        jnp.moveaxis(jnp.concatenate([before, new], axis=3), 2, 1)
        for before, new in ((own.k, k), (own.v, jnp.swapaxes(v, -3, -2)))
    ]
    everyone = jnp.ones((*own.mask.shape[:2], waypoints), own.mask.dtype)
    later_mask = jnp.concatenate([own.mask, everyone], axis=2)[:, :, None].astype(jnp.int32)
    count = later_mask.shape[-1]

    def by_group(shape):
        return pl.BlockSpec((None, None, *shape), lambda b, g, s: (b, g, *(0,) * len(shape)))

    keys = pl.BlockSpec((None, None, _KEYS, size), lambda b, g, s: (b, g, s, 0))
    out = pl.pallas_call(
        functools.partial(_kernel, scale=scale, prefix=prefix),
        out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
        grid=(batch, groups, pl.cdiv(prefix, _KEYS)),
        in_specs=[
            by_group((samples, rows, size)),
            keys,
            keys,
            pl.BlockSpec((None, 1, _KEYS), lambda b, g, s: (b, 0, s)),
            by_group((samples, count, size)),
            by_group((samples, count, size)),
            pl.BlockSpec((None, samples, 1, count), lambda b, g, s: (b, 0, 0, 0)),
        ],
        out_specs=by_group((samples, rows, size)),
        scratch_shapes=[
            pltpu.VMEM((samples * rows, width), jnp.float32) for width in (size, _LANES, _LANES)
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary")
        ),
        interpret=interpret,
        name="flow_attention",
    )(q, shared.k, shared.v, shared.mask[:, None].astype(jnp.int32), *later, later_mask)
    out = out.reshape(batch, groups, samples, ratio, waypoints, size).transpose(0, 2, 4, 1, 3, 5)
    return out.reshape(batch, samples, waypoints, heads, size)
