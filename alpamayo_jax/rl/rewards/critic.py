"""The critic of reasoning that settings ask for."""

import os

from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.rl.rewards.base import Reward
from alpamayo_jax.rl.rewards.reasoning import StructuredReasoning
from alpamayo_jax.settings import RewardSettings

CRITICS = ("structured", "endpoint", "local")


def make_critic(
    settings: RewardSettings,
    workdir: str | os.PathLike | None = None,
    policy: Policy | None = None,
) -> Reward:
    """The component "reasoning"; arguments as in `TotalReward.from_config`.

    Raises:
      ConfigError: an unknown critic, or one that lacks what it needs.
    """
    if settings.critic == "structured" or not settings.reasoning:
        return StructuredReasoning()
    raise ConfigError(
        f"reward.critic {settings.critic!r} is unknown; known: {', '.join(CRITICS)}"
    )
