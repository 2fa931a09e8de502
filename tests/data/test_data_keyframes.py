"""Windows at the times of reasoning."""

import pytest

from alpamayo_jax.data.sources import FolderSource, list_windows
from alpamayo_jax.data.windows import keyframe_times
from alpamayo_jax.testing.clips import small_clip, write_small_clip
from alpamayo_jax.types import InputError

LABELS = ((0.5, "a"), (1.6, "b"), (2.05, ""), (3.0, "c"), (3.61, "d"), (5.0, "e"))


def test_those_with_room_and_text():
    clip = small_clip(10.0, cameras=(), reasoning=LABELS)
    assert keyframe_times(clip) == [1.6, 3.0]
    assert keyframe_times(clip, start_s=1.0, end_s=9.45) == [3.0]
    assert keyframe_times(small_clip(3.0, cameras=(), reasoning=LABELS)) == []


def test_those_with_frames():
    clip = small_clip(10.0, reasoning=LABELS, frame_dt=2.0)
    assert keyframe_times(clip) == []
    assert keyframe_times(clip, need_images=False) == [1.6, 3.0]
    assert keyframe_times(clip, num_frames=1) == []
    assert keyframe_times(small_clip(10.0, reasoning=((2.0, "a"),), frame_dt=2.0), num_frames=1)


def test_of_a_whole_source(tmp_path):
    for number in range(2):
        options = {"seconds": 10.0, "cameras": (), "reasoning": LABELS[number:]}
        write_small_clip(tmp_path / f"{number}", **options)
    source = FolderSource(tmp_path)
    assert list_windows(source, keyframes=True) == ((0, 1.6), (0, 3.0), (1, 1.6), (1, 3.0))
    with pytest.raises(InputError, match="no window in 2 clip"):
        list_windows(source, keyframes=True, start_s=9.0)
