"""The expert driver: unicycle consistency, constraints and comfort."""

import numpy as np
from absl.testing import parameterized

from alpamayo_jax.sim import driver
from alpamayo_jax.sim.actors import Actor, Signal, SpeedChange, move
from alpamayo_jax.sim.road import build_road, curve

STRAIGHT = build_road([(600.0, 0.0)], heading=0.4)
BEND = build_road([(60.0, 0.0)] + curve(0.06, 1.2, 9.0) + [(400.0, 0.0)], heading=-2.0)


class DriverTest(parameterized.TestCase):
    def test_states_follow_the_unicycle(self):
        run = driver.drive(BEND, driver.Style(set_speed=12.0, offset=0.1), 201, 12.0)
        dt, v, a, kappa = 0.1, run.v, run.a, run.kappa
        np.testing.assert_allclose(v[1:], v[:-1] + dt * a[:-1], atol=1e-9)
        turned = dt * kappa * v + 0.5 * dt**2 * kappa * a
        np.testing.assert_allclose(run.heading[1:], (run.heading + turned)[:-1], atol=1e-12)
        for position, part in ((run.x, np.cos), (run.y, np.sin)):
            along = v * part(run.heading)
            expected = position[:-1] + dt / 2 * (along[:-1] + along[1:])
            np.testing.assert_allclose(position[1:], expected, atol=1e-9)

    @parameterized.parameters(-0.15, 0.0, 0.15)
    def test_stays_at_its_place_in_the_lane(self, offset):
        run = driver.drive(BEND, driver.Style(set_speed=12.0, offset=offset), 201, 12.0)
        _, d = BEND.project(np.stack([run.x, run.y], -1), run.s)
        np.testing.assert_allclose(d, offset, atol=0.03)

    def test_slows_for_the_curve_and_not_without_it(self):
        style = driver.Style(set_speed=12.0)
        bend = driver.drive(BEND, style, 201, 12.0)
        straight = driver.drive(STRAIGHT, style, 201, 12.0)
        self.assertLess(bend.v.min(), 6.5)
        self.assertAlmostEqual(straight.v.min(), 12.0, delta=0.01)
        self.assertLess(np.abs(bend.v**2 * bend.kappa).max(), 1.25 * style.lateral)
        self.assertIn(driver.CAUSES.index("curve"), bend.cause)

    def test_curve_speed_allows_for_braking(self):
        style = driver.Style(set_speed=12.0, brake=1.5, lateral=2.0)
        limits = driver.curve_speed(BEND, style)
        self.assertAlmostEqual(limits.min(), np.sqrt(2.0 / 0.06), delta=0.02)
        rise = np.diff(limits**2) / (2 * np.diff(BEND.s))
        self.assertGreaterEqual(rise.min(), -1.5 - 1e-6)

    @parameterized.parameters(6.0, 11.0, 15.0)
    def test_stops_before_a_red_line_and_waits(self, speed):
        light = Signal(120.0, ((-1.0, "red"),))
        run = driver.drive(STRAIGHT, driver.Style(set_speed=speed), 400, speed, signal=light)
        self.assertEqual(run.v[-1], 0.0)
        gap = light.s - run.s[-1] - driver.FRONT
        self.assertBetween(gap, 0.8, 1.2)
        self.assertGreater(run.a.min(), -3.5)
        self.assertTrue((np.diff(run.s) >= -1e-9).all())

    def test_goes_when_the_light_turns_green(self):
        light = Signal(driver.FRONT + driver.LINE_GAP, ((-1.0, "red"), (4.0, "green")))
        style = driver.Style(set_speed=10.0, reaction=0.7)
        run = driver.drive(STRAIGHT, style, 150, 0.0, signal=light)
        started = run.t[np.argmax(run.v > 0.0)]
        self.assertBetween(started, 4.7, 5.0)
        self.assertTrue((run.x[run.t < 4.0] == run.x[0]).all())

    def test_green_light_changes_nothing(self):
        light = Signal(120.0, ((-1.0, "green"),))
        style = driver.Style(set_speed=10.0)
        with_light = driver.drive(STRAIGHT, style, 150, 9.0, signal=light)
        np.testing.assert_array_equal(with_light.x, driver.drive(STRAIGHT, style, 150, 9.0).x)

    def test_holds_the_gap_behind_a_steady_lead(self):
        style = driver.Style(set_speed=15.0)
        gap = driver.equilibrium_gap(12.0, style)
        lead = Actor(s=driver.FRONT + gap + 2.3, d=0.0, speed=12.0)
        run = driver.drive(STRAIGHT, style, 200, 12.0, lead=(move(lead, 200), 4.6))
        np.testing.assert_allclose(run.v, 12.0, atol=0.02)

    @parameterized.parameters(1.5, 2.5)
    def test_does_not_hit_a_lead_that_stops(self, rate):
        style = driver.Style(set_speed=15.0)
        gap = driver.equilibrium_gap(12.0, style)
        changes = (SpeedChange(3.0, 0.0, rate),)
        lead = Actor(s=driver.FRONT + gap + 2.3, d=0.0, speed=12.0, changes=changes)
        motion = move(lead, 250)
        run = driver.drive(STRAIGHT, style, 250, 12.0, lead=(motion, 4.6))
        self.assertGreater((motion.s - 2.3 - run.s - driver.FRONT).min(), 1.5)
        self.assertLess(run.v[-1], 0.1)
        self.assertGreater(run.a.min(), -3.5)

    def test_a_light_that_turns_late_is_passed_not_emergency_braked(self):
        light = Signal(40.0, ((-1.0, "green"), (2.6, "yellow"), (5.0, "red")))
        run = driver.drive(STRAIGHT, driver.Style(set_speed=12.0), 100, 12.0, signal=light)
        self.assertGreater(run.v.min(), 11.9)

    def test_comes_back_to_the_set_speed_from_above(self):
        run = driver.drive(STRAIGHT, driver.Style(set_speed=8.0), 150, 14.0)
        self.assertAlmostEqual(run.v[-1], 8.0, delta=0.1)
        self.assertGreater(run.a.min(), -1.3)

    @parameterized.parameters(0.5, 0.9)
    def test_reacts_to_yellow_after_its_reaction_time(self, reaction):
        light = Signal(60.0, ((-1.0, "green"), (1.0, "yellow"), (3.5, "red")))
        style = driver.Style(set_speed=12.0, reaction=reaction)
        run = driver.drive(STRAIGHT, style, 200, 12.0, signal=light)
        began = run.t[np.argmax(run.a < -0.1)]
        self.assertBetween(began, 1.0 + reaction - 0.05, 1.0 + reaction + 0.6)
        self.assertEqual(run.v[-1], 0.0)

    def test_reaches_the_set_speed(self):
        run = driver.drive(STRAIGHT, driver.Style(set_speed=13.0), 300, 5.0)
        self.assertAlmostEqual(run.v[-1], 13.0, delta=0.4)
        self.assertLessEqual(run.v.max(), 13.0)
