"""The picture of a keyframe."""

import io

import numpy as np
from PIL import Image
import pytest

from alpamayo_jax.types import InputError
from alpamayo_jax.viz.keyframe import MARK, Mark, keyframe_picture
from alpamayo_jax.viz.scene import Scene

HISTORY = np.stack([np.linspace(-10, 0, 21), np.zeros(21), np.zeros(21)], -1)
FUTURE = np.stack([np.linspace(0.5, 30, 60), np.zeros(60), np.zeros(60)], -1)
SPEED = (np.linspace(-2, 6, 81), np.full(81, 5.0))


def picture(marks=(), **changes):
    values = dict(
        path=None, scene=Scene(), history_xyz=HISTORY, future_xyz=FUTURE, marks=marks,
        speed=SPEED, title="drive at 4.0 s", words=("Slow down because of it.", "Class: any"),
    )  # fmt: skip
    data = keyframe_picture(**(values | changes))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float) / 255


def red(image):
    return int((np.abs(image - np.asarray(MARK)).max(-1) < 0.02).sum())


def test_size_and_determinism():
    one, again = picture(), picture()
    assert one.shape == (700, 1100, 3)
    np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize("mark", [Mark(15.0, 3.0, 2.0, "track 7"), Mark(60.0, -35.0, 3.0, "$x$")])
def test_a_mark_is_in_the_picture_wherever_it_is(mark):
    assert red(picture([mark])) > red(picture()) + 200


def test_words_are_drawn_and_do_not_run_off_the_page():
    words = ("Slow down to yield because the pedestrian on the left is about to cross. " * 2,)
    image = picture(words=words)
    assert np.abs(image - picture(words=())).max() > 0.5
    assert (image[:, -4:] > 0.9).all()


def test_without_a_future_and_with_a_standing_ego():
    image = picture(future_xyz=np.zeros((0, 3)), history_xyz=np.zeros((21, 3)))
    assert image.std() > 0.01


def test_it_is_written(tmp_path):
    picture(path=tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (1100, 700)


def test_a_speed_that_is_no_number():
    with pytest.raises(InputError, match="speed"):
        picture(speed=(SPEED[0], np.full(81, np.nan)))
