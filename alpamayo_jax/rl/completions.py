"""Log-probabilities of completions, K per prompt, in one teacher-forced pass on the shared prefix."""

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.rl.types import RolloutSettings
from alpamayo_jax.types import Array, ModelInputs


def completion_logprobs(
    params: dict,
    inputs: ModelInputs,
    token_ids: Array,
    mask: Array,
    config: ModelConfig,
    settings: RolloutSettings,
    **stack,
) -> tuple[Array, Array]:
    """Log-probability of every drawn token, and the entropy of the distribution it came from.

    At temperature 1 over the ids that could be drawn, as in `Rollouts.logprobs`. The prompt runs
    once whatever K; the gradient passes through both.

    Args:
      params: of the whole policy, adapters included.
      inputs: B prompts.
      token_ids: int32 [B, K, N], completions.
      mask: bool [B, K, N].
      config: model.
      settings: of the rollouts; says which ids could be drawn where.
      **stack: fields of `Alpamayo`: `remat`, `unroll`, `layout`.

    Returns:
      float32 [B, K, N] each; 0 where `mask` is False.
    """
    raise NotImplementedError
