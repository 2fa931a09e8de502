"""A stage of training from its parts: alone in memory, or in a folder where it can be resumed."""

import dataclasses
import math
import pathlib
from typing import Any, Callable, Iterable, Mapping

from absl import logging
import jax

from alpamayo_jax.train import meter
from alpamayo_jax.train.checkpoint import Checkpoints
from alpamayo_jax.train.loop import History, Saving, Watch, train
from alpamayo_jax.train.state import TrainState
from alpamayo_jax.train.step import Step
from alpamayo_jax.train.writers import (
    JsonLines,
    TensorBoard,
    WeightsAndBiases,
    Writer,
    read_json_lines,
)
from alpamayo_jax.types import TrainBatch

METRICS = "metrics.jsonl"


@dataclasses.dataclass(frozen=True)
class Training:
    """The parts of one stage.

    Attributes:
      name: of the stage.
      step: see `make_train_step`.
      create: makes the state before the first step.
      like: its shapes, types and shardings.
      batches: host batches of this process: each `iter` of them begins anew.
      place: puts one on the devices.
      windows: number of a batch, from 0 -> clip_id and t0 of each of its rows, over all hosts.
      num_steps: how many.
      rng: key of the run.
      flops: operations of a step, over all devices; None: not counted.
      peak: operations per second of all devices at best; None: not asked for.
      peak_source: where that number comes from.
      validate: held-out loss of a state, or None.
    """

    name: str
    step: Step
    create: Callable[[], TrainState]
    like: TrainState
    batches: Iterable[Any]
    place: Callable[[TrainBatch], TrainBatch]
    windows: Callable[[int], list[dict[str, Any]]]
    num_steps: int
    rng: jax.Array
    flops: float | None = None
    peak: float | None = None
    peak_source: str = ""
    validate: Callable[[TrainState], float] | None = None


@dataclasses.dataclass(frozen=True)
class Folder:
    """Where and how a run is kept.

    Attributes:
      path: holds `checkpoints/`, `metrics.jsonl`, `tensorboard/`, and what else the run writes.
      config: nested plain values; a run goes on only with the same.
      save_every: steps between checkpoints.
      keep_last: see `Checkpoints`.
      keep_best: see `Checkpoints`.
      tensorboard: write event files.
      wandb_project: Weights & Biases project, or "".
    """

    path: pathlib.Path
    config: Mapping[str, Any]
    save_every: int = 500
    keep_last: int = 2
    keep_best: int = 1
    tensorboard: bool = True
    wandb_project: str = ""


def run_in_memory(
    training: Training, *, log_every: int = 10, progress: bool = True
) -> tuple[TrainState, History]:
    """Runs all steps; nothing is written.

    Raises:
      TrainingDiverged: see `loop.train`.
    """
    batches = iter(training.batches)
    try:
        return train(
            training.create(),
            training.step,
            batches,
            training.num_steps,
            training.rng,
            name=f"train {training.name}",
            log_every=log_every,
            watch=Watch(windows=training.windows, progress=progress),
            place=training.place,
        )
    finally:
        _close(batches)


def run_in_folder(
    training: Training,
    folder: Folder,
    *,
    log_every: int = 10,
    profile: tuple[int, int] | None = None,
    progress: bool = True,
) -> TrainState:
    """Runs from the last checkpoint in the folder, or from the start where there is none.

    Steps, batches, random numbers and what is logged are those of a run that was never interrupted.
    The state that comes back has fewer than `training.num_steps` steps if the process was asked to
    stop.

    Args:
      training: parts.
      folder: where.
      log_every: steps between entries of the log.
      profile: (first step, how many) of a profiler trace.
      progress: show a bar.

    Raises:
      TrainingDiverged: see `loop.train`.
      ConfigError: the folder is of a run of another configuration.
      InputError: there are checkpoints, and all are damaged.
    """
    checkpoints = Checkpoints(
        folder.path / "checkpoints",
        config=folder.config,
        keep_last=folder.keep_last,
        keep_best=folder.keep_best,
    )
    batches, writers = iter(training.batches), []
    try:
        resumed = checkpoints.restore(training.like)
        if resumed is None:
            state, rng, start = training.create(), training.rng, 0
        else:
            logging.info("going on from %s", checkpoints.folder / str(resumed.step))
            state, rng, start = resumed.state, resumed.rng, resumed.step
            batches.set_state(resumed.data)
        if jax.process_index() == 0:
            writers = open_writers(folder, start)
        state, _ = train(
            state,
            training.step,
            batches,
            training.num_steps,
            rng,
            name=f"train {training.name}",
            log_every=log_every,
            watch=Watch(
                writers=writers,
                flops=training.flops,
                peak=training.peak,
                folder=folder.path,
                windows=training.windows,
                profile=profile,
                progress=progress and jax.process_index() == 0,
            ),
            saving=Saving(checkpoints, folder.save_every, training.validate),
            place=training.place,
        )
    finally:
        checkpoints.close()
        _close(*writers, batches)
    return state


def _close(*things: Any) -> None:
    for thing in things:
        getattr(thing, "close", lambda: None)()


def open_writers(folder: Folder, start: int) -> list[Writer]:
    """Those that the folder asks for, for a run that goes on from step `start`."""
    writers: list[Writer] = [JsonLines(folder.path / METRICS, start)]
    if folder.tensorboard:
        writers.append(TensorBoard(folder.path / "tensorboard", start))
    if folder.wandb_project:
        writers.append(
            WeightsAndBiases(folder.wandb_project, folder.path, folder.config, start)
        )
    return writers


def summary(path: pathlib.Path, training: Training) -> dict[str, float | str | None]:
    """final_step, loss and rates of the finished run in a folder, from its log."""
    lines = read_json_lines(path / METRICS)
    return {
        "final_step": lines[-1]["step"],
        "loss": lines[-1]["loss"],
        **meter.summary(lines),
        "memory_gb": max(line["memory_gb"] for line in lines),
        "flops_per_step": training.flops,
        "peak_flops": training.peak,
        "peak_source": training.peak_source,
    }


def history(path: pathlib.Path) -> History:
    """The log of the run in a folder."""
    lines = read_json_lines(path / METRICS)
    names = dict.fromkeys(name for line in lines for name in line if name != "step")
    metrics = {name: [line.get(name, math.nan) for line in lines] for name in names}
    seconds = [line["step_seconds"] * max(line["timed_steps"], 1) for line in lines]
    waits = [line["data_wait_fraction"] * s for line, s in zip(lines, seconds)]
    return History([line["step"] for line in lines], metrics, sum(seconds), sum(waits))
