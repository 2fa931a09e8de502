"""Training batches: windows -> observations and targets -> tokens and patches, with Grain.

The order is a function of the seed alone. Batches are cut from the endlessly repeated list of
windows, reshuffled every epoch, before hosts and worker processes part the work, which changes
nothing about them. The iterator's state (`get_state`, `set_state`) is how far it has come, not what
it has read.
"""

import dataclasses
import functools
import operator
from typing import Any, Protocol, Sequence

import grain

from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.data import collate
from alpamayo_jax.data.cache import BoundedCache
from alpamayo_jax.data.sources import ClipSource, Window
from alpamayo_jax.data.windows import observe, target
from alpamayo_jax.types import Observation, Target, TrainBatch

# Endless in practice. Grain's own endless repetition overflows with batches of one.
_EPOCHS = 2**31


class BatchProcessor(Protocol):
    """What the pipeline asks of `tokens.processor.Processor`."""

    config: ModelConfig

    def train_batch(
        self,
        observations: Sequence[Observation],
        targets: Sequence[Target],
        *,
        pad_to: int | str | None = None,
        components: Sequence[str] | None = None,
    ) -> TrainBatch:
        """One row per observation, as NumPy arrays."""


def batch_windows(windows: Sequence[Window], batch_size: int, seed: int) -> grain.MapDataset:
    """The endless order: element i is the list of the `batch_size` windows of batch i, over all hosts.

    Raises:
      ConfigError: no windows, or no rows.
    """
    if batch_size < 1 or not windows:
        raise ConfigError(f"data: {len(windows)} windows in batches of {batch_size} make no batch")
    order = grain.MapDataset.source(list(windows)).seed(seed).shuffle().repeat(_EPOCHS)
    return order.batch(batch_size, batch_fn=list)


def training_batches(
    source: ClipSource,
    windows: Sequence[Window],
    processor: BatchProcessor,
    *,
    batch_size: int,
    seed: int,
    num_frames: int = 4,
    cameras: Sequence[int] | None = None,
    pad_to: int | str | None = "bucket",
    components: Sequence[str] | None = None,
    stop_after: int | None = None,
    num_workers: int = 0,
    cache_windows: bool = False,
    cache_mb: int = 1024,
    shard_index: int = 0,
    shard_count: int = 1,
) -> grain.IterDataset:
    """Endless batches of a list of windows.

    `iter(...)` of the result yields host `TrainBatch`es; its `get_state()` is a small dictionary of
    plain values, and an iterator given it by `set_state` goes on exactly where that one was; both
    must have the same number of workers. Programs that use workers must be importable (`if __name__
    == "__main__"`), run through `absl.app.run`, and `close()` the iterator.

    Args:
      source: the clips.
      windows: (clip number, t0), as `sources.list_windows` gives them.
      processor: makes the batches.
      batch_size: rows per batch of this process.
      seed: of the shuffling.
      num_frames: frames per camera.
      cameras: indices of the cameras to use; None: all.
      pad_to: as in `Processor.train_batch`; by default lengths are rounded up, so that few programs
        are compiled.
      components: as in `Processor.train_batch`.
      stop_after: id of the last token to keep; None keeps whole conversations. The action expert reads
        nothing after `<|traj_future_start|>`.
      num_workers: processes that prepare batches; 0: threads of this one.
      cache_windows: keep each window's finished row, so that later epochs only join rows.
      cache_mb: memory for those rows, in MiB, per process; rows beyond it are made anew.
      shard_index: which host this is; each makes its own rows of every batch.
      shard_count: how many hosts there are; a batch of all of them has the rows, in order of the
        hosts, that one host with `shard_count` times the rows makes.

    Raises:
      ConfigError: sizes that make no batch.
      InputError: when iterated: a window or an image that cannot be read.
    """
    if batch_size < 1 or num_workers < 0 or not 0 <= shard_index < shard_count:
        raise ConfigError(
            f"data: batch_size {batch_size}, num_workers {num_workers} and shard {shard_index} of "
            f"{shard_count} do not make batches"
        )
    mine = slice(shard_index * batch_size, (shard_index + 1) * batch_size)
    rows = BoundedCache(cache_mb * 2**20) if cache_windows else None
    options = {"pad_to": pad_to, "components": components}
    load = _Loader(source, processor, num_frames, cameras, options, stop_after, rows)
    order = batch_windows(windows, batch_size * shard_count, seed)
    batches = order.map(operator.itemgetter(mine)).map(load)
    reading = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    dataset = batches.to_iter_dataset(reading)
    if num_workers:
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers, 2))
    return dataset


@dataclasses.dataclass(frozen=True)
class _Loader:
    """A list of windows -> their TrainBatch; `rows` keeps the batch of each window alone."""

    source: ClipSource
    processor: BatchProcessor
    num_frames: int
    cameras: Sequence[int] | None
    options: dict[str, Any]
    stop_after: int | None
    rows: BoundedCache | None

    def __call__(self, windows: Sequence[Window]) -> TrainBatch:
        if self.rows is None:
            return self._process(windows)
        rows = [self.rows.get(w, functools.partial(self._process, [w])) for w in windows]
        return collate.concatenate(rows, self.processor.config)

    def _process(self, windows: Sequence[Window]) -> TrainBatch:
        clips = [(self.source.clip(number), t0) for number, t0 in windows]
        observations = [observe(clip, t0, self.num_frames, self.cameras) for clip, t0 in clips]
        targets = [target(clip, t0) for clip, t0 in clips]
        batch = self.processor.train_batch(observations, targets, **self.options)
        return batch if self.stop_after is None else collate.truncate_after(batch, self.stop_after)
