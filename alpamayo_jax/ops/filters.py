"""Logit filters of the sampler, applied in the order of the release: mask, temperature, top-p."""

import jax
import jax.numpy as jnp

from alpamayo_jax.types import Array


def mask_range(logits: Array, start: int, stop: int) -> Array:
    """Sets ids [start, stop) of logits [..., V] to -inf."""
    ids = jnp.arange(logits.shape[-1])
    return jnp.where((ids >= start) & (ids < stop), -jnp.inf, logits)


def top_p(logits: Array, p: float) -> Array:
    """Keeps the smallest set of most likely ids whose probability reaches p; the rest become -inf.

    As in the release, ids are dropped from the least likely up while the mass dropped stays at or
    under 1 - p; the most likely id always stays. Ids tied with the last one kept stay too.

    Args:
      logits: float32 [..., V].
      p: probability mass to keep, in (0, 1]; 1 keeps everything.
    """
    if p >= 1.0:
        return logits
    ascending = jnp.sort(logits, axis=-1)
    cumulative = jnp.cumsum(jax.nn.softmax(ascending, axis=-1), axis=-1)
    kept = (cumulative > 1.0 - p).at[..., -1].set(True)
    lowest = jnp.min(jnp.where(kept, ascending, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits < lowest, -jnp.inf, logits)


def warp(logits: Array, *, temperature: float, p: float) -> Array:
    """Temperature, then top-p. Temperature must be positive; greedy decoding does not warp."""
    return top_p(logits / temperature, p)
