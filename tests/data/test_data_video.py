"""Frames of videos by number: exact in any order, whole or refused."""

import io
import pickle
import threading

import numpy as np
import pytest

from alpamayo_jax.data import video
from alpamayo_jax.data.clip_folder import read_clip
from alpamayo_jax.testing.clips import write_small_clip
from alpamayo_jax.testing.videos import encode_video, frame_number
from alpamayo_jax.types import InputError

av = pytest.importorskip("av")
COUNT = 90


class Memory:
    """Opens bytes; can be sent to other processes."""

    def __init__(self, data):
        self.data = data

    def __call__(self):
        return io.BytesIO(self.data)


@pytest.fixture(scope="module")
def data():
    return encode_video(COUNT)


def _reader(data, size=(160, 32), count=COUNT):
    return video.VideoReader("drive", "front", Memory(data), size, count)


def _sequential(data):
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_every_frame_in_any_order_is_that_of_a_plain_decoder(data):
    frames, reader = _sequential(data), _reader(data)
    assert len(frames) == COUNT
    order = np.random.default_rng(0).permutation(COUNT).tolist()
    for number in [0, 1, 2, 89, 0, 44, 41, 45, *order]:
        image = reader(number)
        assert frame_number(image) == number
        np.testing.assert_array_equal(image, frames[number])


@pytest.mark.parametrize("keyframes", [1, 250])
def test_keyframes_anywhere(keyframes):
    reader = _reader(encode_video(60, keyframes=keyframes), count=60)
    assert [frame_number(reader(n)) for n in (59, 3, 58, 0)] == [59, 3, 58, 0]


def test_threads_share_a_reader(data):
    reader, found = _reader(data), {}

    def read(first):
        found.update({n: frame_number(reader(n)) for n in range(first, COUNT, 3)})

    threads = [threading.Thread(target=read, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: n for n in range(COUNT)}


def test_more_videos_than_are_kept_open(data):
    readers = [_reader(data) for _ in range(video._MAX_OPEN + 4)]
    for number in (5, 50):
        assert {frame_number(reader(number)) for reader in readers} == {number}
    assert len(video._OPEN._videos) <= video._MAX_OPEN


def test_a_copy_in_another_process_opens_its_own(data):
    copy = pickle.loads(pickle.dumps(_reader(data)))
    assert frame_number(copy(17)) == 17


@pytest.mark.parametrize("count", [COUNT - 1, COUNT + 1])
def test_times_that_disagree_with_the_frames(data, count):
    message = f"clip 'drive': camera 'front': the video has 90 frames, but there are {count} times"
    with pytest.raises(InputError, match=message):
        _reader(data, count=count).check()
    with pytest.raises(InputError, match=message):
        _reader(data, count=count)(0)


def test_what_cannot_be_read_is_named(data):
    with pytest.raises(InputError, match="has frames 0 to 89, not 90"):
        _reader(data)(90)
    with pytest.raises(InputError, match="not -1"):
        _reader(data)(-1)
    with pytest.raises(InputError, match="is 160 x 32 pixels, the calibration says 80 x 32"):
        _reader(data, size=(80, 32))(0)
    with pytest.raises(InputError, match="the video is unreadable"):
        _reader(b"no video at all")(0)
    with pytest.raises(InputError, match="camera 'front'.*(unreadable|disagree|has .* frames)"):
        _reader(data[: len(data) // 2])(0)
    missing = video.VideoReader("drive", "front", video.VideoFile("/nowhere.mp4"), (1, 1), 1)
    with pytest.raises(InputError, match="cannot be opened"):
        missing(0)


def test_a_damaged_middle_is_an_error_or_another_picture_never_a_crash(data):
    broken = bytearray(data)
    broken[len(data) // 3 : len(data) // 3 + 200] = bytes(200)
    reader = _reader(bytes(broken))
    for number in range(0, COUNT, 7):
        try:
            assert reader(number).shape == (32, 160, 3)
        except InputError as error:
            assert "frame" in str(error)


def _video_folder(tmp_path, rows=COUNT, indices=None):
    folder = write_small_clip(tmp_path / "drive", seconds=8.9, size=(160, 32))
    (folder / "front.mp4").write_bytes(encode_video(COUNT))
    lines = ["camera,index,t_s,file"]
    for row in range(rows):
        index = indices[row] if indices else row
        lines.append(f"camera_front_wide_120fov,{index},{0.1 * row},front.mp4")
    (folder / "frames.csv").write_text("\n".join(lines))
    return folder


def test_a_clip_folder_with_a_video(tmp_path):
    clip = read_clip(_video_folder(tmp_path))
    (camera,) = clip.cameras
    assert [frame_number(camera.read(n)) for n in (0, 33, 89)] == [0, 33, 89]
    np.testing.assert_allclose(camera.times, 0.1 * np.arange(COUNT))


def test_a_clip_folder_whose_table_disagrees_with_its_video(tmp_path):
    folder = _video_folder(tmp_path, rows=80)
    with pytest.raises(InputError, match="clip 'drive'.*90 frames, but there are 80 times"):
        read_clip(folder)
    folder = _video_folder(tmp_path / "b", rows=3, indices=[0, 2, 3])
    with pytest.raises(InputError, match="index must number the frames of a video from 0 on"):
        read_clip(folder)
    lines = (folder / "frames.csv").read_text().splitlines()
    lines[2] = "camera_front_wide_120fov,1,0.1,frames/camera_front_wide_120fov_000001.jpg"
    (folder / "frames.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match="images, or one video in every row"):
        read_clip(folder)
