"""The reward that a policy is trained on: a weighted sum of components.

Every component is scaled to its range: what is good counts from 0 to 1, a cost from -1 to 0, each
times its weight. A sample that a critic could not score has no reward: it is left out and counted.
"""

import os
from typing import Mapping, Sequence

import numpy as np

from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.policy import Policy, load_policy
from alpamayo_jax.rl.rewards.base import Episodes, Reward, Scores
from alpamayo_jax.rl.rewards.consistency import Consistency
from alpamayo_jax.rl.rewards.critic import endpoint_critic
from alpamayo_jax.rl.rewards.driving import Collision, Comfort, Imitation, Jerk
from alpamayo_jax.rl.rewards.format import Format
from alpamayo_jax.rl.rewards.local_critic import LocalCritic
from alpamayo_jax.rl.rewards.reasoning import StructuredReasoning
from alpamayo_jax.settings import RewardSettings

CRITICS = ("structured", "endpoint", "local")


class TotalReward:
    """Weighted sum of rewards."""

    def __init__(self, rewards: Sequence[Reward], weights: Mapping[str, float]):
        """Takes the components.

        Args:
          rewards: in the order in which they are logged.
          weights: 0 or more per name; a reward without one, or with 0, is only logged.

        Raises:
          ConfigError: a weight below 0 or without a reward, two rewards of one name, or none that
            counts.
        """
        self.rewards, self.weights = tuple(rewards), dict(weights)
        names = [reward.name for reward in self.rewards]
        if len(set(names)) != len(names):
            raise ConfigError(f"rewards: names repeat: {names}")
        for name, weight in self.weights.items():
            if name not in names or not 0 <= weight < np.inf:
                raise ConfigError(
                    f"rewards: weight {name} is {weight}; weights of {', '.join(names)} are 0 or "
                    "more"
                )
        if not any(self.weights.values()):
            raise ConfigError("rewards: every weight is 0; at least one component must count")

    def __call__(self, episodes: Episodes) -> tuple[Scores, dict[str, Scores]]:
        """(the total, the components under their names, the total again as "reward")."""
        values = np.zeros(episodes.shape, np.float32)
        valid = np.ones(episodes.shape, bool)
        components = {}
        for reward in self.rewards:
            scores = components[reward.name] = reward(episodes)
            weight = self.weights.get(reward.name, 0.0)
            if weight:
                share = (scores.values - reward.low) / (reward.high - reward.low)
                values += np.float32(weight) * np.where(reward.cost, -share, share)
                valid &= scores.valid
        total = Scores(np.where(valid, values, 0).astype(np.float32), valid, valid)
        return total, components | {"reward": total}

    @classmethod
    def from_config(
        cls,
        settings: RewardSettings,
        workdir: str | os.PathLike | None = None,
        policy: Policy | None = None,
    ) -> "TotalReward":
        """The reward that settings ask for.

        Args:
          settings: weights and the critic.
          workdir: where a critic's answers are kept unless the settings name a folder; None keeps
            none.
          policy: critic "local": answers the critic's questions, in place of the checkpoint that
            `critic_model` names.

        Raises:
          ConfigError: a setting that makes no sense.
        """
        if not settings.max_ade > 0:
            raise ConfigError(f"reward.max_ade is {settings.max_ade}, not above 0")
        rewards = [
            make_critic(settings, workdir, policy),
            Consistency(),
            Imitation(settings.max_ade),
            Collision(),
            Jerk(),
            Comfort(),
            Format(),
        ]
        weights = {"ade": settings.imitation} | {
            name: getattr(settings, name)
            for name in ("reasoning", "consistency", "collision", "jerk", "comfort", "format")
        }
        return cls(rewards, weights)


def make_critic(
    settings: RewardSettings,
    workdir: str | os.PathLike | None = None,
    policy: Policy | None = None,
) -> Reward:
    """The component "reasoning"; arguments as in `TotalReward.from_config`.

    Where reasoning has no weight it is the structured one, which costs nothing.

    Raises:
      ConfigError: an unknown critic, or one that lacks what it needs.
      InputError: `critic_model` is no checkpoint.
    """
    if settings.critic not in CRITICS:
        known = ", ".join(CRITICS)
        raise ConfigError(f"reward.critic {settings.critic!r} is unknown; known: {known}")
    if settings.critic == "structured" or not settings.reasoning:
        return StructuredReasoning()
    if settings.critic == "endpoint":
        return endpoint_critic(settings, workdir)
    if policy is None and not settings.critic_model:
        raise ConfigError("reward.critic 'local' needs a checkpoint directory as critic_model")
    return LocalCritic(load_policy(settings.critic_model) if policy is None else policy)
