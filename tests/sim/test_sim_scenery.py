"""What stands beside the road stands beside it."""

import numpy as np
from absl.testing import parameterized

from alpamayo_jax.sim.scenario import FAMILIES, sample_scenario
from alpamayo_jax.sim.scenery import HEAD_HEIGHT, LIGHT_AHEAD, scenery, signal_place
from alpamayo_jax.sim.solids import make_solids


class SceneryTest(parameterized.TestCase):
    @parameterized.parameters(*FAMILIES)
    def test_the_lanes_are_free(self, family):
        for index in range(3):
            scenario = sample_scenario(31, index, family=family)
            road, solids = scenario.road, make_solids(scenery(scenario))
            self.assertGreater(len(solids.yaw), 20)
            low = solids.centre[:, 2] - solids.size[:, 2] / 2 < 3.0
            near = road.s[np.argmin(
                np.linalg.norm(solids.centre[low, None, :2] - road.xy[::4], axis=-1), axis=1
            ) * 4]
            _, d = road.project(solids.centre[low, :2], near)
            reach = np.hypot(solids.size[low, 0], solids.size[low, 1]) / 2
            right, _, left = road.edges
            outside = (d + reach < right) | (d - reach > left)
            self.assertTrue(outside.all())

    def test_same_look_same_scenery(self):
        first, second = (make_solids(scenery(sample_scenario(1, 1))) for _ in range(2))
        np.testing.assert_array_equal(first.centre, second.centre)
        np.testing.assert_array_equal(first.colour, second.colour)

    def test_sharp_curves_have_boards(self):
        def boards(family):
            colours = make_solids(scenery(sample_scenario(3, 0, family=family))).colour
            return int((np.abs(colours - np.array([240, 190, 30])).max(-1) < 1).sum())

        self.assertGreater(boards("s_curve"), 2)
        self.assertEqual(boards("green_light"), 0)

    def test_light_hangs_over_the_lane_beyond_the_line(self):
        scenario = sample_scenario(3, 0, family="green_light")
        x, y, heading = signal_place(scenario.road, scenario.signal.s)
        s, d = scenario.road.project(np.array([x, y]), scenario.signal.s)
        self.assertAlmostEqual(float(s), scenario.signal.s + LIGHT_AHEAD, places=3)
        self.assertAlmostEqual(float(d), 0.0, places=3)
        self.assertGreater(HEAD_HEIGHT, 4.0)
