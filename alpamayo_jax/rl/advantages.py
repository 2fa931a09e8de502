"""Rewards of a group of samples to advantages."""

import chex
import numpy as np

from alpamayo_jax.config import ConfigError
from alpamayo_jax.types import Array, InputError

ADVANTAGES = ("standardised", "centred")
STD_EPSILON = 1e-6


def group_advantages(rewards: Array, valid: Array, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """How much better each sample is than its group; on the host.

    Args:
      rewards: float [B, K].
      valid: bool [B, K]; samples without a reward do not enter the group's mean, nor do they count.
      kind: "standardised", (r - mean) / (population std + 1e-6), as released; "centred", r - mean,
        as in equation 10 of the paper and in Dr. GRPO.

    Returns:
      advantages float32 [B, K], 0 where not valid, and counts float32 [B, K]: 1 where valid, 0 in
      groups with fewer than two valid samples, which say nothing.

    Raises:
      ConfigError: unknown kind.
      InputError: a valid reward that is not finite.
    """
    if kind not in ADVANTAGES:
        raise ConfigError(f"advantage {kind!r} is unknown; known: {', '.join(ADVANTAGES)}")
    rewards, valid = np.asarray(rewards, np.float64), np.asarray(valid, bool)
    chex.assert_rank(rewards, 2)
    chex.assert_equal_shape([rewards, valid])
    bad = np.argwhere(valid & ~np.isfinite(rewards))
    if len(bad):
        row, sample = bad[0]
        raise InputError(
            f"reward of prompt {row}, sample {sample} is {rewards[row, sample]}; mark a sample "
            f"that has no reward as not valid"
        )
    counted = valid & (valid.sum(-1, keepdims=True) > 1)
    size = np.maximum(counted.sum(-1, keepdims=True), 1)
    mean = np.where(counted, rewards, 0).sum(-1, keepdims=True) / size
    centred = np.where(counted, rewards - mean, 0)
    if kind == "standardised":
        centred /= np.sqrt(np.square(centred).sum(-1, keepdims=True) / size) + STD_EPSILON
    return centred.astype(np.float32), counted.astype(np.float32)
