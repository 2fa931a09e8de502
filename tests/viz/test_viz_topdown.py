"""Drawing from above: where things land, and words."""

import numpy as np
import pytest

from alpamayo_jax.viz.topdown import TopDown, caption

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def centre_of(image, color):
    """(row, column) of the middle of what has that colour."""
    rows, columns = np.nonzero((image == np.array(color) * 255).all(-1))
    assert len(rows), "nothing of that colour"
    return rows.mean(), columns.mean()


@pytest.mark.parametrize("yaw", (0.0, 1.0, -2.5))
def test_ahead_is_up_and_left_is_left(yaw):
    pose = np.array([100.0, -50.0, yaw])
    view = TopDown(pose, (200, 200), reach=20.0, behind=0.0)
    direction = np.array([np.cos(yaw), np.sin(yaw)])
    left = np.array([-direction[1], direction[0]])
    view.dot(pose[:2] + 10.0 * direction, RED)
    view.dot(pose[:2] + 10.0 * left, BLUE)
    image = view.pixels()
    assert image.shape == (200, 200, 3)
    np.testing.assert_allclose(centre_of(image, RED), (49.5, 99.5), atol=1.5)
    np.testing.assert_allclose(centre_of(image, BLUE), (99.5, 49.5), atol=1.5)


def test_a_box_has_its_size():
    view = TopDown(np.zeros(3), (200, 200), reach=20.0)
    view.box(np.array([0.0, 0.0, 0.0]), 8.0, 4.0, RED)
    image = view.pixels()
    rows, columns = np.nonzero(image[..., 1] < 128)
    assert np.ptp(rows) == pytest.approx(40, abs=2) and np.ptp(columns) == pytest.approx(20, abs=2)
    assert (image == 255).all(-1).any()


def test_far_points_and_short_lines_do_no_harm():
    view = TopDown(np.zeros(3), (100, 60))
    view.line(np.array([[0.0, 0.0], [1e9, 0.0]]), RED)
    view.line(np.zeros((1, 2)), BLUE)
    view.polygon(np.zeros((2, 2)), BLUE)
    image = view.pixels()
    assert image.shape == (60, 100, 3) and not (image == (0, 0, 255)).all(-1).any()


def test_words_are_written_and_wrapped():
    one = caption(["Stop."], (300, 100))
    many = caption(["Stop for the car ahead because it is standing there. " * 4], (300, 100))
    assert one.shape == many.shape == (100, 300, 3)
    dark = [(image < 128).any(-1) for image in (one, many)]
    assert dark[0].sum() > 20 and dark[1].sum() > 4 * dark[0].sum()
    assert np.flatnonzero(dark[0].any(1)).max() < 30 < np.flatnonzero(dark[1].any(1)).max()


def test_words_that_do_not_fit_are_left_out():
    assert (caption(["a"] * 50, (100, 40)) < 128).any(-1)[34:].sum() < 40
    assert (caption([], (10, 10)) == 255).all()
