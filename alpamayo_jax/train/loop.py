"""The loop around a train step: batches in, numbers and checkpoints out, progress as it goes."""

import dataclasses
import json
import math
import pathlib
import signal
import threading
import time
from typing import Any, Callable, Iterator, Protocol, Sequence

from absl import logging
import jax
import numpy as np
import tqdm

from alpamayo_jax import files
from alpamayo_jax.train.checkpoint import Checkpoints
from alpamayo_jax.train.meter import Meter
from alpamayo_jax.train.objective import Metrics
from alpamayo_jax.train.state import TrainState
from alpamayo_jax.train.writers import Writer
from alpamayo_jax.types import TrainBatch

DIVERGED = "diverged.json"
_FINITE = ("loss", "grad_norm")
_AHEAD = 2  # steps in flight: enough to hide the host's work, few enough to hold their batches


class TrainingDiverged(RuntimeError):
    """The loss or its gradient is not finite; the message names the step and the batch."""


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


@dataclasses.dataclass(frozen=True)
class Watch:
    """Who is told about a run, and what is known about it.

    Attributes:
      writers: take every entry of the log.
      flops: operations of a step, over all devices.
      peak: operations per second of all devices at best.
      folder: where the batch of a diverged step is named, and profiles go.
      windows: number of a batch, from 0 -> what is said about each of its rows.
      profile: (first step, how many) of a profiler trace.
      progress: show a bar.
    """

    writers: Sequence[Writer] = ()
    flops: float | None = None
    peak: float | None = None
    folder: pathlib.Path | None = None
    windows: Callable[[int], list[dict[str, Any]]] | None = None
    profile: tuple[int, int] | None = None
    progress: bool = True


class Experience(Protocol):
    """Batches that depend on what was learned so far, as those of reinforcement learning do."""

    def use(self, state: TrainState) -> None:
        """Called before every batch is asked for, with the state that the step on it begins with."""

    def report(self) -> dict[str, float]:
        """Numbers about the last batch, for the log."""


@dataclasses.dataclass(frozen=True)
class Saving:
    """When checkpoints are written; one is always written at the end.

    Attributes:
      checkpoints: where.
      every: steps between two.
      validate: the loss by which the best are kept; None: the mean training loss since the last.
    """

    checkpoints: Checkpoints
    every: int
    validate: Callable[[TrainState], float] | None = None


def train(
    state: TrainState,
    step: Callable[[TrainState, TrainBatch, jax.Array], tuple[TrainState, Metrics]],
    batches: Iterator[TrainBatch],
    num_steps: int,
    rng: jax.Array,
    *,
    name: str = "train",
    log_every: int = 10,
    watch: Watch = Watch(),
    saving: Saving | None = None,
    place: Callable[[TrainBatch], TrainBatch] = lambda batch: batch,
) -> tuple[TrainState, History]:
    """Runs until `state.step` is `num_steps`, or until the process is asked to stop (SIGTERM).

    The step that is under way then is finished and, with `saving`, kept; the state that comes back
    says how far it came.

    Args:
      state: donated to the first step.
      step: from `make_train_step`.
      batches: host batches of this process, from the one that `state` needs next. With `saving` it
        has `get_state()`. It may be an `Experience`.
      num_steps: how many in all.
      rng: key of the run.
      name: what the progress bar says.
      log_every: steps between entries of the log; metrics are fetched only then.
      watch: who is told.
      saving: checkpoints.
      place: puts a batch on the devices.

    Raises:
      TrainingDiverged: a loss or gradient is NaN or infinite. No checkpoint is written after it.
    """
    start = int(state.step)
    steps: list[int] = []
    logged: dict[str, list[float]] = {}
    unchecked: list[tuple[int, Metrics]] = []
    losses: list[float] = []
    meter, begin, data_seconds = Meter(watch.flops, watch.peak), time.perf_counter(), 0.0
    experience = batches if hasattr(batches, "use") else None
    bar = tqdm.tqdm(
        total=num_steps, initial=start, desc=name, unit="step", disable=not watch.progress
    )
    with bar, _Stop() as stop, _Profile(watch) as profile:
        for index in range(start + 1, num_steps + 1):
            asked = time.perf_counter()
            if experience is not None:
                experience.use(state)
            batch = next(batches)
            waited = time.perf_counter() - asked
            data_seconds += waited
            profile.before(index)
            state, metrics = step(state, place(batch), rng)
            profile.after(index, metrics)
            tokens = np.count_nonzero(batch.inputs.attention_mask)
            tokens += np.count_nonzero(getattr(batch, "mask", ()))  # of completions
            meter.add(int(tokens) * jax.process_count(), waited)
            unchecked.append((index, {key: metrics[key] for key in _FINITE}))
            bar.update()
            if len(unchecked) > _AHEAD:
                jax.block_until_ready(unchecked[-1 - _AHEAD][1])

            last = stop.requested(index) or index == num_steps
            logs = last or index % log_every == 0
            saves = saving is not None and (last or index % saving.every == 0)
            cold = index == start + 1
            if not (logs or saves or cold):
                continue
            losses += _check(unchecked, watch, name)
            unchecked.clear()
            rates = meter.entry(warm=not cold) if logs or cold else {}
            if logs:
                values = {key: float(value) for key, value in jax.device_get(metrics).items()}
                values |= rates | ({} if experience is None else experience.report())
                steps.append(index)
                for key, value in values.items():
                    logged.setdefault(key, []).append(value)
                for writer in watch.writers:
                    writer.write(index, values)
                bar.set_postfix_str(_line(values))
            if saves:
                loss = float(np.mean(losses)) if saving.validate is None else saving.validate(state)
                losses.clear()
                saving.checkpoints.save(
                    index, state, data=batches.get_state(), rng=rng, loss=loss, wait=last
                )
            if last:
                break
    if int(state.step) < num_steps:
        logging.warning("%s: asked to stop, after step %d of %d", name, state.step, num_steps)
    return state, History(steps, logged, time.perf_counter() - begin, data_seconds)


def _check(unchecked: list[tuple[int, Metrics]], watch: Watch, name: str) -> list[float]:
    """The losses of some steps; raises for the first that is not finite."""
    found = jax.device_get([metrics for _, metrics in unchecked])
    for (index, _), values in zip(unchecked, found):
        numbers = {key: float(value) for key, value in values.items()}
        if all(map(math.isfinite, numbers.values())):
            continue
        rows = watch.windows(index - 1) if watch.windows else []
        where, advice = "", "lower the learning rate"
        if rows:
            where = f" on a batch of the clips {', '.join(sorted({r['clip_id'] for r in rows}))}"
            advice = f"look at these clips, or {advice}"
        if watch.folder is not None and jax.process_index() == 0:
            path = watch.folder / DIVERGED
            said = {key: str(value) for key, value in numbers.items()}
            text = json.dumps({"step": index, **said, "windows": rows}, indent=1)
            files.write_bytes(path, text.encode())
            where += f"; {path} lists its windows"
        numbers = ", ".join(f"{key} {value}" for key, value in numbers.items())
        raise TrainingDiverged(f"{name}: {numbers} at step {index}{where}; {advice}")
    return [float(values["loss"]) for values in found]


def _line(values: dict[str, float]) -> str:
    """The numbers beside the bar."""
    parts = [
        f"loss {values['loss']:.3f}",
        f"{values['tokens_per_second']:.0f} tok/s",
        f"{values['step_seconds']:.3f} s/step",
        f"data {100 * values['data_wait_fraction']:.0f} %",
        f"{values['memory_gb']:.1f} GB",
    ]
    if "mfu" in values:
        parts.append(f"MFU {100 * values['mfu']:.1f} %")
    return ", ".join(parts)


class _Stop:
    """Notices SIGTERM, which clusters send some time before they end a process."""

    def __enter__(self) -> "_Stop":
        self._asked = False
        # Several processes must stop at the same step; there, JAX's own service listens.
        self._mine = jax.process_count() == 1
        self._mine &= threading.current_thread() is threading.main_thread()
        if self._mine:
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def _ask(self, *_: Any) -> None:
        self._asked = True

    def requested(self, step: int) -> bool:
        if jax.process_count() == 1:
            return self._asked
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(step)

    def __exit__(self, *_: Any) -> None:
        if self._mine:
            signal.signal(signal.SIGTERM, self._before)


class _Profile:
    """A profiler trace of some steps, for TensorBoard's or Perfetto's viewer."""

    def __init__(self, watch: Watch):
        self._watch, self._running = watch, False

    def __enter__(self) -> "_Profile":
        return self

    def before(self, index: int) -> None:
        if self._watch.profile and index == self._watch.profile[0]:
            jax.profiler.start_trace(str(self._watch.folder / "profile"))
            self._running = True

    def after(self, index: int, metrics: Metrics) -> None:
        if self._running and index == sum(self._watch.profile) - 1:
            jax.block_until_ready(metrics)
            self.__exit__()

    def __exit__(self, *_: Any) -> None:
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
