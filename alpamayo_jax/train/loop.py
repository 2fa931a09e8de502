"""The loop around a train step: batches in, history of metrics out, progress as it goes."""

import dataclasses
import math
import time
from typing import Callable, Iterator

import jax
import tqdm

from alpamayo_jax.train.objectives import Metrics
from alpamayo_jax.train.step import TrainState
from alpamayo_jax.types import TrainBatch


class TrainingDiverged(RuntimeError):
    """The loss is not finite; the message names the step."""


@dataclasses.dataclass(frozen=True)
class History:
    """What a run logged.

    Attributes:
      steps: step numbers, counted from 1.
      metrics: name -> one value per entry of `steps`.
      seconds: wall time of the run.
      data_seconds: of it, waiting for batches.
    """

    steps: list[int]
    metrics: dict[str, list[float]]
    seconds: float
    data_seconds: float


def train(
    state: TrainState,
    step: Callable[[TrainState, TrainBatch, jax.Array], tuple[TrainState, Metrics]],
    batches: Iterator[TrainBatch],
    num_steps: int,
    rng: jax.Array,
    *,
    name: str = "train",
    log_every: int = 10,
    progress: bool = True,
) -> tuple[TrainState, History]:
    """Runs `num_steps` steps.

    Args:
      state: donated to the first step.
      step: from `make_train_step`.
      batches: at least `num_steps` of them.
      num_steps: how many.
      rng: key of the run.
      name: what the progress bar says.
      log_every: steps between entries of the history; metrics are fetched only then.
      progress: show the bar.

    Raises:
      TrainingDiverged: the loss became NaN or infinite.
    """
    steps: list[int] = []
    logged: dict[str, list[float]] = {}
    begin, waited = time.perf_counter(), 0.0
    bar = tqdm.tqdm(range(1, num_steps + 1), desc=name, unit="step", disable=not progress)
    with bar:
        for index in bar:
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            state, metrics = step(state, batch, rng)
            if index % log_every and index != num_steps:
                continue
            values = {key: float(value) for key, value in jax.device_get(metrics).items()}
            if not math.isfinite(values["loss"]):
                raise TrainingDiverged(
                    f"{name}: the loss is {values['loss']} at step {index}; lower the learning rate"
                )
            steps.append(index)
            for key, value in values.items():
                logged.setdefault(key, []).append(value)
            bar.set_postfix(loss=f"{values['loss']:.3f}")
    return state, History(steps, logged, time.perf_counter() - begin, waited)
