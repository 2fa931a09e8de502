"""A run that is to be killed: in a process of its own, forked from one that has imported JAX."""

import dataclasses
import pathlib
import sys

import jax
import numpy as np
from small_learning import lottery, small_learning

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "train"))

from killed_run import recording  # noqa: E402
from small_runs import folder  # noqa: E402

from alpamayo_jax import cli  # noqa: E402
from alpamayo_jax.rl.rewards.total import TotalReward  # noqa: E402
from alpamayo_jax.rl.sampler import Sampler  # noqa: E402
from alpamayo_jax.train.run import run_in_folder  # noqa: E402


class Told(TotalReward):
    """A reward that says when it is asked."""

    def __init__(self, reward: TotalReward, tell):
        super().__init__(reward.rewards, reward.weights)
        self._tell = tell

    def __call__(self, episodes):
        self._tell("reward")
        return super().__call__(episodes)


def learn_to_the_end(clips: str, out: str, stage, rl) -> None:
    """What a script does; `doing.txt` says what is being done, and at which step."""
    cli.use_compilation_cache()
    out = pathlib.Path(out)
    out.mkdir(exist_ok=True)
    at = [-1]

    def tell(what: str) -> None:
        (out / "doing.txt").write_text(f"{what} {at[0]}")

    tell("start")
    reward = Told(lottery(), tell)
    training = small_learning(pathlib.Path(clips), stage, rl, reward=reward).training
    noted = recording(training, out / "batches.txt")

    def step(state, batch, rng):
        at[0] = int(state.step)
        tell("update")
        state, metrics = noted.step(state, batch, rng)
        jax.block_until_ready(metrics)
        tell("between")
        return state, metrics

    roll_out = Sampler.__call__

    def sampling(*args):
        tell("rollout")
        return roll_out(*args)

    Sampler.__call__ = sampling

    told = dataclasses.replace(noted, step=step)
    state = run_in_folder(told, folder(out, save_every=3), log_every=1, progress=False)
    tell("end")
    np.savez(out / "state.npz", *jax.tree.leaves(jax.device_get(state)))
