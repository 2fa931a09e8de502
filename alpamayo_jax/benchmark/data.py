"""Suite "data": clips and windows per second, and how long a tiny train step waits for them.

Drives are ingested into a store first, and read from it, as a training run does.
"""

import dataclasses
import functools
import tempfile
import time
from typing import Any, Iterator

import grain
import jax

from alpamayo_jax.benchmark.timing import Times
from alpamayo_jax.config import ModelConfig
from alpamayo_jax.data.ingest import ingest
from alpamayo_jax.data.pipeline import training_batches
from alpamayo_jax.data.sources import ClipSource, Window, list_windows, make_source
from alpamayo_jax.data.windows import observe, window_times
from alpamayo_jax.models.init import init_params
from alpamayo_jax.presets import preset
from alpamayo_jax.settings import StageSettings
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.train.optimiser import make_optimiser
from alpamayo_jax.train.stages import optimiser_config, stage_objective
from alpamayo_jax.train.state import create_state
from alpamayo_jax.train.step import make_train_step

WORKERS = (0, 1, 2)
_CLIPS_PER_ROUND = 20
_EPOCHS = 2**20


@dataclasses.dataclass(frozen=True)
class Load:
    """What is read.

    Attributes:
      clips: folder of clips, or "" for simulated drives.
      num_clips: simulated drives.
      windows: how many; an epoch.
      rows: per batch.
      frames: per camera.
      length: tokens per row.
    """

    clips: str = ""
    num_clips: int = 4
    windows: int = 64
    rows: int = 8
    frames: int = 2
    length: int = 320

    def source(self, folder: str) -> ClipSource:
        """Ingests the drives into a store in a folder; its clips, each read once, frames anew."""
        name, options = "clips", {"root": self.clips}
        if not self.clips:
            name, options = "procedural", {"num_clips": self.num_clips, "seed": 0, "seconds": 12.0}
        ingest(name, options, folder, progress=False)
        return make_source("store", path=folder)


def run(load: Load = Load(), *, rounds: int = 5) -> dict[str, Any]:
    """Measures batches alone and with a train step of the tiny policy.

    Args:
      load: what is read.
      rounds: batches that count, per number of workers.

    Returns:
      phases: "clip/N_workers" -> `Times.row` of one clip, read from the store with the images of
      one window, and `clips_per_second`; "batch/N_workers" -> `Times.row` of one batch and
      `windows_per_second`; "step/first_epoch" and "step/later_epochs" -> `Times.row` of one step
      with its wait, and `data_wait_fraction`, without workers and with what
      `configs/tokens_tiny.py` caches.
    """
    with tempfile.TemporaryDirectory() as folder:
        return {"phases": _phases(load, load.source(folder), rounds)}


def _phases(load: Load, source: ClipSource, rounds: int) -> dict[str, Any]:
    config = preset("tiny")
    every = list_windows(source, stride_s=0.2, num_frames=load.frames)
    windows = [every[i * len(every) // load.windows] for i in range(load.windows)]
    phases = {}
    for workers in WORKERS:
        times = _time(_clips(load, source, workers), rounds * _CLIPS_PER_ROUND)
        phases[f"clip/{workers}_workers"] = times.row() | {
            "clips_per_second": len(times.seconds) / sum(times.seconds)
        }
    for workers in WORKERS:
        batches = _batches(load, source, windows, config, num_workers=workers)
        times = _time(batches, rounds)
        rate = load.rows * len(times.seconds) / sum(times.seconds)
        phases[f"batch/{workers}_workers"] = times.row() | {"windows_per_second": rate}
    batches = _batches(load, source, windows, config, cache_windows=True)
    return phases | _stepping(load, batches, config)


def _clips(load: Load, source: ClipSource, workers: int) -> Iterator:
    """Clips of the store in turn, each read anew, with the images of its first window."""
    times = [window_times(source.clip(i), num_frames=load.frames)[0] for i in range(len(source))]
    read = _ClipReader(source.inner, tuple(times), load.frames)
    order = grain.MapDataset.range(len(source)).repeat(_EPOCHS).map(read)
    dataset = order.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    if workers:
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(workers, 2))
    return iter(dataset)


@dataclasses.dataclass(frozen=True)
class _ClipReader:
    source: ClipSource
    times: tuple[float, ...]
    frames: int

    def __call__(self, index: int) -> int:
        seen = observe(self.source.clip(index), self.times[index], self.frames)
        return sum(camera.images.size for camera in seen.cameras)


def _batches(
    load: Load, source: ClipSource, windows: list[Window], config: ModelConfig, **options
) -> Iterator:
    processor = Processor(config, tiny_tokenizer(config))
    return iter(
        training_batches(
            source,
            windows,
            processor,
            batch_size=load.rows,
            seed=0,
            num_frames=load.frames,
            pad_to=load.length,
            **options,
        )
    )


def _time(batches: Iterator, count: int) -> Times:
    """Seconds per batch of a reader that is asked as fast as it answers."""
    begin = time.perf_counter()
    next(batches)
    first = time.perf_counter() - begin
    # What readers prepare ahead is used up before the clock starts.
    for _ in range(6):
        next(batches)
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        next(batches)
        seconds.append(time.perf_counter() - begin)
    if hasattr(batches, "close"):
        batches.close()
    return Times(tuple(seconds), first)


def _stepping(load: Load, batches: Iterator, config: ModelConfig) -> dict[str, Any]:
    stage = StageSettings(batch_size=load.rows, learning_rate=1e-4)
    params = init_params(config, jax.random.key(0))
    optimiser = make_optimiser(optimiser_config("stage", stage), params)
    step = functools.partial(
        make_train_step(stage_objective(stage, config), optimiser), rng=jax.random.key(0)
    )
    state, _ = step(create_state(params, optimiser), next(batches))
    epoch = load.windows // load.rows
    phases = {}
    for name, count in {"first_epoch": epoch - 1, "later_epochs": epoch}.items():
        waited, seconds = 0.0, []
        for _ in range(count):
            begin = time.perf_counter()
            batch = next(batches)
            got = time.perf_counter()
            state, metrics = step(state, batch)
            jax.block_until_ready(metrics["loss"])
            waited += got - begin
            seconds.append(time.perf_counter() - begin)
        row = Times(tuple(seconds), seconds[0]).row()
        phases[f"step/{name}"] = row | {"data_wait_fraction": waited / sum(seconds)}
    return phases
