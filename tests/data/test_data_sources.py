"""Sources of clips, lists of windows, splits."""

import pickle

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.sources import (
    FolderSource,
    list_windows,
    make_source,
    split_by_clip,
    split_by_time,
)
from alpamayo_jax.testing.clips import small_clip, write_small_clip
from alpamayo_jax.types import InputError


class ListSource:
    """Clips in memory."""

    name = "list"

    def __init__(self, *seconds, **options):
        self.clips = [
            small_clip(s, clip_id=str(i), seed=i, size=(8, 8), **options)
            for i, s in enumerate(seconds)
        ]

    def __len__(self):
        return len(self.clips)

    def clip(self, index):
        return self.clips[index]


@pytest.fixture
def root(tmp_path):
    for name in ("set/b", "set/a", "c"):
        write_small_clip(tmp_path / "root" / name, seconds=9.0)
    return tmp_path / "root"


def test_folder_source_names_and_order(root):
    source = FolderSource(root)
    assert len(source) == 3
    assert [source.clip(i).clip_id for i in range(3)] == ["c", "set/a", "set/b"]
    assert source.name == str(root)


def test_one_clip_is_a_source(root):
    source = FolderSource(str(root / "set" / "a"))
    assert len(source) == 1
    assert source.clip(0).clip_id == "a"


def test_defects_show_when_a_clip_is_asked_for(root):
    (root / "set" / "a" / "meta.json").write_text("{")
    source = FolderSource(root)
    source.clip(0)
    with pytest.raises(InputError, match="clip 'set/a': .*meta.json"):
        source.clip(1)


def test_cached_frames_are_decoded_once(root):
    source = make_source("clips", root=root, cache_mb=1)
    assert source.clip(0) is source.clip(0)
    camera = source.clip(0).cameras[0]
    first = camera.read(3)
    (root / "c" / "frames" / f"{camera.name}_000003.jpg").unlink()
    np.testing.assert_array_equal(camera.read(3), first)
    again = pickle.loads(pickle.dumps(source))
    with pytest.raises(InputError, match="000003.jpg' is absent"):
        again.clip(0).cameras[0].read(3)  # a copy reads for itself


def test_make_source(root):
    source = make_source("clips", root=root)
    assert len(source) == 3
    assert source.name == f"clips in {root}"
    assert source.clip(2).clip_id == "set/b"
    with pytest.raises(ConfigError, match="data.source 'tfds' is unknown; known: clips, "):
        make_source("tfds")
    for options in ({}, {"root": root, "colour": 1}, {"dir": root}):
        with pytest.raises(ConfigError, match="data source 'clips': .*it takes root$"):
            make_source("clips", **options)
    with pytest.raises(InputError, match="is not a folder"):
        make_source("clips", root=root / "none")


def test_the_procedural_source_is_the_simulators():
    pytest.importorskip("alpamayo_jax.sim.source")
    source = make_source("procedural", num_clips=2, seed=3)
    assert len(source) == 2
    assert source.name == "procedural clips of seed 3"
    assert source.clip(1).validate() is source.clip(1)
    with pytest.raises(ConfigError, match="data source 'procedural'"):
        make_source("procedural", num_clips=2, seed=3, colour=1)


class WindowsTest(parameterized.TestCase):
    def test_all_clips_in_order(self):
        windows = list_windows(ListSource(8.0, 8.5, 9.0), stride_s=0.5)
        self.assertEqual([clip for clip, _ in windows], [0, 1, 1, 2, 2, 2])
        self.assertEqual(windows[0], (0, small_clip(8.0).ego.t[16]))

    def test_some_clips(self):
        windows = list_windows(ListSource(8.0, 8.5, 9.0), clips=[2, 0], stride_s=0.5)
        self.assertEqual([clip for clip, _ in windows], [2, 2, 2, 0])

    def test_none_is_an_error_that_says_why(self):
        with self.assertRaisesRegex(InputError, "source list: no window in 2 clip.*start_s=99"):
            list_windows(ListSource(9.0, 9.0), start_s=99)
        with self.assertRaisesRegex(InputError, "clip '1': ego.t covers 3.0 s"):
            list_windows(ListSource(9.0, 3.0))

    def test_split_by_time(self):
        split = split_by_time(ListSource(30.0, 25.0), (0, 14), (16, None), 0.1, 0.5)
        self.assertLen([w for w in split.train if w[0] == 0], 61)
        self.assertLen([w for w in split.test if w[0] == 0], 13)
        self.assertLen([w for w in split.test if w[0] == 1], 3)
        self.assertLessEqual(max(t for _, t in split.train), 14 - 6.4 + 1e-6)
        self.assertGreaterEqual(min(t for _, t in split.test), 16 + 1.6 - 1e-6)

    @parameterized.parameters(
        ((0, 14), (13, None), "overlap"),
        ((0, None), (13, 20), "overlap"),
        ((None, 14), (None, 20), "overlap"),
        ((14, 14), (15, None), "train_seconds .14, 14. is empty"),
        ((0, 14), (20, 15), "test_seconds .20, 15. is empty"),
    )
    def test_ranges_that_do_not_split(self, train, test, message):
        with self.assertRaisesRegex(ConfigError, message):
            split_by_time(ListSource(30.0), train, test)

    def test_test_range_may_come_first(self):
        split = split_by_time(ListSource(30.0), (15, None), (0, 15))
        self.assertGreater(min(split.train)[1], max(split.test)[1])

    def test_range_without_windows(self):
        with self.assertRaisesRegex(InputError, "start_s=40, end_s=None, stride_s=0.5"):
            split_by_time(ListSource(30.0), (0, 14), (40, None))

    def test_split_by_clip(self):
        split = split_by_clip(ListSource(8.0, 8.0, 8.5, 9.0), 1, 0.5, 0.1)
        self.assertEqual([clip for clip, _ in split.train], [0, 1, 2, 2])
        self.assertEqual([clip for clip, _ in split.test], [3] * 11)

    @parameterized.parameters(0, 2, 3, -1)
    def test_split_by_clip_needs_both(self, num_test):
        with self.assertRaisesRegex(ConfigError, "source list has 2"):
            split_by_clip(ListSource(8.0, 8.0), num_test)

    def test_selection_goes_through(self):
        source = ListSource(9.0, frame_dt=0.5)
        with self.assertRaisesRegex(InputError, "no window in 1"):
            list_windows(source)
        self.assertLen(list_windows(source, need_images=False), 11)
        self.assertLen(list_windows(source, cameras=()), 11)
