"""Example rollouts as pictures: what the policy saw, what it said and did, and what that was worth."""

import pathlib

import numpy as np

from alpamayo_jax.data.sources import ClipSource
from alpamayo_jax.rl.experience import Rollout
from alpamayo_jax.settings import RLSettings
from alpamayo_jax.viz.drive import clip_picture

_SHOWN = 4  # samples of a group: the best and the worst


class Gallery:
    """Draws a group of every so many steps: told of every rollout, it picks."""

    def __init__(self, folder: pathlib.Path, source: ClipSource, settings: RLSettings):
        """Draws nothing yet.

        Args:
          folder: where pictures go, as `step_000010.png`.
          source: the clips of the windows.
          settings: how many steps there are between pictures, and learn from one rollout.
        """
        self._folder, self._source, self._every = folder, source, settings.picture_every
        self._span = settings.batches_per_rollout * settings.epochs

    def __call__(self, rollout: Rollout) -> None:
        """Draws the first window of the rollout if it is due; that depends on its step alone."""
        if (rollout.step - 1) % self._every < self._span:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"step_{rollout.step:06d}.png"
            rollout_picture(path, self._source, rollout, 0)


def rollout_picture(
    path: pathlib.Path | None, source: ClipSource, rollout: Rollout, row: int
) -> bytes:
    """The best and the worst samples of one window with their reasoning and scores, as PNG.

    Trajectories of samples that have no whole one are not drawn.
    """
    number, t0 = rollout.windows[row]
    clip, situation = source.clip(number), rollout.episodes.situations[row]
    reward = rollout.scores["reward"]
    order = np.argsort(-np.where(reward.valid[row], reward.values[row], -np.inf), kind="stable")
    chosen = [*order[: _SHOWN // 2], *order[len(order) - _SHOWN // 2 :]]
    chosen = list(dict.fromkeys(int(k) for k in (order if len(order) <= _SHOWN else chosen)))
    drawn = [k for k in chosen if rollout.episodes.trajectory_valid[row, k]]
    mean = reward.values[row][reward.valid[row]]
    about = f", mean reward {mean.mean():.2f}" if len(mean) else ""
    missing = [k for k in chosen if k not in drawn]
    texts = [_caption(rollout, row, k) for k in drawn]
    if missing:
        lost = "\n".join(f"No whole trajectory: {_caption(rollout, row, k)}" for k in missing)
        texts = [*texts[:-1], f"{texts[-1]}\n{lost}"] if texts else lost
    return clip_picture(
        path,
        clip,
        situation.observation,
        rollout.episodes.xyz[row, drawn],
        situation.target.ego_future_xyz,
        texts,
        f"Step {rollout.step}: {clip.clip_id}, t0 = {t0:.1f} s{about}",
    )


def _caption(rollout: Rollout, row: int, sample: int) -> str:
    scores = [
        f"{name} {one.values[row, sample]:.2f}" if one.valid[row, sample] else f"{name} unknown"
        for name, one in sorted(rollout.scores.items(), key=lambda item: item[0] != "reward")
    ]
    said = rollout.episodes.reasoning[row][sample] or "(no reasoning)"
    return f"{', '.join(scores)}. {said}"
