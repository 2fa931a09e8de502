"""Attention of a flow step: norms, rotary positions and the softmax over three groups of keys."""

from typing import Any

import chex
import flax.struct
import jax
import jax.numpy as jnp

from alpamayo_jax.kernels.attention import Segment, attend_reference
from alpamayo_jax.kernels.rotary import rotate

Array = Any


@flax.struct.dataclass
class Keys:
    """Keys and values computed before the flow began; the keys are normalised and rotated.

    Attributes:
      k: [B, G, S, H] where all samples share it, [B, K, G, S, H] where each has its own.
      v: as k.
      mask: bool [B, S] or [B, K, S]; True for keys that count.
    """

    k: Array
    v: Array
    mask: Array


def normed_and_rotated(x: Array, norm: Array, cos: Array, sin: Array, eps: float) -> Array:
    """RMS norm of every head, then its rotation; float32 within, the type of x after each of both.

    Args:
      x: [..., T, N, H].
      norm: [H], weights of the norm.
      cos, sin: [..., T, H]; the first half of H pairs with the second.
      eps: of the norm.
    """
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    wide = (wide * norm.astype(jnp.float32)).astype(x.dtype).astype(jnp.float32)
    return rotate(wide, cos.astype(jnp.float32), sin.astype(jnp.float32)).astype(x.dtype)


def flow_attention_reference(
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
) -> Array:
    """What `flow_attention` computes, see there."""
    check_shapes(q, k, v, q_norm, k_norm, cos, sin, shared, own)
    q = normed_and_rotated(q, q_norm, cos, sin, eps)
    k = jnp.swapaxes(normed_and_rotated(k, k_norm, cos, sin, eps), -3, -2)
    everyone = jnp.ones((1, 1, q.shape[2], q.shape[2]), bool)
    segments = (
        Segment(k=shared.k, v=shared.v, mask=shared.mask[:, None, None, :]),
        Segment(k=own.k, v=own.v, mask=own.mask[:, :, None, :]),
        Segment(k=k, v=jnp.swapaxes(v, -3, -2), mask=everyone),
    )
    return attend_reference(q, segments, scale=scale)


def check_shapes(
    q: Array,
    k: Array,
    v: Array,
    q_norm: Array,
    k_norm: Array,
    cos: Array,
    sin: Array,
    shared: Keys,
    own: Keys,
) -> None:
    """Raises `AssertionError` for arguments whose shapes do not fit together."""
    chex.assert_rank([q, k, shared.k, own.k], [5, 5, 4, 5])
    batch, samples, waypoints, heads, size = q.shape
    groups, prefix, suffix = k.shape[3], shared.k.shape[2], own.k.shape[3]
    chex.assert_is_divisible(heads, groups)
    chex.assert_shape([k, v], (batch, samples, waypoints, groups, size))
    chex.assert_shape([q_norm, k_norm], (size,))
    chex.assert_shape([cos, sin], (batch, samples, waypoints, size))
    chex.assert_shape([shared.k, shared.v], (batch, groups, prefix, size))
    chex.assert_shape(shared.mask, (batch, prefix))
    chex.assert_shape([own.k, own.v], (batch, samples, groups, suffix, size))
    chex.assert_shape(own.mask, (batch, samples, suffix))
