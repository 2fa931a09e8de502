"""Log-probability and entropy of many tokens, without their logits ever being held all at once."""

from typing import Callable

import chex
import jax
import jax.numpy as jnp

from alpamayo_jax.types import Array


def logprob_and_entropy(logits: Array, targets: Array) -> tuple[Array, Array]:
    """Log-softmax of `logits` at `targets`, and the entropy of their softmax.

    Args:
      logits: float [..., V]; ids that cannot be drawn have a large negative finite logit.
      targets: int [...].

    Returns:
      float32 [...] each, in nats.
    """
    chex.assert_equal_shape_prefix([logits, targets], targets.ndim)
    logits = logits.astype(jnp.float32)
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    share = jnp.exp(logits - normaliser[..., None])
    return picked - normaliser, normaliser - jnp.sum(share * logits, axis=-1)


def chunked_statistics(
    logits: Callable[[Array], Array], hidden: Array, targets: Array, chunk: int
) -> tuple[Array, Array]:
    """`logprob_and_entropy` of hidden states, `chunk` positions at a time; logits are not kept.

    Args:
      logits: hidden states [..., C, D] -> [..., C, V].
      hidden: [..., T, D].
      targets: int [..., T].
      chunk: positions whose logits are held at a time.

    Returns:
      float32 [..., T] each.
    """
    chex.assert_shape(hidden, (*targets.shape, None))
    length = targets.shape[-1]
    count = -(-length // chunk)
    if count < 2:
        return logprob_and_entropy(logits(hidden), targets)

    def cut(array, axis):
        # Padded at the end, then one chunk after the other.
        width = [(0, 0)] * array.ndim
        width[axis] = (0, count * chunk - length)
        array = jnp.pad(array, width)
        shape = (*array.shape[:axis], count, chunk, *array.shape[axis + 1 :])
        return jnp.moveaxis(array.reshape(shape), axis, 0)

    @jax.checkpoint
    def one(part):
        return logprob_and_entropy(logits(part[0]), part[1])

    axis = targets.ndim - 1
    out = jax.lax.map(one, (cut(hidden, axis), cut(targets, axis)))
    return jax.tree.map(
        lambda a: jnp.moveaxis(a, 0, axis).reshape(*targets.shape[:-1], -1)[..., :length], out
    )
