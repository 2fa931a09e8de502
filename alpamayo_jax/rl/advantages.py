"""Rewards of a group of samples to advantages."""

import numpy as np

from alpamayo_jax.types import Array

ADVANTAGES = ("standardised", "centred")
STD_EPSILON = 1e-6


def group_advantages(
    rewards: Array, valid: Array, kind: str, *, clip: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """How much better each sample is than its group; on the host.

    Args:
      rewards: float [B, K].
      valid: bool [B, K]; samples without a reward do not enter the group's mean, and do not count.
      kind: "standardised", (r - mean) / (population std + 1e-6), as released; "centred", r - mean,
        as in the paper's equation 10 and in Dr. GRPO.
      clip: largest magnitude of an advantage; 0: any.

    Returns:
      advantages float32 [B, K], 0 where not valid, and counts float32 [B, K]: 1 where valid, 0 in
      groups with fewer than two valid samples, which say nothing.

    Raises:
      ConfigError: unknown kind.
      InputError: a valid reward that is not finite.
    """
    raise NotImplementedError
