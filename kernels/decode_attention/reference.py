"""Attention of new tokens on a shared prefix, in plain XLA, and what its kernels have in common.

Letters: B batch, K samples, T queries, S keys of the prefix, U own keys, G key-value heads, N = G R
query heads, H head size.
"""

import functools
from typing import Any, Callable

import chex
import jax
import jax.numpy as jnp

from alpamayo_jax.kernels.attention import Segment, attend_reference
from alpamayo_jax.kernels.dispatch import Unsupported

Array = Any


def check_shapes(q: Array, shared: Segment, own: Segment) -> None:
    """Raises AssertionError (chex) where shapes do not belong together."""
    batch, samples, queries, heads, size = q.shape
    groups, slots = own.k.shape[2:4]
    chex.assert_shape([shared.k, shared.v], (batch, groups, None, size))
    chex.assert_shape([own.k, own.v], (batch, samples, groups, slots, size))
    chex.assert_equal_shape([shared.k, shared.v])
    chex.assert_is_divisible(heads, groups)
    for mask, keys in ((shared.mask, shared.k), (own.mask, own.k)):
        chex.assert_shape(mask, ({1, batch}, {1, samples}, {1, queries}, {1, keys.shape[-2]}))


def decode_attention_reference(q: Array, shared: Segment, own: Segment, *, scale: float) -> Array:
    """See `decode_attention`."""
    check_shapes(q, shared, own)
    return attend_reference(q, [shared, own], scale=scale)


def plain_masks(q: Array, shared: Segment, own: Segment) -> tuple[Array, Array]:
    """int32 masks [B, S] of the prefix and [B, K, T, U] of the own keys.

    Raises:
      Unsupported: samples or queries see different parts of the prefix.
    """
    batch, samples, queries = q.shape[:3]
    if shared.mask.shape[1:3] != (1, 1):
        raise Unsupported(
            f"the mask of the prefix {shared.mask.shape} is not [B, 1, 1, S]: one for all samples"
        )
    prefix = jnp.broadcast_to(shared.mask[:, 0, 0], (batch, shared.k.shape[-2]))
    mine = jnp.broadcast_to(own.mask, (batch, samples, queries, own.k.shape[-2]))
    return prefix.astype(jnp.int32), mine.astype(jnp.int32)


def by_kv_head(q: Array, groups: int) -> Array:
    """[B, K, T, N, H] -> [B, G, K, T R, H]: what reads the same keys stands together."""
    batch, samples, queries, heads, size = q.shape
    q = q.reshape(batch, samples, queries, groups, heads // groups, size)
    return jnp.moveaxis(q, 3, 1).reshape(batch, groups, samples, -1, size)


def by_query(out: Array, queries: int) -> Array:
    """[B, G, K, T R, H] -> [B, K, T, N, H]."""
    batch, groups, samples, _, size = out.shape
    out = out.reshape(batch, groups, samples, queries, -1, size)
    return jnp.moveaxis(out, 1, 3).reshape(batch, samples, queries, -1, size)


@functools.cache
def with_reference_gradient(kernel: Callable[..., Array]) -> Callable[..., Array]:
    """`kernel(q, shared, own, scale=, interpret=)` with the gradient of the reference."""

    @functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
    def attention(q, shared, own, scale, interpret):
        return kernel(q, shared, own, scale=scale, interpret=interpret)

    def forward(q, shared, own, scale, interpret):
        return attention(q, shared, own, scale, interpret), (q, shared, own)

    def backward(scale, interpret, saved, d_out):
        attend = functools.partial(decode_attention_reference, scale=scale)
        return jax.vjp(attend, *saved)[1](d_out)

    attention.defvjp(forward, backward)

    def call(
        q: Array, shared: Segment, own: Segment, *, scale: float, interpret: bool = False
    ) -> Array:
        check_shapes(q, shared, own)
        return attention(q, shared, own, scale, interpret)

    return call
