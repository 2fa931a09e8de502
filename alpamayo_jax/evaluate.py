"""Open-loop evaluation of a policy on windows of recorded or simulated clips, beside baselines."""

import dataclasses
import functools
import time
from typing import Any, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from alpamayo_jax.data.sources import ClipSource, Window
from alpamayo_jax.data.windows import observe, target
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.sample import sample
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.metrics import baselines, open_loop
from alpamayo_jax.types import InputError, Observation, Prediction, Target

BASELINES = {
    "constant_velocity": baselines.constant_velocity,
    "constant_turn_rate": baselines.constant_turn_rate_and_acceleration,
}


@dataclasses.dataclass(frozen=True)
class WindowResult:
    """One evaluated window.

    Attributes:
      clip_id: the clip.
      window: (number of the clip in its source, t0).
      observation: what the policy saw.
      target: what was driven.
      prediction: what the policy sampled.
      metrics: name -> metres (miss_rate: 0 or 1).
      displacement: name -> float [W], metres over time: nearest sample and baselines.
    """

    clip_id: str
    window: Window
    observation: Observation
    target: Target
    prediction: Prediction
    metrics: dict[str, float]
    displacement: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """All windows.

    Attributes:
      results: one per window, in order.
      seconds: wall time of sampling, compilation included.
    """

    results: list[WindowResult]
    seconds: float

    def mean(self, clip_id: str | None = None) -> dict[str, float]:
        """Mean of every metric over the windows (of one clip)."""
        chosen = [r for r in self.results if clip_id is None or r.clip_id == clip_id]
        return {
            name: float(np.mean([r.metrics[name] for r in chosen])) for name in chosen[0].metrics
        }

    def rows(self) -> list[dict[str, Any]]:
        """One table row per clip, then "all"."""
        clips = list(dict.fromkeys(r.clip_id for r in self.results))
        counts = {c: sum(r.clip_id == c for r in self.results) for c in clips}
        rows = [{"clip": c, "windows": counts[c], **self.mean(c)} for c in clips]
        return [*rows, {"clip": "all", "windows": len(self.results), **self.mean()}]

    def displacement(self) -> dict[str, np.ndarray]:
        """Name -> mean displacement over time, float [W]."""
        names = self.results[0].displacement
        return {n: np.mean([r.displacement[n] for r in self.results], axis=0) for n in names}


def evaluate(
    policy: Policy,
    source: ClipSource,
    windows: Sequence[Window],
    *,
    settings: SampleSettings,
    seed: int = 0,
    batch_size: int = 8,
    num_frames: int = 4,
    cameras: Sequence[int] | None = None,
    score_trajectories: bool = True,
    progress: bool = True,
) -> Evaluation:
    """Samples the policy on every window and measures it, and the baselines on the same windows.

    Args:
      policy: to evaluate.
      source: the clips.
      windows: (clip number, t0).
      settings: how to sample; its `num_samples` is the K of minADE_K.
      seed: of the sampling; every batch has its own key.
      batch_size: windows per program call.
      num_frames: frames per camera.
      cameras: indices of the cameras to use; None: all.
      score_trajectories: choose the most likely sample by trajectory too, not by reasoning alone.
      progress: show a bar.

    Raises:
      InputError: no windows, or a window that cannot be read.
    """
    if not windows:
        raise InputError("there is no window to evaluate")
    results, begin = [], time.perf_counter()
    bar = tqdm.tqdm(total=len(windows), desc="evaluate", unit="window", disable=not progress)
    with bar:
        for start in range(0, len(windows), batch_size):
            chosen = list(windows[start : start + batch_size])
            clips = [source.clip(number) for number, _ in chosen]
            pairs = [
                (observe(clip, t0, num_frames, cameras), target(clip, t0))
                for clip, (_, t0) in zip(clips, chosen)
            ]
            # The last batch is filled up by repetition, so that one program serves all batches.
            predictions = sample(
                policy,
                [pairs[i % len(pairs)][0] for i in range(batch_size)],
                seed=seed + start,
                settings=settings,
                score_trajectories=score_trajectories,
            )
            for clip, window, pair, prediction in zip(clips, chosen, pairs, predictions):
                measured = measure(policy, *pair, prediction)
                results.append(WindowResult(clip.clip_id, window, *pair, prediction, *measured))
            bar.update(len(chosen))
    return Evaluation(results, time.perf_counter() - begin)


def measure(
    policy: Policy, observation: Observation, future: Target, prediction: Prediction
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics of one window, and the displacement over time of nearest sample and baselines.

    Baselines appear as `ade_<name>` and `fde_<name>`.
    """
    score = prediction.reasoning_logprob
    if prediction.trajectory_logprob is not None:
        score = score + prediction.trajectory_logprob
    metrics, curves = _measure(
        prediction.xyz,
        prediction.rot,
        score,
        future.ego_future_xyz,
        future.ego_future_rot,
        observation.ego_history_xyz,
        observation.ego_history_rot,
        policy.config.action,
    )
    return (
        {name: float(value) for name, value in metrics.items()},
        {name: np.asarray(value) for name, value in curves.items()},
    )


@functools.partial(jax.jit, static_argnames="action_space")
def _measure(xyz, rot, score, gt_xyz, gt_rot, history_xyz, history_rot, action_space):
    pred_xyz, pred_rot, score = xyz[None], rot[None], score[None]
    metrics = open_loop.released_metrics(
        pred_xyz, pred_rot, gt_xyz, gt_rot
    ) | open_loop.further_metrics(pred_xyz, pred_rot, gt_xyz, gt_rot, score)
    distance = open_loop.displacement(pred_xyz, gt_xyz)[0]
    curves = {"nearest sample": distance[jnp.argmin(distance.mean(-1))]}
    for name, baseline in BASELINES.items():
        driven = baseline(history_xyz, history_rot, action_space)
        own = open_loop.displacement(driven.xyz[None, None], gt_xyz)[0, 0]
        metrics |= {f"ade_{name}": own.mean(), f"fde_{name}": own[-1]}
        curves[name.replace("_", " ")] = own
    return metrics, curves
