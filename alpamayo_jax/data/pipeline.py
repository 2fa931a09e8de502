"""Training batches: windows -> observations and targets -> tokens and patches, with Grain.

The order is a function of the seed alone. Batches are cut from the endlessly repeated list of
windows, reshuffled every epoch, before hosts and worker processes part the work, which changes
nothing about them; packing by length sorts them within blocks of that order. The iterator's state
(`get_state`, `set_state`) is how far it has come, not what it has read.
"""

import dataclasses
import functools
from typing import Any, Protocol, Sequence

import grain

from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.data import collate, interleaving
from alpamayo_jax.data.cache import BoundedCache
from alpamayo_jax.data.mixture import Mixture
from alpamayo_jax.data.packing import Packed
from alpamayo_jax.data.sources import ClipSource, Window
from alpamayo_jax.data.windows import observe, outline, target
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

    def interleaved_batch(
        self,
        parts: Sequence[tuple[Sequence[Observation], Sequence[Target]]],
        pad_to: int | str | None = None,
        components: Sequence[str] | None = None,
    ) -> TrainBatch:
        """One row per observation of the last part, about all prefixes of its frames."""

    def row_length(
        self,
        observation: Observation,
        target: Target,
        components: Sequence[str] | None = None,
    ) -> int:
        """Tokens of the row; the content of images does not matter."""


def row_order(source: ClipSource, windows: Sequence[Window], seed: int) -> grain.MapDataset:
    """The endless order of windows; those of a `Mixture` in the shares of its weights.

    Raises:
      ConfigError: no windows, or a part of the mixture without any.
    """
    groups = source.group(windows) if isinstance(source, Mixture) else [windows]
    orders = [
        grain.MapDataset.source(list(group)).seed((seed + k) % 2**32).shuffle().repeat(_EPOCHS)
        for k, group in enumerate(groups)
    ]
    return orders[0] if len(orders) == 1 else grain.MapDataset.mix(orders, source.weights)


def batch_plan(
    source: ClipSource,
    windows: Sequence[Window],
    processor: BatchProcessor,
    *,
    batch_size: int,
    seed: int,
    num_frames: int = 4,
    cameras: Sequence[int] | None = None,
    components: Sequence[str] | None = None,
    pack_lengths: Sequence[int] = (),
) -> grain.MapDataset:
    """What is in each batch: element i is (the windows of batch i over all hosts, their length).

    Args:
      source, windows, processor, seed, num_frames, cameras, components, pack_lengths: as in
        `training_batches`; the processor only counts tokens.
      batch_size: rows per batch of all hosts.

    Raises:
      ConfigError: no windows or no rows, or impossible lengths.
    """
    if batch_size < 1 or not windows:
        raise ConfigError(f"data: {len(windows)} windows in batches of {batch_size} make no batch")
    order = row_order(source, windows, seed)
    if not pack_lengths:
        return order.batch(batch_size, batch_fn=list).map(_without_length)
    count = _Counter(source, processor, num_frames, cameras, components)
    packed = Packed(order, batch_size, list(pack_lengths), count, seed)
    return grain.MapDataset.range(_EPOCHS).map(packed)


def _without_length(windows: list[Window]) -> tuple[list[Window], None]:
    return windows, None


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
    pack_lengths: Sequence[int] = (),
    components: Sequence[str] | None = None,
    stop_after: int | None = None,
    num_workers: int = 0,
    cache_windows: bool = False,
    cache_mb: int = 1024,
    shard_index: int = 0,
    shard_count: int = 1,
    interleaved: bool = False,
) -> grain.IterDataset:
    """Endless batches of a list of windows.

    `iter(...)` of the result yields host `TrainBatch`es; its `get_state()` is a small dictionary of
    plain values, and an iterator given it by `set_state` goes on exactly where that one was; both
    must have the same number of workers. Programs that use workers must be importable (`if __name__
    == "__main__"`), run through `absl.app.run`, and `close()` the iterator.

    Args:
      source: the clips, or a `Mixture` of sources.
      windows: (clip number, t0), as `sources.list_windows` gives them, or those of the mixture.
      processor: makes the batches.
      batch_size: rows per batch of this process.
      seed: of the shuffling.
      num_frames: frames per camera.
      cameras: indices of the cameras to use; None: all.
      pad_to: as in `Processor.train_batch`; by default lengths are rounded up, so that few programs
        are compiled.
      pack_lengths: rows of like length share a batch, which is padded to the first of these lengths
        that holds them, instead of to `pad_to`; empty: they come as they come.
      components: as in `Processor.train_batch`.
      stop_after: id of the last token to keep; None keeps whole conversations. The action expert reads
        nothing after `<|traj_future_start|>`.
      num_workers: processes that prepare batches; 0: threads of this one.
      cache_windows: keep each window's finished row, so that later epochs only join rows.
      cache_mb: memory for those rows, in MiB, per process; rows beyond it are made anew.
      shard_index: which host this is; each makes its own rows of every batch.
      shard_count: how many hosts there are; a batch of all of them has the rows, in order of the
        hosts, that one host with `shard_count` times the rows makes.
      interleaved: a row has a conversation for every prefix of the frames, at the moment of its
        newest one (`tokens.interleaved`); windows are those of `interleaving.with_moments`.

    Raises:
      ConfigError: sizes that make no batch; interleaved questions, mixtures or packed rows.
      InputError: when iterated: a window or an image that cannot be read.
    """
    if batch_size < 1 or num_workers < 0 or not 0 <= shard_index < shard_count:
        raise ConfigError(
            f"data: batch_size {batch_size}, num_workers {num_workers} and shard {shard_index} of "
            f"{shard_count} do not make batches"
        )
    if interleaved:
        interleaving.check(source, pack_lengths)
    plan = batch_plan(
        source,
        windows,
        processor,
        batch_size=batch_size * shard_count,
        seed=seed,
        num_frames=num_frames,
        cameras=cameras,
        components=components,
        pack_lengths=pack_lengths,
    )
    rows = BoundedCache(cache_mb * 2**20) if cache_windows else None
    options = {"pad_to": pad_to, "components": components}
    mine = slice(shard_index * batch_size, (shard_index + 1) * batch_size)
    load = _Loader(
        source, processor, num_frames, cameras, options, stop_after, rows, mine, interleaved
    )
    reading = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    dataset = plan.map(load).to_iter_dataset(reading)
    if num_workers:
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers, 2))
    return dataset


@dataclasses.dataclass(frozen=True)
class _Loader:
    """Windows and their length -> the TrainBatch of this host's part of them.

    `rows` keeps the batch of each window alone.
    """

    source: ClipSource
    processor: BatchProcessor
    num_frames: int
    cameras: Sequence[int] | None
    options: dict[str, Any]
    stop_after: int | None
    rows: BoundedCache | None
    mine: slice
    interleaved: bool

    def __call__(self, planned: tuple[Sequence[Window], int | None]) -> TrainBatch:
        windows, length = planned[0][self.mine], planned[1]
        if self.rows is None:
            options = self.options if length is None else self.options | {"pad_to": length}
            return self._cut(self._process(windows, options))
        if length is None:
            make = lambda w: self._cut(self._process([w], self.options))  # noqa: E731
            rows = [self.rows.get(w, functools.partial(make, w)) for w in windows]
            return collate.concatenate(rows, self.processor.config)
        # A row can be in batches of different lengths, so it is kept as it is.
        options = self.options | {"pad_to": None}
        rows = [self.rows.get(w, functools.partial(self._process, [w], options)) for w in windows]
        joined = collate.concatenate(rows, self.processor.config)
        return self._cut(collate.lengthen(joined, length, self.processor.config))

    def _process(self, windows: Sequence[Window], options: dict[str, Any]) -> TrainBatch:
        if self.interleaved:
            parts = interleaving.parts(self.source, windows, self.num_frames, self.cameras)
            return self.processor.interleaved_batch(parts, **options)
        rows = [_example(self.source, w, self.num_frames, self.cameras) for w in windows]
        observations, targets = zip(*rows)
        return self.processor.train_batch(observations, targets, **options)

    def _cut(self, batch: TrainBatch) -> TrainBatch:
        return batch if self.stop_after is None else collate.truncate_after(batch, self.stop_after)


class _Counter:
    """A window -> how many tokens its row has; equal texts on equal images are counted once."""

    def __init__(self, source, processor, num_frames, cameras, components):
        self._arguments = source, processor, num_frames, cameras, components
        self._windows: dict[Window, int] = {}
        self._texts: dict[Any, int] = {}

    def __call__(self, window: Window) -> int:
        if window not in self._windows:
            self._windows[window] = self._count(window)
        return self._windows[window]

    def _count(self, window: Window) -> int:
        source, processor, num_frames, cameras, components = self._arguments
        seen, wanted = _example(source, window, num_frames, cameras, outlined=True)
        sizes = tuple((c.camera_index, c.images.shape) for c in seen.cameras)
        texts = wanted.reasoning, wanted.meta_action, wanted.answer, seen.question, seen.navigation
        if (sizes, texts) not in self._texts:
            self._texts[sizes, texts] = processor.row_length(seen, wanted, components=components)
        return self._texts[sizes, texts]

    def __getstate__(self):
        return self.__dict__ | {"_windows": {}, "_texts": {}}


def _example(
    source: ClipSource,
    window: Window,
    num_frames: int,
    cameras: Sequence[int] | None,
    outlined: bool = False,
) -> tuple[Observation, Target]:
    if isinstance(source, Mixture):
        source, window = source.own(window)
    if hasattr(source, "example"):
        return source.outline(window) if outlined else source.example(window)
    clip, t0 = source.clip(window[0]), window[1]
    if outlined:
        return outline(clip, t0, num_frames, cameras)
    return observe(clip, t0, num_frames, cameras), target(clip, t0)
