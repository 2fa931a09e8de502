"""Other vehicles and traffic lights."""

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax.config import ConfigError
from alpamayo_jax.sim.actors import Actor, Signal, SpeedChange, move


class ActorsTest(parameterized.TestCase):
    @parameterized.parameters(1, -1)
    def test_steady_actor_moves_evenly(self, direction):
        motion = move(Actor(s=40.0, d=0.0, direction=direction, speed=8.0), 51)
        np.testing.assert_allclose(motion.s, 40.0 + direction * 0.8 * np.arange(51), atol=1e-9)
        self.assertFalse(motion.braking.any())

    def test_parked_actor_stays_and_shows_no_brake_light(self):
        motion = move(Actor(s=40.0, d=-3.0), 30)
        self.assertTrue((motion.s == 40.0).all())
        self.assertFalse(motion.braking.any())

    def test_braking_to_a_halt_and_going_on(self):
        changes = (SpeedChange(2.0, 0.0, 2.0), SpeedChange(12.0, 6.0, 1.5))
        motion = move(Actor(s=0.0, d=0.0, speed=10.0, changes=changes), 201)
        self.assertTrue((motion.v >= 0.0).all())
        self.assertLess(motion.v[115], 1e-6)
        self.assertAlmostEqual(motion.v[-1], 6.0, delta=0.1)
        self.assertTrue(motion.braking[40] and motion.braking[115])
        self.assertFalse(motion.braking[10] or motion.braking[150])
        self.assertGreaterEqual(motion.a.min(), -2.0 - 1e-6)
        self.assertLess(np.abs(np.diff(motion.a)).max(), 0.45)

    def test_light_shows_its_phases(self):
        light = Signal(50.0, ((-1.0, "green"), (4.0, "yellow"), (6.5, "red"), (9.0, "green")))
        shown = [light.colour(t) for t in (0.0, 3.9, 4.0, 6.4, 6.5, 8.9, 9.0, 30.0)]
        expected = ["green", "green", "yellow", "yellow", "red", "red", "green", "green"]
        self.assertEqual(shown, expected)

    def test_yellow_to_red_is_no_new_instruction(self):
        light = Signal(50.0, ((-1.0, "green"), (4.0, "yellow"), (6.5, "red"), (9.0, "green")))
        self.assertAlmostEqual(light.since(7.0), 3.0)
        self.assertAlmostEqual(light.since(9.5), 0.5)
        self.assertAlmostEqual(light.since(2.0), 3.0)

    @parameterized.parameters(((),), (((1.0, "red"),),), (((0.0, "blue"),),))
    def test_bad_phases_are_refused(self, phases):
        with pytest.raises(ConfigError, match="traffic light"):
            Signal(10.0, tuple(phases))
