"""Which windows are worth an update (section 5.3.3 of the paper).

A window is rolled out K times. The model's probabilities of the K samples, relative to each other,
and those that the rewards imply, softmax(beta r), diverge most where the policy has most to learn.
The paper keeps windows of large divergence and mixes them with as many random ones; it does not say
which divergence. Here it is the Kullback-Leibler divergence of the model's probabilities from the
rewards', which is large where a sample is good and unlikely.
"""

import chex
import numpy as np
from scipy.special import log_softmax

from alpamayo_jax.config import ConfigError


def divergence(
    logprobs: np.ndarray, rewards: np.ndarray, beta: float, valid: np.ndarray
) -> np.ndarray:
    """KL(softmax(beta r) || softmax(log p)) over the samples of each window.

    Args:
      logprobs: float [B, K], one per sample. Means over a sample's tokens compare samples of
        different length; sums of many tokens leave nearly all probability to one sample.
      rewards: float [B, K].
      beta: 0 or more; how sharply rewards tell samples apart.
      valid: bool [B, K]; the others are left out.

    Returns:
      float64 [B], 0 or more; 0 where fewer than two samples are valid.
    """
    chex.assert_equal_shape([logprobs, rewards, valid])
    chex.assert_rank(logprobs, 2)
    counts = valid & (valid.sum(-1, keepdims=True) > 1)
    model = _log_softmax(logprobs, counts)
    wanted = _log_softmax(beta * np.asarray(rewards, np.float64), counts)
    terms = np.exp(wanted) * (wanted - model)
    return np.maximum(np.where(counts, terms, 0.0).sum(-1), 0.0)


def _log_softmax(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Over the last axis, of what counts; 0 elsewhere."""
    low = np.where(counts, np.asarray(values, np.float64), -np.inf)
    rows = counts.any(-1)
    out = np.zeros(values.shape)
    out[rows] = log_softmax(low[rows], axis=-1)
    return np.where(counts, out, 0.0)


def select(
    scores: np.ndarray, share_random: float, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Rows of the highest scores, and random ones of the rest.

    Args:
      scores: float [B], finite.
      share_random: of `count`, rounded to whole rows, how many are drawn at random instead.
      count: how many rows to keep.
      rng: draws the random ones.

    Returns:
      int64 [count], rising; of equal scores the first rows are kept.

    Raises:
      ConfigError: more rows than there are, or a share outside 0 to 1.
    """
    chex.assert_rank(scores, 1)
    if not 0 < count <= len(scores) or not 0 <= share_random <= 1:
        raise ConfigError(
            f"curation keeps {count} of {len(scores)} windows, a share of {share_random} of them "
            "random; keep 1 to all of them, and a share between 0 and 1"
        )
    order = np.argsort(-np.asarray(scores), kind="stable")
    best = count - round(share_random * count)
    drawn = rng.choice(order[best:], count - best, replace=False)
    return np.sort(np.concatenate([order[:best], drawn]))
