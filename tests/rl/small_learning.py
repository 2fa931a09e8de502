"""Reinforcement learning of a policy of two layers on two small clips, for the tests of this folder."""

import pathlib
import sys
import zlib

import jax
import numpy as np

from alpamayo_jax.data.sources import list_windows, make_source
from alpamayo_jax.rl.assemble import Learning, make_learning
from alpamayo_jax.rl.rewards.base import Episodes, Scores
from alpamayo_jax.rl.rewards.total import TotalReward
from alpamayo_jax.settings import DataSettings, RLSettings, StageSettings
from alpamayo_jax.train.assemble import Start, Windows

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "train"))

from small_runs import small_policy, write_clips  # noqa: E402, F401

STAGE = StageSettings(objective="grpo", steps=8, batch_size=2, learning_rate=1e-2)
# Two batches of every rollout, twice each, and a reference: everything that can be queued.
RL = RLSettings(
    num_samples=2,
    max_reasoning_tokens=4,
    batches_per_rollout=2,
    epochs=2,
    kl=0.1,
    constrained=True,
    eval_windows=2,
    eval_samples=2,
    flow_steps=2,
    guard_steps=1,
    guard_drop=1e6,
    guard_growth=1e6,
)
DATA = DataSettings(num_frames=1, max_length=480)


class Lottery:
    """A reward that each sample of each window has drawn once and for all.

    What a policy of random parameters says is worth nothing, so any reward that looks at it would
    be the same for all samples.
    """

    name, unit, low, high, cost = "lottery", "", 0.0, 1.0, False

    def __call__(self, episodes: Episodes) -> Scores:
        values = np.stack([
            np.random.default_rng(zlib.crc32(f"{s.observation.clip_id} {s.observation.t0:.1f}".encode()))
            .uniform(size=episodes.shape[1])
            for s in episodes.situations
        ])  # fmt: skip
        yes = np.ones(episodes.shape, bool)
        return Scores(values.astype(np.float32), yes, yes)


def lottery() -> TotalReward:
    return TotalReward([Lottery()], {"lottery": 1.0})


def small_learning(
    clips: pathlib.Path, stage: StageSettings = STAGE, rl: RLSettings = RL, **options
) -> Learning:
    """A stage on the clips of `write_clips`."""
    source = make_source("clips", root=str(clips))
    windows = Windows(source, list_windows(source))
    start = options.pop("start", Start(small_policy(), None, seed=3))
    reward = options.pop("reward", lottery())
    return make_learning(
        "small", stage, rl, reward, start, windows, DATA, held_out=windows, progress=False, **options
    )


def leaves(tree) -> dict[str, np.ndarray]:
    found = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in found}
