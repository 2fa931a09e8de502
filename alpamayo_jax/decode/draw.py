"""Tokens from logits: one draw per row and sample."""

import jax
import jax.numpy as jnp

from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.ops import filters
from alpamayo_jax.types import Array


def draw(
    logits: Array, rng: jax.Array, index: Array | int, settings: SampleSettings
) -> tuple[Array, Array]:
    """Draws a token for every sample, or takes the most likely one if `settings.greedy`.

    Args:
      logits: float32 [B, K, V]; -inf for ids that may not be drawn.
      rng: key of the whole generation, or one per row [B].
      index: how many tokens stand before this one, for all or for each sample [B, K]. What sample k
        of row b draws does not depend on B and K.
      settings: temperature and nucleus.

    Returns:
      Tokens int32 [B, K], and their log-probabilities under `logits` at temperature 1, float32.
    """
    if settings.greedy:
        token = jnp.argmax(logits, axis=-1)
    else:
        warped = filters.warp(logits, temperature=settings.temperature, p=settings.top_p)
        keys = _sample_keys(rng, index, *logits.shape[:2])
        token = jax.vmap(jax.vmap(jax.random.categorical))(keys, warped)
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), token[..., None], axis=-1)
    return token.astype(jnp.int32), picked[..., 0]


def _sample_keys(rng: jax.Array, index: Array | int, batch: int, samples: int) -> jax.Array:
    """One key per row and sample for token `index`."""
    index = jnp.broadcast_to(index, (batch, samples))
    if rng.ndim:
        one = lambda key, own: _sample_keys(key, own[None], 1, samples)[0]  # noqa: E731
        return jax.vmap(one)(rng, index)
    place = jnp.arange(batch)[:, None] * 65_536 + jnp.arange(samples)

    def key(i, own):
        return jax.random.fold_in(jax.random.fold_in(rng, i), own)

    return jax.vmap(jax.vmap(key))(index, place)
