"""Rewards of a policy on windows that it does not train on."""

from typing import Sequence

import jax
import numpy as np
import tqdm

from alpamayo_jax.data.sources import Window
from alpamayo_jax.rl.prompts import Prompts
from alpamayo_jax.rl.rewards.base import Episodes
from alpamayo_jax.rl.rewards.total import TotalReward
from alpamayo_jax.rl.sampler import Sampler, episodes, everyone
from alpamayo_jax.rl.types import Rollouts


def evaluate_rewards(
    sampler: Sampler,
    params: dict,
    prompts: Prompts,
    windows: Sequence[Window],
    reward: TotalReward,
    *,
    batch_size: int,
    rng: jax.Array,
    progress: bool = True,
) -> dict[str, float]:
    """Samples every window K times and scores the samples.

    Args:
      sampler: how to sample; K is its `num_samples`.
      params: of the policy, where the sampler's program has them.
      prompts: of the source of the windows.
      windows: (clip number, t0).
      reward: the components.
      batch_size: windows per program call, over all processes.
      rng: key; every call has its own.
      progress: show a bar.

    Returns:
      Means over samples of "reward" and of every component; "ade" in metres without the reward's
      limit, beside "ade_most_likely" (of the sample the policy finds most likely) and "min_ade" (of
      the best), which leave out samples without a whole trajectory; "num_tokens" of a sample, the
      shares "ended" and "trajectory_valid", and "unscored", the share that a critic failed on. NaN
      where nothing could be measured.
    """
    index, parts = sampler.shard
    own, ready = batch_size // parts, sampler.ready(params)
    table: dict[str, list[np.ndarray]] = {}
    counts: dict[str, list[np.ndarray]] = {}
    bar = tqdm.tqdm(total=len(windows), desc="rewards", unit="window", disable=not progress)
    with bar:
        for start in range(0, len(windows), batch_size):
            # The last batch is filled up by repetition, so that one program serves all batches.
            rows = start + index * own + np.arange(own)
            chosen = [windows[row % len(windows)] for row in rows]
            situations = [prompts.situation(window) for window in chosen]
            key = jax.random.fold_in(rng, start)
            rollouts = sampler(ready, prompts.inputs(situations), key)
            tokenizer = prompts.processor.tokenizer
            limit = sampler.settings.max_reasoning_tokens
            played = episodes(rollouts, situations, tokenizer, limit)
            _, scores = reward(played)
            found = {
                name: (one.values, one.valid & one.measured) for name, one in scores.items()
            } | _further(played, rollouts, scores["reward"].valid)
            real = rows < len(windows)
            for name, (values, counted) in found.items():
                table.setdefault(name, []).append(values)
                counts.setdefault(name, []).append(counted & real[:, None])
            bar.update(min(batch_size, len(windows) - start))
    values, counted = everyone(
        (
            {name: np.concatenate(parts) for name, parts in table.items()},
            {name: np.concatenate(parts) for name, parts in counts.items()},
        )
    )
    return {name: _mean(values[name], counted[name]) for name in values}


def _further(played: Episodes, rollouts: Rollouts, scored: np.ndarray) -> dict:
    """Name -> (values, which count), [B, K], or [B, 1] for what a window has one of."""
    wanted = np.stack([s.target.ego_future_xyz for s in played.situations])[:, None]
    ade = np.linalg.norm((played.xyz - wanted)[..., :2], axis=-1).mean(-1)
    valid = played.trajectory_valid
    likely = np.where(valid, sample_logprobs(rollouts), -np.inf).argmax(-1)[:, None]
    some, all_samples = valid.any(-1, keepdims=True), np.ones_like(valid)
    best = np.where(valid, ade, np.inf).min(-1, keepdims=True)
    return {
        "ade": (ade, valid),
        "ade_most_likely": (np.take_along_axis(ade, likely, -1), some),
        "min_ade": (np.where(some, best, 0), some),
        "num_tokens": (played.num_tokens, all_samples),
        "ended": (played.ended, all_samples),
        "trajectory_valid": (valid, all_samples),
        "unscored": (~scored, all_samples),
    }


def sample_logprobs(rollouts: Rollouts) -> np.ndarray:
    """Log-probability of each sample: its drawn tokens and, where a flow was drawn, its steps, [B, K]."""
    total = np.asarray(rollouts.logprobs).sum(-1)
    if rollouts.flow is not None:
        total = total + np.asarray(rollouts.flow.logprobs).sum(-1)
    return total


def _mean(values: np.ndarray, counts: np.ndarray) -> float:
    return float(np.asarray(values, float)[counts].mean()) if counts.any() else float("nan")
