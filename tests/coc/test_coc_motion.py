"""Smoothed motion, the route, and what was known at a time."""

import dataclasses

from absl.testing import parameterized
import coc_scenes as scenes
import numpy as np

from alpamayo_jax.coc import motion


class SmoothTest(parameterized.TestCase):
    @parameterized.parameters(2, 3, 5, 12, 13, 40)
    def test_a_parabola_stays_as_it_is_however_short(self, count):
        t = np.arange(count) * 0.1
        value = 1.0 + 2.0 * t + (3.0 * t**2 if count > 2 else 0.0)
        np.testing.assert_allclose(motion.smooth(value), value, atol=1e-9)

    def test_derivative(self):
        t = np.arange(30) * 0.1
        np.testing.assert_allclose(motion.smooth(t**2, derivative=1), 2 * t, atol=1e-9)

    def test_jitter_of_poses_does_not_become_jerks(self):
        rough = scenes.ego_along(np.full(161, 8.0), noise=0.1)
        own = motion.ego_motion(rough)
        raw = np.diff(np.linalg.norm(np.diff(rough.xyz[:, :2], axis=0), axis=-1) / 0.1) / 0.1
        assert np.abs(own.accel[10:-10]).mean() < 0.1 * np.abs(raw).mean()
        assert abs(own.speed[10:-10].mean() - 8.0) < 0.1

    def test_backing_up_is_negative(self):
        track = scenes.ego_along(np.full(50, 2.0))
        back = dataclasses.replace(track, xyz=track.xyz * [-1.0, 1.0, 1.0])
        assert (motion.ego_motion(back).speed < -1.9).all()


class RouteTest(parameterized.TestCase):
    def route(self, kappa=lambda s: 0.0, t=2.0):
        own = motion.ego_motion(scenes.ego_along(np.full(161, 10.0), kappa))
        return own, motion.route_from(own, t)

    def test_straight(self):
        own, route = self.route()
        s, d, heading = route.project(np.array([[50.0, 2.0], [50.0, -3.0], [15.0, 0.0]]))
        np.testing.assert_allclose(s, [30.0, 30.0, -5.0], atol=0.1)
        np.testing.assert_allclose(d, [2.0, -3.0, 0.0], atol=0.05)
        np.testing.assert_allclose(heading, 0.0, atol=1e-3)
        assert abs(route.known - 140.0) < 1.0

    def test_goes_straight_on_where_the_clip_ends(self):
        own, route = self.route(t=15.9)
        assert route.known < 2.0 and route.s[-1] > 50.0
        np.testing.assert_allclose(route.at(40.0)[1], 0.0, atol=0.1)

    @parameterized.parameters(0.02, -0.02)
    def test_turned(self, kappa):
        own, route = self.route(lambda s: kappa)
        np.testing.assert_allclose(route.turned(0.0, 50.0), 50.0 * kappa, atol=0.03)
        middle = own.xy[own.index(5.0)]
        normal = np.array([-np.sin(own.heading[50]), np.cos(own.heading[50])])
        _, d, _ = route.project((middle + 2.0 * normal)[None])
        np.testing.assert_allclose(d, 2.0, atol=0.1)

    def test_a_standing_ego_has_a_route_ahead(self):
        own = motion.ego_motion(scenes.ego_along(np.zeros(161)))
        route = motion.route_from(own, 5.0)
        np.testing.assert_allclose(route.at(20.0), [20.0, 0.0], atol=1e-6)


def test_seen_until_knows_nothing_later():
    t = scenes.times()
    clip = scenes.drive(
        np.full(161, 5.0), [scenes.agent(1, t, 50.0, 0.0)],
        events=[scenes.light(1.0, "red", 80.0), scenes.light(9.0, "green", 80.0)],
    )  # fmt: skip
    seen = motion.seen_until(clip, 5.0)
    assert seen.ego.t[-1] == 5.0 and seen.agents.t.max() == 5.0 and len(seen.events) == 1
    assert seen.map_lines is clip.map_lines
    seen.validate()
