"""What policy-gradient objectives are made of: pure functions of log-probabilities.

Log-probabilities: `logprobs` of the policy that trains, `old` of the one that made the rollouts,
`ref` of the one it should not leave. A negative sign turns what is to be large into a loss.
"""

import jax
import jax.numpy as jnp

from alpamayo_jax.types import Array

MAX_LOG_RATIO = 20.0  # as released: exp of more overflows before the clip of the ratio is reached


def probability_ratio(logprobs: Array, old: Array) -> Array:
    """exp(logprobs - old), the exponent limited to +-20 as released."""
    return jnp.exp(jnp.clip(logprobs - old, -MAX_LOG_RATIO, MAX_LOG_RATIO))


def clipped_surrogate(
    ratio: Array, advantage: Array, low: float, high: float, dual: float = 0.0
) -> Array:
    """The clipped policy-gradient loss, with a bound where the advantage is negative (dual clip).

    -min(ratio A, clip(ratio, 1 - low, 1 + high) A); where A < 0 also at most -dual A. The release
    has low 0.2, high 0.28 and dual 10.

    Args:
      ratio: [...].
      advantage: [...], broadcast.
      low: of the clip.
      high: of the clip.
      dual: bound in advantages; 0: none.
    """
    loss = -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - low, 1 + high) * advantage)
    if not dual:
        return loss
    return jnp.where(advantage < 0, jnp.minimum(loss, -dual * advantage), loss)


def is_clipped(ratio: Array, advantage: Array, low: float, high: float) -> Array:
    """Whether the clip (not the dual one) stops the gradient, bool [...]."""
    return jnp.where(advantage < 0, ratio < 1 - low, (ratio > 1 + high) & (advantage > 0))


def divergence(logprobs: Array, ref: Array, estimator: str) -> Array:
    """Estimates the divergence KL(policy || reference) of one draw from the policy.

    With d = ref - logprobs: "k1" is -d, without bias; "k3" is exp(d) - d - 1, never negative and
    of little variance, as in the release. The gradient of k1's value has mean zero, so "k1" here
    has the gradient of d^2 / 2, which is that of the divergence.
    """
    d = jnp.clip(ref - logprobs, -MAX_LOG_RATIO, MAX_LOG_RATIO)
    if estimator == "k3":
        return jnp.exp(d) - d - 1.0
    half_square = 0.5 * jnp.square(d)
    return half_square + jax.lax.stop_gradient(-d - half_square)


def softmax_weights(advantages: Array, counts: Array, beta: float) -> Array:
    """exp(beta A_i) / sum_j exp(beta A_j) over a group (equation 10); what does not count has 0.

    Args:
      advantages: float32 [B, K].
      counts: float32 [B, K].
      beta: inverse temperature.

    Returns:
      float32 [B, K]; every group that counts adds up to 1.
    """
    scores = jnp.where(counts > 0, beta * advantages, -jnp.inf)
    highest = jnp.max(jnp.where(counts > 0, scores, -jnp.finfo(jnp.float32).max), -1, keepdims=True)
    shares = jnp.where(counts > 0, jnp.exp(scores - highest), 0.0) * counts
    total = shares.sum(-1, keepdims=True)
    return shares / jnp.where(total > 0, total, 1.0)
