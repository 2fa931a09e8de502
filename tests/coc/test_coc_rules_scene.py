"""A scene: distances along and beside the route, who comes into it, and what the map has ahead."""

from absl.testing import parameterized
import coc_scenes as scenes
import numpy as np

from alpamayo_jax.coc.lanes import roads_of
from alpamayo_jax.coc.motion import ego_motion
from alpamayo_jax.coc.rules.scene import CORRIDOR, EGO_FRONT, EGO_HALF, scene_at

T = scenes.times()


def scene(*others, speed=8.0, t=5.0, **kwargs):
    clip = scenes.drive(np.full(161, speed), others, **kwargs)
    return scene_at(clip, t, ego_motion(clip.ego), roads_of(clip.map_lines))


class DistancesTest(parameterized.TestCase):
    @parameterized.parameters(
        (0.0, 4.5, 1.9), (np.pi / 2, 1.9, 4.5), (np.pi, 4.5, 1.9), (np.pi / 4, 4.525, 4.525)
    )
    def test_of_a_box_that_is_turned(self, yaw, ahead, aside):
        found = scene(scenes.agent(1, T, 60.0, 6.0, yaw))
        np.testing.assert_allclose(found.s, 20.0, atol=0.2)
        np.testing.assert_allclose(found.d, 6.0, atol=0.02)
        np.testing.assert_allclose(found.gap, found.s - EGO_FRONT - ahead / 2, atol=0.02)
        np.testing.assert_allclose(found.clearance, 6.0 - aside / 2, atol=0.02)
        np.testing.assert_allclose(found.apart, min(yaw, 2 * np.pi - yaw), atol=0.01)

    def test_what_lies_on_the_route_has_no_clearance(self):
        assert scene(scenes.agent(1, T, 60.0, 0.4)).clearance[0] == 0.0

    def test_velocity_along_and_across(self):
        found = scene(scenes.agent(1, T, 30.0 + 3.0 * T, 10.0 - 1.0 * T))
        np.testing.assert_allclose(found.along, 3.0, atol=0.02)
        np.testing.assert_allclose(found.across, -1.0, atol=0.02)

    def test_left_is_as_the_driver_sees_it_and_not_as_the_route_goes(self):
        """Someone straight ahead is to the right of a route that turns left."""

        def turn(s):
            return 1.0 / 12.0 if 28 < s < 28 + 6.0 * np.pi else 0.0

        found = scene(scenes.agent(1, T, 60.0, 0.5, np.pi), speed=5.0, kappa=turn)
        assert found.d[0] < -5.0 and abs(found.left[0] - 0.5) < 0.1
        np.testing.assert_allclose(found.facing, np.pi, atol=0.05)

    def test_speed_is_that_of_the_ego_now(self):
        assert abs(scene(speed=6.5).speed - 6.5) < 0.05
        assert scene(speed=6.0).braking_reach < scene(speed=12.0).braking_reach
        assert CORRIDOR > EGO_HALF


class ConflictTest(parameterized.TestCase):
    @parameterized.parameters(
        (0.0, 0.0, 0.0),  # stands on the route
        (5.0, -2.0, 2.0),  # 5 m aside, 1.2 + 0.35 m are the corridor and its half size
        (5.0, 2.0, np.inf),  # walks away
        (30.0, -2.0, np.inf),  # too far
    )
    def test_when_someone_comes_into_the_route(self, y, v, want):
        found = scene(scenes.person(1, T, 55.0, y + v * (T - 5.0)))
        np.testing.assert_allclose(found.conflict_in, want, atol=0.26)

    def test_behind_the_ego_or_far_ahead_is_none(self):
        found = scene(scenes.person(1, T, 35.0, 0.0), scenes.person(2, T, 150.0, 0.0))
        assert not np.isfinite(found.conflict_in).any()

    def test_nobody(self):
        assert scene().conflict_in.shape == (0,)


class MapTest(parameterized.TestCase):
    def test_a_road_along_the_route(self):
        assert scene().on_road(0.0, 40.0)
        assert not scene(map_entries=scenes.lane("far", 40.0)).on_road(0.0, 40.0)
        assert not scene().on_road(5.0, 5.0)

    def test_the_extent_of_a_junction(self):
        found = scene(t=2.0, map_entries=scenes.junction(60.0))
        entry = found.junction_at(80.0)
        assert abs(entry - (48.0 - 16.0)) < 4.0
        assert abs(found.junction_end(entry) - (72.0 - 16.0)) < 4.0
        assert found.junction_at(20.0) is None
        assert scene().junction_at(80.0) is None

    @parameterized.parameters((60.0, 16.2), (42.0, None), (150.0, None))
    def test_a_stop_line(self, x, want):
        entries = [*scenes.lane("a", 0.0), ("s", "stop_line", [[x, -2], [x, 2]])]
        found = scene(map_entries=entries).stop_line_at(60.0)
        if want is None:
            assert found is None
        else:
            np.testing.assert_allclose(found, want, atol=0.3)

    def test_the_nearest_light_ahead_and_its_last_colour(self):
        events = [
            scenes.light(0.0, "green", 120.0), scenes.light(0.0, "red", 80.0),
            scenes.light(0.0, "green", 10.0), scenes.light(3.0, "yellow", 80.0),
        ]  # fmt: skip
        events.sort(key=lambda event: event.t)
        colour, since, ahead = scene(events=events).light()
        assert colour == "yellow" and abs(since - 2.0) < 0.06
        np.testing.assert_allclose(ahead, 36.2, atol=0.3)
        assert scene(events=[scenes.light(0.0, "red", 80.0, 40.0)]).light() is None
        assert scene().light() is None
