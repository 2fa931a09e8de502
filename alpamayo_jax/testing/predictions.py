"""Predictions with known errors, for tests of what is done with predictions."""

from typing import Sequence

import numpy as np

from alpamayo_jax.types import Prediction, Target


def shifted_prediction(
    target: Target,
    offsets: Sequence[float],
    reasoning: Sequence[str] | None = None,
    reasoning_logprob: Sequence[float] | None = None,
    trajectory_logprob: Sequence[float] | None = None,
) -> Prediction:
    """The recorded future, every sample moved sideways as a whole.

    Args:
      target: what was driven; W waypoints.
      offsets: K distances to the left, metres.
      reasoning: K texts; empty ones by default.
      reasoning_logprob: K values; by default the first sample is the most likely.
      trajectory_logprob: K values, or None.
    """
    count = len(offsets)
    shift = np.zeros((count, 1, 3), np.float32)
    shift[:, 0, 1] = offsets
    if reasoning_logprob is None:
        reasoning_logprob = -np.arange(count, dtype=np.float32)
    logprob = np.asarray(reasoning_logprob, np.float32)
    rot = target.ego_future_rot
    return Prediction(
        xyz=target.ego_future_xyz + shift,
        rot=np.broadcast_to(rot, (count, *rot.shape)).copy(),
        actions=np.zeros((count, len(rot), 2), np.float32),
        reasoning=tuple(reasoning or [""] * count),
        meta_action=("",) * count,
        token_ids=np.zeros((count, 1), np.int32),
        token_logprobs=logprob[:, None],
        reasoning_logprob=logprob,
        ended=np.ones(count, bool),
        trajectory_logprob=(
            None if trajectory_logprob is None else np.asarray(trajectory_logprob, np.float32)
        ),
    )
