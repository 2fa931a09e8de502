"""Attention of tokens among themselves, each looking at one run of keys, in plain XLA.

Letters: B batch, T tokens, G key-value heads, N = G R query heads, H head size.
"""

from typing import Any

import chex
import flax.struct
import jax.numpy as jnp

from alpamayo_jax.kernels.attention import Segment, attend_reference
from alpamayo_jax.kernels.rotary import mrope_table, rotate

Array = Any


@flax.struct.dataclass
class KeyRange:
    """Query t of row b sees the keys first[b, t] <= s < end[b, t]; none where first >= end.

    Causal order, padding on either side, packed documents and images side by side are all of this
    kind, and a kernel can skip the blocks of keys that none of its queries sees.

    Attributes:
      first: int32 [B, T].
      end: int32 [B, T].
    """

    first: Array
    end: Array

    def mask(self, size: int) -> Array:
        """bool [B, T, size]."""
        key = jnp.arange(size)
        return (self.first[..., None] <= key) & (key < self.end[..., None])


@flax.struct.dataclass
class MRope:
    """Rotary positions to be applied to queries and keys, see `rotary.mrope_table`.

    Attributes:
      position_ids: int32 [3, B, T].
      section: frequencies per axis.
      theta: base.
    """

    position_ids: Array
    section: tuple[int, int, int] = flax.struct.field(pytree_node=False)
    theta: float = flax.struct.field(pytree_node=False)

    def half_tables(self, head_dim: int) -> tuple[Array, Array]:
        """Cosine and sine float32 [B, T, H / 2], which both halves of a head share."""
        tables = mrope_table(self.position_ids, head_dim, self.section, self.theta)
        return tuple(table[..., : head_dim // 2] for table in tables)


def causal_range(attention_mask: Array) -> KeyRange:
    """Each token sees itself and the real tokens before it; as `ops.masks.causal_mask`.

    Args:
      attention_mask: bool [B, T], padding before or after one run of real tokens.
    """
    size = attention_mask.shape[-1]
    place = jnp.arange(size, dtype=jnp.int32)
    first = jnp.where(attention_mask, place, size).min(-1, keepdims=True)
    end = jnp.where(attention_mask, place + 1, 0).max(-1, keepdims=True)
    shape = attention_mask.shape
    return KeyRange(
        first=jnp.broadcast_to(first, shape).astype(jnp.int32),
        end=jnp.minimum(place + 1, end).astype(jnp.int32),
    )


def prefix_range(lengths: Array, size: int) -> KeyRange:
    """All `size` queries see the first `lengths` [B] keys: patches of an image, padded."""
    end = jnp.broadcast_to(lengths[:, None], (lengths.shape[0], size)).astype(jnp.int32)
    return KeyRange(first=jnp.zeros_like(end), end=end)


def segment_range(lengths: Array, size: int) -> KeyRange:
    """Block-diagonal: segments one after another, each seeing itself alone; padding sees nothing.

    Args:
      lengths: int [B, segments], in order; their sum is at most `size`.
      size: T.
    """
    ends = jnp.cumsum(lengths, axis=-1)
    place = jnp.arange(size)
    index = (place[None, :, None] >= ends[:, None, :]).sum(-1)  # of the segment; past the last: all
    starts = jnp.pad(ends, ((0, 0), (1, 0)))
    ends = jnp.pad(ends, ((0, 0), (0, 1)))  # an end of 0 for padding
    return KeyRange(
        first=jnp.take_along_axis(starts, index, axis=-1).astype(jnp.int32),
        end=jnp.take_along_axis(ends, index, axis=-1).astype(jnp.int32),
    )


def check_shapes(q: Array, k: Array, v: Array, keys: KeyRange, rope: MRope | None) -> None:
    """Raises AssertionError (chex) or ValueError where shapes do not belong together."""
    batch, tokens, heads, size = q.shape
    kv_heads = k.shape[1]
    chex.assert_shape([k, v], (batch, kv_heads, tokens, size))
    chex.assert_shape([keys.first, keys.end], (batch, tokens))
    if heads % kv_heads:
        raise ValueError(f"{heads} query heads are not a multiple of {kv_heads} key-value heads")
    if rope is not None:
        chex.assert_shape(rope.position_ids, (3, batch, tokens))


def prefill_attention_reference(
    q: Array, k: Array, v: Array, keys: KeyRange, rope: MRope | None = None, *, scale: float
) -> Array:
    """See `prefill_attention`."""
    check_shapes(q, k, v, keys, rope)
    if rope is not None:
        cos, sin = mrope_table(rope.position_ids, q.shape[-1], rope.section, rope.theta)
        q = rotate(q.astype(jnp.float32), cos, sin).astype(q.dtype)
        k = rotate(jnp.swapaxes(k, 1, 2).astype(jnp.float32), cos, sin).astype(k.dtype)
        k = jnp.swapaxes(k, 1, 2)
    return attend_reference(q, [Segment(k=k, v=v, mask=keys.mask(k.shape[2]))], scale=scale)
