"""Reward of a generated trajectory: nearness to the recorded one, comfort and, if asked, reasoning.

The released model's rules. Where the mean distance stays below `max_ade`,

    reward = -ade ADE / max_ade + comfort (C - 1) + reasoning S / min_reasoning

with C the passed fraction of the comfort checks and S in (-1, 0] a judge's score of the reasoning;
elsewhere, or where S is not above -min_reasoning, it is `failure`. The release divides S by
-min_reasoning, which pays most for the worst reasoning that is still accepted; here good reasoning
pays. A negative `reasoning` weight gives the release's numbers.
"""

import dataclasses
from typing import Callable, Sequence

import chex
import flax.struct
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.action import unicycle
from alpamayo_jax.config import ActionSpaceConfig, ConfigError, TrajectoryTokenConfig
from alpamayo_jax.metrics import dynamics
from alpamayo_jax.tokens import trajectory as trajectory_tokens
from alpamayo_jax.types import Array, Trajectory


@dataclasses.dataclass(frozen=True)
class RewardWeights:
    """Weights of the reward; the defaults are the released ones without a judge of reasoning.

    Attributes:
      ade: weight of the distance.
      comfort: weight of comfort.
      reasoning: weight of the reasoning score; 0 leaves reasoning out, gate included.
      max_ade: metres; at or beyond it the reward is `failure`.
      min_reasoning: a score at or below minus this is a failure.
      failure: reward of a failure.
    """

    ade: float = 0.4
    comfort: float = 0.1
    reasoning: float = 0.0
    max_ade: float = 3.0
    min_reasoning: float = 0.4
    failure: float = -1.0

    def __post_init__(self):
        if self.max_ade <= 0 or self.min_reasoning <= 0:
            raise ConfigError(
                f"reward weights: max_ade {self.max_ade} and min_reasoning {self.min_reasoning} "
                "must be positive"
            )


PLAIN = RewardWeights()
WITH_REASONING = RewardWeights(ade=0.2, comfort=0.0, reasoning=0.3)


@flax.struct.dataclass
class Reward:
    """A reward and what it is made of, each [...].

    Attributes:
      reward: float32.
      ade: float32, mean planar distance in metres.
      comfort: float32 in [0, 1], fraction of the comfort checks passed.
      malformed: bool; the trajectory was decoded from ids that are not one whole trajectory. Its
        reward is what the released rules give all the same.
    """

    reward: Array
    ade: Array
    comfort: Array
    malformed: Array


def trajectory_reward(
    xyz: Array,
    rot: Array,
    gt_xyz: Array,
    weights: RewardWeights = PLAIN,
    reasoning_score: Array | None = None,
    dt: float = 0.1,
) -> Reward:
    """Rewards trajectories against the recorded ones.

    Args:
      xyz: [..., W, 3] metres.
      rot: [..., W, 3, 3].
      gt_xyz: [..., W, 3], same frame and batch dimensions.
      weights: see `RewardWeights`.
      reasoning_score: [...] in [-1, 0], a judge's probability minus one; -1 where the reasoning or
        its label is missing. Needed exactly when `weights.reasoning` is not 0.
      dt: seconds between waypoints.

    Raises:
      ConfigError: a score without a weight, or a weight without a score.
    """
    chex.assert_equal_shape([xyz, gt_xyz])
    chex.assert_shape(rot, (*xyz.shape, 3))
    if (weights.reasoning != 0) != (reasoning_score is not None):
        given = "without" if reasoning_score is None else "with"
        raise ConfigError(
            f"reward weight `reasoning` is {weights.reasoning}, but rewards were asked {given} "
            "reasoning scores"
        )
    ade = jnp.mean(jnp.linalg.norm((xyz - gt_xyz)[..., :2], axis=-1), axis=-1)
    comfort = dynamics.comfort(xyz, rot, dt=dt)
    accepted = ade < weights.max_ade
    reward = -weights.ade * ade / weights.max_ade + weights.comfort * (comfort - 1.0)
    if reasoning_score is not None:
        chex.assert_equal_shape([reasoning_score, ade])
        accepted &= reasoning_score > -weights.min_reasoning
        reward += weights.reasoning * reasoning_score / weights.min_reasoning
    return Reward(
        reward=jnp.where(accepted, reward, weights.failure),
        ade=ade,
        comfort=comfort,
        malformed=jnp.zeros(ade.shape, bool),
    )


def decode_generated(
    ids: Array,
    history_xyz: Array,
    history_rot: Array,
    tokens: TrajectoryTokenConfig,
    action: ActionSpaceConfig,
    start_id: int,
    end_id: int,
) -> tuple[Trajectory, Array]:
    """Trajectories in generated ids, and whether the ids were one whole trajectory each.

    Args:
      ids: int32 [..., T], padded with any id that is no trajectory id.
      history_xyz: [..., H, 3].
      history_rot: [..., H, 3, 3].
      tokens: layout of the trajectory ids.
      action: action space.
      start_id: id of <|traj_future_start|>.
      end_id: id of <|traj_future_end|>.

    Returns:
      Trajectories [..., W, 3] and bool [...]; missing ids count as bin 0, as released.
    """
    bins, valid = trajectory_tokens.extract_future(ids, tokens, start_id, end_id)
    actions = trajectory_tokens.decode_future(bins, tokens)
    return unicycle.action_to_trajectory(actions, history_xyz, history_rot, action), valid


def reward_from_ids(
    ids: Array,
    history_xyz: Array,
    history_rot: Array,
    gt_xyz: Array,
    tokens: TrajectoryTokenConfig,
    action: ActionSpaceConfig,
    start_id: int,
    end_id: int,
    weights: RewardWeights = PLAIN,
    reasoning_score: Array | None = None,
) -> Reward:
    """`trajectory_reward` of `decode_generated`, with malformed ids flagged."""
    found, valid = decode_generated(
        ids, history_xyz, history_rot, tokens, action, start_id, end_id
    )
    reward = trajectory_reward(found.xyz, found.rot, gt_xyz, weights, reasoning_score, action.dt)
    return reward.replace(malformed=~valid)


def ids_of_texts(
    texts: Sequence[str], encode: Callable[[str], Sequence[int]], pad_id: int = -1
) -> np.ndarray:
    """Ids of generated texts as one array, int32 [B, T], padded on the right with `pad_id`."""
    rows = [list(encode(text)) for text in texts]
    ids = np.full((len(rows), max(map(len, rows), default=0)), pad_id, np.int32)
    for row, values in zip(ids, rows):
        row[: len(values)] = values
    return ids
