"""Batches that the policy makes itself: rollouts with its present parameters, scored and queued.

Rollouts and updates take turns in one process. What is queued is part of the state of the iterator,
so a run that is killed between or within them goes on as if nothing had happened.
"""

import base64
import dataclasses
import math
import time
from concurrent import futures
from typing import Any, Callable, Mapping, Sequence

import jax
import numpy as np

from alpamayo_jax.data.sources import Window
from alpamayo_jax.rl import curation
from alpamayo_jax.rl.advantages import group_advantages
from alpamayo_jax.rl.guard import Guard
from alpamayo_jax.rl.objectives import advantage_kind
from alpamayo_jax.rl.prompts import Prompts
from alpamayo_jax.rl.rewards.base import Episodes, Scores
from alpamayo_jax.rl.rewards.total import TotalReward
from alpamayo_jax.rl.sampler import Sampler, episodes, everyone
from alpamayo_jax.rl.types import FlowChain, RolloutBatch, Rollouts
from alpamayo_jax.settings import RLSettings
from alpamayo_jax.sharding import field_axes
from alpamayo_jax.train.partition import path_name
from alpamayo_jax.train.state import TrainState
from alpamayo_jax.types import ModelInputs

_REMEMBERED = 4096  # batches whose windows can still be told

Scored = dict[str, Scores]


@dataclasses.dataclass(frozen=True)
class Rollout:
    """One rollout, for who watches.

    Attributes:
      step: of training, counted from 1: the first that learns from it.
      windows: (clip number, t0) of its rows.
      episodes: what was said and done.
      scores: the components and "reward".
    """

    step: int
    windows: tuple[Window, ...]
    episodes: Episodes
    scores: Scored


# (present parameters, kept rollouts) -> the rollouts with the reference's log-probabilities.
Reference = Callable[[dict, RolloutBatch], RolloutBatch]


class Experience:
    """Endless `RolloutBatch`es, for `train.loop.train`: see its protocol of the same name."""

    def __init__(
        self,
        prompts: Prompts,
        sampler: Sampler,
        reward: TotalReward,
        settings: RLSettings,
        *,
        batch_size: int,
        rng: jax.Array,
        reference: Reference | None = None,
        watch: Callable[[Rollout], None] | None = None,
    ):
        """Rolls nothing out yet.

        Args:
          prompts: the windows.
          sampler: makes rollouts.
          reward: scores them.
          settings: of the stage.
          batch_size: rows of this process per batch.
          rng: key of the run.
          reference: log-probabilities of the reference policy; None where the objective needs none.
          watch: told of every rollout; draws pictures, for example.
        """
        self._prompts, self._sampler, self._reward = prompts, sampler, reward
        self._settings, self._size, self._rng = settings, batch_size, rng
        self._reference, self._watch = reference, watch
        self._guard = Guard.from_settings(settings)
        self._state: TrainState | None = None
        self._number = 0  # of the next rollout
        self._served = 0  # batches
        self._windows: list[Window] = []
        self._kept: RolloutBatch | None = None
        self._left: list[list[int]] = []  # rows of `_kept` of every batch still to come
        self._report: dict[str, float] = {}
        self._told: dict[int, list[Window]] = {}
        self._loader = futures.ThreadPoolExecutor(1, "prompts")
        self._ahead: tuple[int, futures.Future] | None = None

    def __iter__(self) -> "Experience":
        return self

    def use(self, state: TrainState) -> None:
        """The state whose parameters the next rollout is made with."""
        self._state = state

    def report(self) -> dict[str, float]:
        """Means over the rollout that the last batch comes from, and how long it took.

        A component that nothing could be measured of is not there.
        """
        return {name: value for name, value in self._report.items() if math.isfinite(value)}

    def cost(self) -> float:
        """Minus the mean reward of the last rollout: by it checkpoints are the best."""
        return -self._report["reward"]

    def described(self, number: int) -> list[dict[str, Any]]:
        """clip_id and t0 of the rows of batch `number`, from 0, if it was served lately."""
        return self._prompts.describe(self._told.get(number, ()))

    def __next__(self) -> RolloutBatch:
        if not self._left:
            self._roll_out()
        rows = self._left.pop(0)
        self._told[self._served] = [self._windows[row] for row in rows]
        self._told.pop(self._served - _REMEMBERED, None)
        self._served += 1
        return take_rows(self._kept, rows)

    def close(self) -> None:
        """Stops preparing prompts."""
        self._loader.shutdown(wait=True, cancel_futures=True)

    def get_state(self) -> dict[str, Any]:
        """How far it has come, and what is queued, as plain values."""
        queued = None
        if self._left:
            arrays = jax.tree_util.tree_leaves_with_path(self._kept.replace(inputs=None))
            queued = {path_name(path): encode(array) for path, array in arrays}
        return {
            "rollout": self._number,
            "served": self._served,
            "windows": [list(window) for window in self._windows] if self._left else [],
            "left": self._left,
            "queued": queued,
            "report": self._report,
            "guard": self._guard.get_state(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on where `get_state` was called."""
        self._number, self._served = state["rollout"], state["served"]
        self._windows = [(int(number), float(t0)) for number, t0 in state["windows"]]
        self._left = [[int(row) for row in rows] for rows in state["left"]]
        self._report = dict(state["report"])
        self._guard.set_state(state["guard"])
        self._kept, self._ahead = None, None
        if self._left:
            arrays = {name: decode(array) for name, array in state["queued"].items()}
            inputs = self._load(self._windows)[1]
            self._kept = _restored(arrays, inputs)

    def _load(self, windows: Sequence[Window]):
        situations = [self._prompts.situation(window) for window in windows]
        return situations, self._prompts.inputs(situations)

    def _draw(self, number: int):
        """(windows, situations, inputs) of this process in a rollout."""
        own = self._size * self._settings.batches_per_rollout * self._settings.oversample
        index, parts = self._sampler.shard
        windows = self._prompts.windows(number, own * parts)[index * own : (index + 1) * own]
        return windows, *self._load(windows)

    def _next_prompts(self):
        number, loading = self._ahead or (None, None)
        drawn = loading.result() if number == self._number else self._draw(self._number)
        self._ahead = self._number + 1, self._loader.submit(self._draw, self._number + 1)
        return drawn

    def _roll_out(self) -> None:
        if self._state is None:
            raise RuntimeError("experience was asked for a batch before it was told a state")
        windows, situations, inputs = self._next_prompts()
        begin = time.perf_counter()
        key = jax.random.fold_in(self._rng, self._number)
        params = self._state.params
        rollouts = self._sampler(self._sampler.ready(params), inputs, key)
        rolled = time.perf_counter()
        tokenizer, limit = self._prompts.processor.tokenizer, self._settings.max_reasoning_tokens
        played = episodes(rollouts, situations, tokenizer, limit)
        total, scores = self._reward(played)
        step = int(self._state.step) + 1
        if self._watch is not None:
            self._watch(Rollout(step, tuple(windows), played, scores))
        self._report = self._summarise(scores, played, rolled - begin, time.perf_counter() - rolled)
        self._guard.watch(step, self._report["reward"], self._report["num_tokens"])
        self._keep(windows, rollouts, total, params)
        self._number += 1

    def _keep(self, windows, rollouts: Rollouts, total: Scores, params: dict) -> None:
        """Advantages, the rows to train on, and the batches that they come in."""
        settings = self._settings
        advantages, counts = group_advantages(
            total.values, total.valid, advantage_kind(settings)
        )
        order = np.random.default_rng([self._number, self._sampler.shard[0]])
        rows = list(range(len(windows)))
        if settings.oversample > 1:
            drawn = np.maximum(rollouts.mask.sum(-1), 1)
            informative = curation.divergence(
                rollouts.logprobs.sum(-1) / drawn, total.values, settings.beta, total.valid
            )
            rows = curation.select(
                informative, settings.share_random, len(rows) // settings.oversample, order
            )
        kept = take_rows(
            RolloutBatch(
                inputs=rollouts.inputs,
                token_ids=rollouts.token_ids,
                mask=rollouts.mask,
                old_logprobs=rollouts.logprobs,
                ref_logprobs=None,
                advantages=advantages,
                counts=counts,
                flow=rollouts.flow,
            ),
            rows,
        )
        if self._reference is not None:
            kept = self._reference(params, kept)
        self._kept, self._windows = kept, [windows[row] for row in rows]
        self._left = []
        for epoch in range(settings.epochs):
            again = order.permutation(len(rows)) if epoch else np.arange(len(rows))
            self._left += again.reshape(-1, self._size).tolist()

    def _summarise(
        self, scores: Scored, played: Episodes, rolling: float, scoring: float
    ) -> dict[str, float]:
        """Means over the rows of all processes."""
        names = list(scores)
        values = np.stack([scores[name].values for name in names])
        counts = np.stack([scores[name].valid & scores[name].measured for name in names])
        valid = scores["reward"].valid
        further = {
            "num_tokens": played.num_tokens,
            "ended": played.ended,
            "trajectory_valid": played.trajectory_valid,
            "unscored": ~valid,
        }
        values = np.concatenate([values, np.stack([np.asarray(a, float) for a in further.values()])])
        counts = np.concatenate([counts, np.ones((len(further), *counts.shape[1:]), bool)])
        rows_first = (values.swapaxes(0, 1), counts.swapaxes(0, 1))
        values, counts = (array.swapaxes(0, 1) for array in everyone(rows_first))
        sizes = counts.sum((1, 2))
        means = np.where(counts, values, 0).sum((1, 2)) / np.where(sizes, sizes, np.nan)
        report = dict(zip([*names, *further], means.tolist()))
        where = counts[names.index("reward")]
        spread = np.nanmean(_group_std(values[names.index("reward")], where))
        return report | {
            "reward_std": float(spread),
            "rollout_seconds": rolling,
            "reward_seconds": scoring,
            "rollouts_per_second": valid.size * jax.process_count() / rolling,
        }


def _group_std(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Population deviation of each row's valid values; 0 where there are none."""
    count = np.maximum(valid.sum(-1), 1)
    mean = np.where(valid, values, 0).sum(-1) / count
    return np.sqrt(np.where(valid, (values - mean[:, None]) ** 2, 0).sum(-1) / count)


def _restored(arrays: Mapping[str, np.ndarray], inputs: ModelInputs) -> RolloutBatch:
    """The rollouts whose arrays are named by their paths; None for what is not there."""

    def fields(kind: type, path: str = "") -> dict[str, Any]:
        return {field.name: arrays.get(path + field.name) for field in dataclasses.fields(kind)}

    flow = FlowChain(**fields(FlowChain, "flow/")) if "flow/states" in arrays else None
    return RolloutBatch(**fields(RolloutBatch) | {"inputs": inputs, "flow": flow})


def take_rows(batch: Any, rows: Sequence[int]) -> Any:
    """Some rows of a host batch, in the order given."""

    def take(path, array):
        return np.take(np.asarray(array), rows, axis=field_axes(path).index("batch"))

    return jax.tree_util.tree_map_with_path(take, batch)


def encode(array: np.ndarray) -> dict[str, Any]:
    """An array as plain values, to the bit."""
    array = np.ascontiguousarray(array)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "data": base64.b64encode(little.tobytes()).decode("ascii"),
    }


def decode(values: Mapping[str, Any]) -> np.ndarray:
    """Inverse of `encode`."""
    dtype = np.dtype(values["dtype"])
    flat = np.frombuffer(base64.b64decode(values["data"]), dtype.newbyteorder("<"))
    return flat.astype(dtype).reshape(values["shape"])
