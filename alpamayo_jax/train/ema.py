"""Exponential moving average of the trained parameters."""

import jax
import jax.numpy as jnp

from alpamayo_jax.train import partition
from alpamayo_jax.types import Array


def init(trainable: dict) -> dict:
    """The average before the first step: the parameters themselves, in float32 at least."""
    return jax.tree.map(lambda p: p.astype(jnp.promote_types(p.dtype, jnp.float32)), trainable)


def update(average: dict, trainable: dict, decay: float, step: Array) -> dict:
    """One step of the average.

    Args:
      average: from `init` or the last step.
      trainable: the new parameters, None in place of frozen ones.
      decay: share of the old average in the long run.
      step: int [], steps done before this one. Early on the decay is at most (1 + step) /
        (10 + step), so that the start is forgotten.
    """
    early = (1.0 + step.astype(jnp.float32)) / (10.0 + step.astype(jnp.float32))
    new = 1.0 - jnp.minimum(decay, early)
    return jax.tree.map(lambda a, p: a + new.astype(a.dtype) * (p.astype(a.dtype) - a), average, trainable)


def averaged_params(params: dict, average: dict) -> dict:
    """The whole parameters with the average in place of the trained ones, in the parameters' types."""
    merged = partition.merge(average, params)
    return jax.tree.map(lambda a, p: a.astype(p.dtype), merged, params)
