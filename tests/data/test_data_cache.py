"""The memory budget of decoded frames and finished rows."""

import dataclasses
import pickle
import threading

import numpy as np
import pytest

from alpamayo_jax.data.cache import BoundedCache, with_cached_frames
from alpamayo_jax.testing.clips import small_clip


def test_values_are_made_once():
    cache, made = BoundedCache(1000), []

    def make():
        made.append(1)
        return {"a": np.zeros(10, np.uint8), "b": [np.ones(5, np.float64)]}

    first = cache.get("k", make)
    assert cache.get("k", make) is first
    assert len(made) == 1
    assert cache.num_bytes == 50


def test_a_full_cache_keeps_what_it_has():
    cache = BoundedCache(25)
    for key in range(5):
        cache.get(key, lambda: np.zeros(10, np.uint8))
    assert cache.num_bytes == 20
    absent = [key for key in range(5) if cache.get(key, lambda: None) is None]
    assert absent == [2, 3, 4]


def test_copies_start_empty():
    cache = BoundedCache(100)
    cache.get(1, lambda: np.zeros(10, np.uint8))
    again = pickle.loads(pickle.dumps(cache))
    assert (again.max_bytes, again.num_bytes) == (100, 0)
    assert again.get(1, lambda: "new") == "new"


def test_threads_count_each_value_once():
    cache, barrier = BoundedCache(10**6), threading.Barrier(4)

    def make():
        return np.zeros(10, np.uint8)

    def work():
        barrier.wait()
        for key in range(50):
            cache.get(key, make)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.num_bytes == 500


@pytest.mark.parametrize("grey", [False, True])
def test_cached_frames_are_those_of_the_camera(grey):
    clip, calls = small_clip(1.0, size=(24, 16)), []
    source = clip.cameras[0].read

    def read(frame):
        calls.append(frame)
        image = source(frame)
        return np.repeat(image[..., :1], 3, -1) if grey else image

    clip = dataclasses.replace(clip, cameras=(dataclasses.replace(clip.cameras[0], read=read),))
    cache = BoundedCache(2**20)
    camera = with_cached_frames(clip, cache).cameras[0]
    for frame in (3, 4, 3, np.int64(3)):
        image = camera.read(frame)
        np.testing.assert_array_equal(image, clip.cameras[0].read(frame))
        assert image.dtype == np.uint8 and image.shape == (16, 24, 3)
        image[:] = 0  # the caller's own
    assert calls.count(3) == 1 + 3  # once through the cache, three times by the comparison
    assert cache.num_bytes == 2 * 16 * 24 * (1 if grey else 3)


def test_clips_do_not_share_frames():
    cache = BoundedCache(2**20)
    a, b = (
        with_cached_frames(small_clip(1.0, clip_id=name, seed=i), cache).cameras[0]
        for i, name in enumerate("ab")
    )
    assert (a.read(2) != b.read(2)).any()
