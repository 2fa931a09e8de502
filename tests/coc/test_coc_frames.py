"""Pictures of a moment never show what came later, unless asked to."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from alpamayo_jax.coc import frames
from alpamayo_jax.sim.source import procedural_clip
from alpamayo_jax.types import InputError


def numbered(clip):
    """The same clip with frames whose grey value is their number; remembers what was read."""
    read = []

    def frame(number):
        read.append(number)
        return np.full((96, 160, 3), number, np.uint8)

    (camera,) = clip.cameras
    camera = dataclasses.replace(camera, width=160, height=96, read=frame)
    return dataclasses.replace(clip, cameras=(camera,)), read


@pytest.fixture(scope="module")
def clip():
    return procedural_clip(5, 0, seconds=12.0)


def test_times_include_the_moment():
    assert frames.picture_times(5.0, 2.0, 6.0) == [3.0 + 0.5 * k for k in range(17)]
    assert frames.picture_times(5.0, 2.0, 0.0, rate=1.0) == [3.0, 4.0, 5.0]


def test_the_last_frame_at_or_before(clip):
    clip, read = numbered(clip)
    pictures = frames.camera_pictures(clip, [1.0, 1.46, 2.0])
    assert read == [10, 14, 20] and [round(p.t, 6) for p in pictures] == [1.0, 1.4, 2.0]
    with Image.open(io.BytesIO(pictures[0].data)) as image:
        assert image.format == "JPEG" and image.size == (160, 96)
        assert abs(int(np.asarray(image).mean()) - 10) <= 1


def test_nothing_later_than_allowed_is_read(clip):
    clip, read = numbered(clip)
    frames.camera_pictures(clip, [4.5, 5.0, 5.5, 6.0], latest=5.0)
    assert max(read) == 50


def test_equal_frames_are_given_once_and_gaps_are_left_out(clip):
    clip, read = numbered(clip)
    (camera,) = clip.cameras
    slow = dataclasses.replace(camera, times=np.array([1.0, 2.0, 6.0]))
    clip = dataclasses.replace(clip, cameras=(slow,))
    pictures = frames.camera_pictures(clip, [1.0, 1.2, 1.8, 2.0, 4.0, 6.1])
    assert read == [0, 1, 2] and [p.t for p in pictures] == [1.0, 2.0, 6.0]


def test_wide_frames_are_made_smaller():
    picture = frames.jpeg(np.zeros((300, 1500, 3), np.uint8), 500)
    with Image.open(io.BytesIO(picture)) as image:
        assert image.size == (500, 100)


def test_clips_that_show_nothing(clip):
    with pytest.raises(InputError, match="no camera"):
        frames.camera_pictures(dataclasses.replace(clip, cameras=()), [1.0])
    with pytest.raises(InputError, match="no frame between 90.0 and 91.0"):
        frames.camera_pictures(clip, [90.0, 91.0])
    with pytest.raises(InputError, match="on its track"):
        frames.view_pictures(clip, [90.0])


def test_without_a_camera_the_view_from_above(clip):
    blind = dataclasses.replace(clip, cameras=())
    kind, pictures = frames.pictures_of(blind, [1.0, 2.0, 99.0], latest=2.0)
    assert kind == "view from above" and [p.t for p in pictures] == [1.0, 2.0]
    assert frames.pictures_of(clip, [1.0])[0] == "camera"


def test_the_future_is_drawn_only_when_asked_for(clip):
    moved = clip.ego.xyz + np.where(clip.ego.t > 5.05, 30.0, 0.0)[:, None]
    other = dataclasses.replace(clip, ego=dataclasses.replace(clip.ego, xyz=moved), agents=None)
    clip = dataclasses.replace(clip, agents=None)
    assert frames.view_from_above(clip, 5.0) == frames.view_from_above(other, 5.0)
    with_future = frames.view_from_above(clip, 5.0, future_s=6.0)
    assert with_future != frames.view_from_above(clip, 5.0)
    assert frames.view_from_above(clip, clip.ego.t[-1], future_s=6.0)  # nothing is left to draw
