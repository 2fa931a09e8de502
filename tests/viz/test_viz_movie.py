"""Videos: what is written comes back, and what cannot be written leaves nothing."""

import numpy as np
import pytest

from alpamayo_jax.types import InputError
from alpamayo_jax.viz.movie import write_mp4

av = pytest.importorskip("av")


def frames(count, height=48, width=64):
    for i in range(count):
        frame = np.full((height, width, 3), 40, np.uint8)
        frame[:, : width * (i + 1) // count] = (200, 60, 40)
        yield frame


def test_frames_come_back(tmp_path):
    path = write_mp4(tmp_path / "deep" / "a.mp4", frames(12), fps=10)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (64, 48, 10)
        found = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(found) == 12
    for image, want in zip(found, frames(12)):
        assert np.abs(image.astype(int) - want).mean() < 8.0
    assert [p.name for p in path.parent.iterdir()] == ["a.mp4"]


def changing():
    yield np.zeros((48, 64, 3), np.uint8)
    yield np.zeros((48, 66, 3), np.uint8)


@pytest.mark.parametrize(
    "bad, words",
    [
        ([], "no frame"),
        (frames(2, height=47), "even size"),
        ([np.zeros((48, 64, 3), np.float32)], "float32"),
        (changing(), "66"),
    ],
)
def test_what_is_no_video_is_refused_and_leaves_nothing(tmp_path, bad, words):
    with pytest.raises(InputError, match=words):
        write_mp4(tmp_path / "a.mp4", bad)
    assert list(tmp_path.iterdir()) == []
