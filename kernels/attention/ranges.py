"""Attention masks in which every query sees one run of keys.

Letters: B batch, T tokens.
"""

from typing import Any

import flax.struct
import jax.numpy as jnp

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
