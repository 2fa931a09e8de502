"""Attention masks, True where a query may look."""

import jax.numpy as jnp

from alpamayo_jax.types import Array


def causal_mask(attention_mask: Array) -> Array:
    """Each token sees itself and the real tokens before it.

    Three tokens, the first one padding:

        0 0 0      (a padding query sees nothing; nobody reads its output)
        0 1 0
        0 1 1

    Args:
      attention_mask: bool [B, T], False on padding.

    Returns:
      bool [B, T, T].
    """
    length = attention_mask.shape[-1]
    causal = jnp.tril(jnp.ones((length, length), bool))
    return causal & attention_mask[..., None, :]


def prefix_mask(lengths: Array, size: int) -> Array:
    """True for the first `lengths` of `size` slots: lengths int [...] -> bool [..., size]."""
    return jnp.arange(size) < lengths[..., None]
