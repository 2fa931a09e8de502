"""How actors keep to their plans."""

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax.config import ConfigError
from alpamayo_jax.sim.motion import move, smooth
from alpamayo_jax.sim.paths import straight
from alpamayo_jax.sim.world import Actor, Kind, Shift, Signal, SpeedChange, World

PATH = straight((0.0, 0.0, 0.0), 100.0, 300.0)


class MotionTest(parameterized.TestCase):
    @parameterized.parameters(1, -1)
    def test_a_constant_speed_is_kept(self, direction):
        motion = move(Actor(Kind.CAR, PATH, 50.0, 1.5, direction, 10.0), 101)
        self.assertAlmostEqual(float(motion.s[-1]), 50.0 + direction * 100.0)
        np.testing.assert_allclose(motion.d, 1.5)
        want = 0.0 if direction > 0 else np.pi
        np.testing.assert_allclose(np.abs(motion.yaw), want, atol=1e-9)
        self.assertFalse(motion.braking.any())

    def test_braking_to_a_halt_and_going_on(self):
        plan = (SpeedChange(2.0, 0.0, 2.0), SpeedChange(12.0, 8.0, 1.5))
        motion = move(Actor(Kind.CAR, PATH, 0.0, speed=9.0, changes=plan), 201)
        self.assertEqual(float(motion.v[100]), 0.0)
        self.assertGreater(float(motion.v[-1]), 6.0)
        self.assertGreaterEqual(float(motion.a.min()), -2.3)
        self.assertTrue(motion.braking[40] and motion.braking[100])
        self.assertFalse(motion.braking[5] or motion.braking[180])
        self.assertLess(np.abs(np.diff(motion.a)).max(), 0.65)
        np.testing.assert_allclose(np.diff(motion.s), motion.v[:-1] * 0.1 + motion.a[:-1] * 0.005,
                                   atol=1e-9)  # fmt: skip

    def test_a_shift_is_smooth_and_signalled(self):
        shifts = (Shift(3.0, 0.0, 3.0),)
        motion = move(Actor(Kind.CAR, PATH, 0.0, 3.5, speed=10.0, shifts=shifts), 101)
        self.assertAlmostEqual(float(motion.d[30]), 3.5)
        self.assertAlmostEqual(float(motion.d[60]), 0.0)
        self.assertLess(float(motion.yaw[45]), -0.1)
        np.testing.assert_array_equal(np.flatnonzero(motion.blinks), np.arange(20, 60))
        self.assertEqual(set(motion.blinks[20:60]), {-1})

    def test_a_shift_may_come_without_a_signal(self):
        shift = Shift(3.0, 0.0, 3.0, signals=False)
        motion = move(Actor(Kind.CAR, PATH, 0.0, 3.5, speed=10.0, shifts=(shift,)), 101)
        self.assertFalse(motion.blinks.any())

    def test_beyond_the_end_of_its_path_it_is_not_there(self):
        motion = move(Actor(Kind.CAR, PATH, 250.0, speed=20.0), 101)
        self.assertTrue(motion.present[0])
        self.assertFalse(motion.present[-1])
        self.assertEqual(motion.pose.shape, (101, 3))

    def test_smooth_has_no_slope_at_its_ends(self):
        self.assertEqual((smooth(0.0), smooth(1.0)), (0.0, 1.0))
        self.assertLess(smooth(0.01), 1e-4)
        self.assertGreater(smooth(0.99), 1.0 - 1e-4)


class WorldTest(parameterized.TestCase):
    def test_phases_of_a_light(self):
        light = Signal(30.0, ((-10.0, "green"), (2.0, "yellow"), (4.5, "red"), (9.0, "green")))
        self.assertEqual([light.colour(t) for t in (0.0, 2.0, 5.0, 9.0)],
                         ["green", "yellow", "red", "green"])  # fmt: skip
        self.assertAlmostEqual(light.since(5.0), 3.0)  # since it was green
        self.assertAlmostEqual(light.since(10.0), 1.0)

    @parameterized.parameters(((),), (((1.0, "red"),),), (((-1.0, "blue"),),))
    def test_a_light_needs_phases(self, phases):
        with pytest.raises(ConfigError, match="a traffic light needs phases"):
            Signal(30.0, phases)

    def test_unknown_weather_is_refused(self):
        with pytest.raises(ConfigError, match="weather 'hail' is unknown"):
            World(layout=None, weather="hail")

    @parameterized.parameters((Kind.TRUCK, True, False), (Kind.CYCLIST, False, True),
                              (Kind.CONE, False, False))  # fmt: skip
    def test_kinds(self, kind, vehicle, vulnerable):
        self.assertEqual((kind.vehicle, kind.vulnerable), (vehicle, vulnerable))
