"""Losses on logits."""

from typing import Callable

import jax
import jax.numpy as jnp

from alpamayo_jax.types import Array


def token_cross_entropy(logits: Array, targets: Array) -> Array:
    """Negative log-likelihood of targets int [...] under logits [..., V], float32 [...]."""
    logits = logits.astype(jnp.float32)
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - picked


def chunked_cross_entropy(
    logits: Callable[[Array], Array], hidden: Array, targets: Array, wanted: Array, chunk: int
) -> Array:
    """`token_cross_entropy` of many tokens without ever holding the logits of more than `chunk`.

    A chunk in which no token is wanted costs nothing: a prompt is long, what it answers is short.

    Args:
      logits: hidden states [B, C, D] -> [B, C, V].
      hidden: [B, T, D].
      targets: int [B, T].
      wanted: bool [B, T].
      chunk: positions at a time.

    Returns:
      float32 [B, T]; where a token is not wanted, its loss or 0.
    """
    length = targets.shape[1]
    if length <= chunk:
        return token_cross_entropy(logits(hidden), targets)
    count = -(-length // chunk)

    def cut(array):
        # Padded at the end, then one chunk after the other.
        width = [(0, 0), (0, count * chunk - length)] + [(0, 0)] * (array.ndim - 2)
        array = jnp.pad(array, width)
        return jnp.moveaxis(array.reshape(array.shape[0], count, chunk, *array.shape[2:]), 1, 0)

    @jax.checkpoint
    def one(part):
        hidden, targets, wanted = part
        return jax.lax.cond(
            jnp.any(wanted),
            lambda: token_cross_entropy(logits(hidden), targets),
            lambda: jnp.zeros(targets.shape, jnp.float32),
        )

    losses = jax.lax.map(one, (cut(hidden), cut(targets), cut(wanted)))
    return jnp.moveaxis(losses, 0, 1).reshape(targets.shape[0], -1)[:, :length]


def masked_mean(values: Array, mask: Array) -> Array:
    """Mean of values where mask is True; 0 when nothing is."""
    mask = mask.astype(values.dtype)
    return jnp.sum(values * mask) / jnp.maximum(jnp.sum(mask), 1.0)
