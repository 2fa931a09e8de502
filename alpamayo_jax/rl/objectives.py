"""Policy-gradient objectives over groups of completions, as objectives of a train step."""

from typing import Any

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.rl.types import RolloutSettings
from alpamayo_jax.train.objective import Objective

ALGORITHMS = ("paper", "grpo", "dr_grpo", "gspo")
MEANS = ("token_mean", "sequence_mean")
KL = ("none", "k1", "k3")


def make_rl_objective(
    settings: Any, config: ModelConfig, rollouts: RolloutSettings, **stack
) -> Objective:
    """The objective of `settings` on a `RolloutBatch`.

    Of `settings.RLSettings` it reads `algorithm` (see ALGORITHMS), `mean` (see MEANS; dr_grpo has a
    constant instead), `clip_low` 0.2, `clip_high` 0.28, `dual_clip` 10 (0: off), `kl` (see KL),
    `kl_weight`, `entropy_weight`, `beta` (paper).

    With `rollouts.actor` "flow" the expert's chain is trained and the language model is not.

    Args:
      settings: what is minimised.
      config: model.
      rollouts: how the completions were drawn.
      **stack: fields of `Alpamayo`: `remat`, `unroll`, `layout`.

    Raises:
      ConfigError: an unknown name or a number that makes no sense.
    """
    raise NotImplementedError
