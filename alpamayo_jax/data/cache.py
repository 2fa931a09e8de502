"""Keeps decoded frames and finished rows in memory: windows and epochs ask for them again."""

import dataclasses
import threading
from typing import Any, Callable, Hashable

import jax
import numpy as np

from alpamayo_jax.clip import Clip


class BoundedCache:
    """Values by key, up to a budget of bytes; safe to share between threads.

    A full cache keeps what it has: an epoch asks for everything in turn, and throwing out the
    oldest would then throw out each value just before it is asked for again. A copy sent to another
    process starts empty.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._values: dict[Hashable, Any] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of that key, a tree of arrays; `make()` computes what is absent."""
        value = self._values.get(key)
        if value is None:
            value = make()
            size = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(value))
            with self._lock:
                if key not in self._values and self.num_bytes + size <= self.max_bytes:
                    self._values[key] = value
                    self.num_bytes += size
        return value

    def __getstate__(self):
        return self.max_bytes

    def __setstate__(self, max_bytes: int):
        self.__init__(max_bytes)


def with_cached_frames(clip: Clip, cache: BoundedCache) -> Clip:
    """The same clip, whose cameras read through `cache`; clip ids in one cache must be unique."""
    cameras = tuple(
        dataclasses.replace(c, read=_CachedReader(cache, clip.clip_id, c.index, c.read))
        for c in clip.cameras
    )
    return dataclasses.replace(clip, cameras=cameras)


@dataclasses.dataclass(frozen=True)
class _CachedReader:
    cache: BoundedCache
    clip_id: str
    camera: int
    read: Callable[[int], np.ndarray]

    def __call__(self, frame: int) -> np.ndarray:
        key = (self.clip_id, self.camera, int(frame))
        stored = self.cache.get(key, lambda: _one_channel_if_grey(self.read(int(frame))))
        return np.array(np.broadcast_to(stored, (*stored.shape[:2], 3)))


def _one_channel_if_grey(image: np.ndarray) -> np.ndarray:
    return np.array(image[..., :1] if (image == image[..., :1]).all() else image)
