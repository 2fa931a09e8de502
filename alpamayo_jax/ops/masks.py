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


def prefix_steps_mask(step: Array, real: Array) -> Array:
    """Tokens see the real tokens of their own and of earlier time steps.

    Four tokens of steps 0, 1, 0, 1:

        1 0 1 0
        1 1 1 1
        1 0 1 0
        1 1 1 1

    Args:
      step: int [B, S], time step of every token.
      real: bool [B, S], False on tokens that are not there.

    Returns:
      bool [B, S, S].
    """
    return (step[:, None, :] <= step[:, :, None]) & real[:, None, :]


def prefix_mask_of_conversations(prefix: Array, attention_mask: Array) -> Array:
    """Several conversations after one head, each of which sees the head's first steps only.

    Head tokens of steps 1 and 2, then conversations of two tokens about step 1 and about both
    (`prefix` 1 2 -1 -1 -2 -2):

        1 0 0 0 0 0
        1 1 0 0 0 0
        1 0 1 0 0 0
        1 0 1 1 0 0
        1 1 0 0 1 0
        1 1 0 0 1 1

    Args:
      prefix: int [B, T], see `types.ModelInputs.prefix`.
      attention_mask: bool [B, T], False on padding.

    Returns:
      bool [B, T, T].
    """
    key, query = prefix[:, None, :], prefix[:, :, None]
    visible = jnp.where(key >= 0, key <= jnp.abs(query), key == query)
    return causal_mask(attention_mask) & visible
