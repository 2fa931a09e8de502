"""Attention of tokens among themselves, each looking at one run of keys, in plain XLA.

Letters: B batch, T tokens, G key-value heads, N = G R query heads, H head size.
"""

from typing import Any

import chex
import flax.struct
import jax.numpy as jnp

from alpamayo_jax.kernels.attention import KeyRange, Segment, attend_reference
from alpamayo_jax.kernels.rotary import mrope_table, rotate

Array = Any


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
