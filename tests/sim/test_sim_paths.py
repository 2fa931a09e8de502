"""Paths: geometry, projection, and what is refused."""

import pickle

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax.config import ConfigError
from alpamayo_jax.sim.paths import STEP, build_path, curve, ring, straight


def winding():
    pieces = [(30.0, 0.0)] + curve(0.05, 1.2, 12.0) + [(20.0, 0.0)] + curve(-0.03, 0.8, 15.0)
    return build_path(pieces + [(40.0, 0.0)], origin=(12.0, -7.0), heading=0.6)


class PathTest(parameterized.TestCase):
    def test_it_begins_where_it_is_told(self):
        path = winding()
        x, y, heading = path.place(0.0)
        np.testing.assert_allclose([x, y, heading], [12.0, -7.0, 0.6], atol=1e-9)
        self.assertLessEqual(path.s[0], -60.0)

    def test_heading_is_that_of_the_points(self):
        path = winding()
        step = np.diff(path.xy, axis=0)
        np.testing.assert_allclose(np.linalg.norm(step, axis=-1), STEP, atol=1e-4)
        course = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
        middle = (path.heading[1:] + path.heading[:-1]) / 2
        self.assertLess(np.abs(np.angle(np.exp(1j * (course - middle)))).max(), 1e-3)

    def test_curve_turns_by_its_angle(self):
        path = build_path(curve(-0.04, 1.1, 10.0), start=0.0)
        self.assertAlmostEqual(float(path.heading[-1]), -1.1, delta=0.01)
        self.assertAlmostEqual(float(path.kappa.min()), -0.04, delta=1e-6)

    @parameterized.parameters(-12.0, 0.0, 3.5)
    def test_project_and_locate_invert_pose(self, d):
        path = winding()
        s = np.linspace(0.0, 120.0, 61)
        xy, _, _ = path.pose(s, d)
        for found_s, found_d in (path.project(xy, s + 0.7), path.locate(xy)):
            np.testing.assert_allclose(found_s, s, atol=0.03)
            np.testing.assert_allclose(found_d, d, atol=0.01)
        np.testing.assert_allclose(path.distance(xy), abs(d), atol=0.6)

    def test_points_include_both_ends(self):
        path = winding()
        points = path.points(5.0, 18.0, 2.0, spacing=3.0)
        np.testing.assert_allclose(points[0], path.pose(5.0, 2.0)[0])
        np.testing.assert_allclose(points[-1], path.pose(18.0, 2.0)[0])

    def test_ring_is_round_and_closed(self):
        path = ring((5.0, 6.0), 15.0, 0.4)
        np.testing.assert_allclose(np.hypot(*(path.xy - [5.0, 6.0]).T), 15.0, atol=1e-9)
        self.assertTrue(path.closed)
        self.assertFalse(winding().closed)
        self.assertAlmostEqual(path.place(0.0)[2], 0.4)

    def test_straight_goes_both_ways(self):
        path = straight((1.0, 2.0, np.pi / 2), 10.0, 20.0)
        np.testing.assert_allclose(path.place(20.0)[:2], (1.0, 22.0), atol=1e-6)
        np.testing.assert_allclose(path.place(-10.0)[:2], (1.0, -8.0), atol=1e-6)

    def test_it_can_be_sent_away_after_use(self):
        path = winding()
        path.locate(path.xy[:3])
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(path)).xy, path.xy)

    @parameterized.parameters(dict(pieces=[]), dict(pieces=[(0.0, 0.1)]),
                              dict(pieces=[(5.0, 0.0)], start=3.0))  # fmt: skip
    def test_bad_pieces_are_refused(self, **arguments):
        with pytest.raises(ConfigError, match="a path needs pieces"):
            build_path(**arguments)
