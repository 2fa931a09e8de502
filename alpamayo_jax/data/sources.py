"""Where clips come from, and which of their windows train and which test.

A source is anything with `name`, `__len__` and `clip(i)`: a folder of recorded clips, NVIDIA's
Physical AI AV, the simulator's procedural or controlled clips, a store that one of them was ingested
into. A window is (number of the clip in its source, t0).
"""

import dataclasses
import inspect
import threading
from pathlib import Path
from typing import Any, Iterable, Protocol, Sequence

from alpamayo_jax.clip import Clip
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.cache import BoundedCache, with_cached_frames
from alpamayo_jax.data.clip_folder import find_clips, read_clip
from alpamayo_jax.data.windows import keyframe_times, window_times
from alpamayo_jax.types import InputError

Window = tuple[int, float]
KEEP_CLIPS = 1024
Seconds = tuple[float | None, float | None]
SOURCES = ("clips", "procedural", "controlled", "physical_ai", "store")


class ClipSource(Protocol):
    """A numbered collection of clips; `clip(i)` is the same clip every time."""

    name: str

    def __len__(self) -> int: ...

    def clip(self, index: int) -> Clip:
        """Clip number `index`."""


class FolderSource:
    """Every clip folder at or below a root (`clip_folder.find_clips`), in sorted order.

    Clips are called by their path below the root, which is unique.
    """

    def __init__(self, root: str | Path):
        """Lists the folders.

        Args:
          root: a folder of clips, or one clip.

        Raises:
          InputError: no clip there.
        """
        self.name = str(root)
        self.folders = find_clips(root)
        self._root = Path(root)

    def __len__(self) -> int:
        return len(self.folders)

    def clip(self, index: int) -> Clip:
        """Reads clip number `index`; raises `InputError` where it is defective."""
        return read_clip(self.folders[index], self.clip_name(index))

    def clip_name(self, index: int) -> str:
        """What clip number `index` is called, also where it is defective."""
        folder = self.folders[index]
        name = folder.relative_to(self._root).as_posix()
        return folder.resolve().name if name == "." else name


class KeptSource:
    """The clips of another source that were last read or made, and their frames."""

    def __init__(
        self, source: ClipSource, name: str, cache_mb: int = 0, keep_clips: int = KEEP_CLIPS
    ):
        """Keeps nothing yet.

        Args:
          source: the clips; their ids are unique.
          name: of this source, for messages and reports.
          cache_mb: memory for frames, in MiB per process; 0 keeps none.
          keep_clips: how many clips are kept, without their frames; an older one is read again.
        """
        self.name = name
        self._source = source
        self._keep = keep_clips
        self._frames = BoundedCache(cache_mb * 2**20)
        self._clips: dict[int, Clip] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    @property
    def inner(self) -> ClipSource:
        """The source itself, which keeps nothing."""
        return self._source

    def clip_name(self, index: int) -> str:
        """What clip number `index` is called."""
        named = getattr(self._source, "clip_name", None)
        return named(index) if named else self.clip(index).clip_id

    def label(self, index: int, t0: float) -> Any:
        """The reference label of a window, where the source itself has such labels; else None."""
        own = getattr(self._source, "label", None)
        return own(index, t0) if own else None

    def clip(self, index: int) -> Clip:
        """Clip number `index`."""
        clip = self._clips.get(index)
        if clip is None:
            clip = with_cached_frames(self._source.clip(index), self._frames)
            with self._lock:
                while len(self._clips) >= self._keep:
                    del self._clips[next(iter(self._clips))]
                self._clips[index] = clip
        return clip

    def __getstate__(self):
        return self.__dict__ | {"_clips": {}, "_lock": None}

    def __setstate__(self, state):
        self.__dict__.update(state, _lock=threading.Lock())


def new_source(name: str, **options: Any) -> ClipSource:
    """The source called `name`, which reads or makes a clip each time it is asked.

    Args:
      name: "clips" (`FolderSource`), "procedural" (`ProceduralSource`), "controlled"
        (`ControlledSource`), "physical_ai" (`PhysicalAISource`) or "store" (`open_store`).
      **options: what that source takes.

    Raises:
      ConfigError: an unknown source, or options that it does not have or lacks.
      InputError: the source's own complaints.
    """
    # What the others need is loaded only where they are the source.
    if name == "clips":
        kind = FolderSource
    elif name == "procedural":
        from alpamayo_jax.sim.source import ProceduralSource as kind
    elif name == "controlled":
        from alpamayo_jax.sim.controlled import ControlledSource as kind
    elif name == "physical_ai":
        from alpamayo_jax.data.physical_ai import PhysicalAISource as kind
    elif name == "store":
        from alpamayo_jax.data.store import open_store as kind
    else:
        raise ConfigError(f"data.source {name!r} is unknown; known: {', '.join(SOURCES)}")
    signature = inspect.signature(kind)
    try:
        signature.bind(**options)
    except TypeError as error:
        raise ConfigError(
            f"data source {name!r}: {error}; it takes {', '.join(signature.parameters)}"
        ) from None
    return kind(**options)


def make_source(name: str, cache_mb: int = 0, **options: Any) -> KeptSource:
    """As `new_source`, but each clip is read or made once.

    Args:
      name: which.
      cache_mb: memory for decoded or rendered frames, in MiB per process; 0 keeps none.
      **options: what that source takes.

    Raises:
      ConfigError, InputError: as `new_source`.
    """
    source = new_source(name, **options)
    label = f"{name} in {options.get('root', options.get('path'))}"
    if name in ("procedural", "controlled"):
        label = f"{name} clips of seed {options.get('seed')}"
    return KeptSource(source, label, cache_mb)


@dataclasses.dataclass(frozen=True)
class Split:
    """Windows that train and windows that test; no step of a drive is in both."""

    train: tuple[Window, ...]
    test: tuple[Window, ...]


def list_windows(
    source: ClipSource,
    clips: Iterable[int] | None = None,
    keyframes: bool = False,
    **selection: Any,
) -> tuple[Window, ...]:
    """The windows of a source, clip by clip.

    Args:
      source: the clips.
      clips: numbers of the clips to use; None: all.
      keyframes: only those at which the clips' reasoning begins (`windows.keyframe_times`).
      **selection: stride_s (not of keyframes), start_s, end_s, need_images, num_frames, cameras of
        `windows.window_times`.

    Raises:
      InputError: a clip is defective or too short, or no clip has a window.
    """
    numbers = list(range(len(source)) if clips is None else clips)
    times = keyframe_times if keyframes else window_times
    found = tuple(
        (number, t0) for number in numbers for t0 in times(source.clip(number), **selection)
    )
    if not found:
        chosen = ", ".join(f"{key}={value}" for key, value in selection.items()) or "no conditions"
        raise InputError(
            f"source {source.name}: no window in {len(numbers)} clip(s) with {chosen}; "
            f"change the range or give clips that cover it"
        )
    return found


def spread(windows: Sequence[Window], most: int) -> tuple[Window, ...]:
    """At most `most` windows, evenly spread over the list; 0 is all of them."""
    if not most or most >= len(windows):
        return tuple(windows)
    return tuple(windows[i * len(windows) // most] for i in range(most))


def split_by_time(
    source: ClipSource,
    train_seconds: Seconds,
    test_seconds: Seconds,
    train_stride_s: float = 0.1,
    test_stride_s: float = 0.5,
    **selection: Any,
) -> Split:
    """Trains on one stretch of every clip and tests on another.

    Args:
      source: the clips.
      train_seconds: (first, last) on each clip's clock, None for the end of the clip; a window lies
        inside with its 1.6 s before t0 and 6.4 s after.
      test_seconds: the same; must not overlap.
      train_stride_s: between windows that train.
      test_stride_s: between windows that test.
      **selection: need_images, num_frames, cameras of `windows.window_times`.

    Raises:
      ConfigError: a range is empty, or the two overlap.
      InputError: no window in a range, or a defective clip.
    """
    ranges = []
    for name, (first, last) in (("train_seconds", train_seconds), ("test_seconds", test_seconds)):
        low = float("-inf") if first is None else first
        high = float("inf") if last is None else last
        if not low < high:
            raise ConfigError(f"data.{name} ({first}, {last}) is empty")
        ranges.append((low, high))
    (train_low, train_high), (test_low, test_high) = ranges
    if train_low < test_high and test_low < train_high:
        raise ConfigError(
            f"data.train_seconds {train_seconds} and data.test_seconds {test_seconds} overlap"
        )
    return Split(
        train=_range(source, train_seconds, stride_s=train_stride_s, **selection),
        test=_range(source, test_seconds, stride_s=test_stride_s, **selection),
    )


def split_by_clip(
    source: ClipSource,
    num_test: int,
    train_stride_s: float = 0.1,
    test_stride_s: float = 0.5,
    **selection: Any,
) -> Split:
    """Trains on the first clips of a source and tests on its last `num_test`.

    Raises:
      ConfigError: one of the two has no clip.
      InputError: no window, or a defective clip.
    """
    if not 0 < num_test < len(source):
        raise ConfigError(
            f"data.num_test_clips {num_test} must leave clips for both: source {source.name} has "
            f"{len(source)}"
        )
    first_test = len(source) - num_test
    return Split(
        train=list_windows(source, range(first_test), stride_s=train_stride_s, **selection),
        test=list_windows(
            source, range(first_test, len(source)), stride_s=test_stride_s, **selection
        ),
    )


def _range(source: ClipSource, seconds: Seconds, **selection: Any) -> tuple[Window, ...]:
    return list_windows(source, start_s=seconds[0], end_s=seconds[1], **selection)
