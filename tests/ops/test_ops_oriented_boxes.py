"""Overlap of rectangles against a polygon clipper of the test's own."""

from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.ops.oriented_boxes import overlap


def _corners(box):
    x, y, yaw, length, width = box
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
    local = signs * [length, width]
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    return local @ turn.T + [x, y]


def _shared_area(first, second):
    """Area of the intersection: the second polygon clipped at each side of the first."""
    points = list(_corners(second))
    corners = _corners(first)
    for a, b in zip(corners, np.roll(corners, -1, 0)):
        edge = b - a

        def side(p):
            return edge[0] * (p[1] - a[1]) - edge[1] * (p[0] - a[0])

        kept = []
        for p, q in zip(points, points[1:] + points[:1]):
            inside, after = side(p) >= 0, side(q) >= 0
            if inside:
                kept.append(p)
            if inside != after:
                kept.append(p + (q - p) * side(p) / (side(p) - side(q)))
        points = kept
        if not points:
            return 0.0
    x, y = np.array(points).T
    return abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2


class OverlapTest(parameterized.TestCase):
    @parameterized.parameters(*range(3))
    def test_agrees_with_the_shared_area(self, seed):
        rng = np.random.default_rng(seed)
        low, high = [-4, -4, -7, 0.5, 0.5], [4, 4, 7, 6, 3]
        first, second = rng.uniform(low, high, (2, 400, 5))
        area = np.array([_shared_area(a, b) for a, b in zip(first, second)])
        clear = (area == 0) | (area > 1e-6)
        assert clear.all() and 0.2 < (area > 0).mean() < 0.9
        np.testing.assert_array_equal(overlap(first, second), area > 0)
        np.testing.assert_array_equal(overlap(second, first), area > 0)

    def test_a_corner_in_the_gap_of_a_turned_box_does_not_touch(self):
        # Their upright bounding boxes overlap; the boxes themselves do not.
        first, second = np.array([0, 0, np.pi / 4, 4, 1]), np.array([1.5, -1.5, np.pi / 4, 4, 1])
        assert not overlap(first, second)
        assert overlap(first, np.array([0.5, -0.5, np.pi / 4, 4, 1]))

    def test_touching_is_no_overlap(self):
        first = np.array([0.0, 0.0, 0.0, 4.0, 2.0])
        assert not overlap(first, np.array([4.0, 0.0, 0.0, 4.0, 2.0]))
        assert overlap(first, np.array([3.99, 0.0, 0.0, 4.0, 2.0]))
        assert overlap(first, np.array([0.0, 0.0, 1.0, 0.1, 0.1]))  # one inside the other

    def test_broadcasts_in_numpy_and_jax(self):
        rng = np.random.default_rng(0)
        first, second = rng.uniform(0.5, 4, (3, 1, 5)), rng.uniform(0.5, 4, (4, 5))
        want = overlap(first, second)
        assert isinstance(want, np.ndarray) and want.shape == (3, 4)
        got = overlap(jnp.asarray(first), jnp.asarray(second))
        np.testing.assert_array_equal(got, want)

    def test_other_shapes_are_refused(self):
        with pytest.raises(AssertionError):
            overlap(np.zeros((2, 4)), np.zeros((2, 5)))
