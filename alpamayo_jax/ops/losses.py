"""Losses on logits."""

import jax
import jax.numpy as jnp

from alpamayo_jax.types import Array


def token_cross_entropy(logits: Array, targets: Array) -> Array:
    """Negative log-likelihood of targets int [...] under logits [..., V], float32 [...]."""
    logits = logits.astype(jnp.float32)
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - picked


def masked_mean(values: Array, mask: Array) -> Array:
    """Mean of values where mask is True; 0 when nothing is."""
    mask = mask.astype(values.dtype)
    return jnp.sum(values * mask) / jnp.maximum(jnp.sum(mask), 1.0)
