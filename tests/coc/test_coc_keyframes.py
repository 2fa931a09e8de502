"""Moments: where the motion changes, half a second before."""

from absl.testing import parameterized
import coc_scenes as scenes
import numpy as np

from alpamayo_jax.coc import keyframes
from alpamayo_jax.coc.keyframes import Change
from alpamayo_jax.coc.lanes import roads_of
from alpamayo_jax.coc.motion import ego_motion


def motion_of(speed, **kwargs):
    return ego_motion(scenes.ego_along(np.asarray(speed), **kwargs))


class SpeedTest(parameterized.TestCase):
    @parameterized.parameters(
        (scenes.speed_of((6.0, 0.0), (3.0, -1.5)), Change.SLOW, 6.0),
        (scenes.speed_of((6.0, 0.0), (5.0, -2.5)), Change.STOP, 6.0),
        (scenes.speed_of((6.0, 0.0), (4.0, 1.0)), Change.FASTER, 6.0),
        (scenes.speed_of((6.0, 0.0), (4.0, 1.5), start=0.0), Change.START, 6.0),
    )
    def test_the_keyframe_is_half_a_second_before_the_onset(self, speed, change, begins):
        found = [m for m in keyframes.speed_moments(motion_of(speed)) if m.change is change]
        assert len(found) == 1
        assert abs(found[0].onset - begins) < 0.6
        np.testing.assert_allclose(found[0].onset - found[0].t, keyframes.REACTION_S)

    def test_standing_is_looked_at_again_and_again(self):
        moments = keyframes.speed_moments(motion_of(np.zeros(161)))
        assert [m.change for m in moments] == [Change.STAND] * 3
        np.testing.assert_allclose(np.diff([m.t for m in moments]), 5.0)

    def test_steady_driving_has_no_moment(self):
        assert keyframes.speed_moments(motion_of(np.full(161, 9.0))) == []
        assert keyframes.speed_moments(motion_of(np.full(161, 9.0), noise=0.05)) == []

    def test_standing_just_before_moving_off_is_the_moving_off(self):
        speed = scenes.speed_of((2.0, 0.0), (4.0, 1.5), start=0.0)
        changes = [m.change for m in keyframes.speed_moments(motion_of(speed))]
        assert Change.START in changes and Change.STAND not in changes

    def test_two_steps_of_braking_are_one_moment(self):
        speed = scenes.speed_of((5.0, 0.0), (1.5, -0.8), (2.0, -2.5))
        changes = [m.change for m in keyframes.speed_moments(motion_of(speed))]
        assert changes.count(Change.SLOW) + changes.count(Change.STOP) == 1


class TurnTest(parameterized.TestCase):
    @parameterized.parameters(
        (0.08, 18.0, Change.TURN, "left"), (-0.08, 18.0, Change.TURN, "right"),
        (0.03, 20.0, Change.BEND, "left"), (-0.03, 20.0, Change.BEND, "right"),
    )  # fmt: skip
    def test_turns_and_bends(self, kappa, length, change, side):
        own = motion_of(
            np.full(161, 5.0), kappa=lambda s: kappa if 30.0 < s < 30.0 + length else 0.0
        )
        (moment,) = keyframes.turn_moments(own)
        assert (moment.change, moment.side) == (change, side)
        assert abs(moment.onset - 6.0) < 0.7
        assert abs(moment.size - kappa * length) < 0.15

    def test_straight_or_standing(self):
        assert keyframes.turn_moments(motion_of(np.full(161, 5.0))) == []
        assert keyframes.turn_moments(motion_of(np.zeros(161))) == []


class PlacesTest(parameterized.TestCase):
    def test_entering_a_junction(self):
        roads = roads_of(scenes.lines(*scenes.junction(60.0)))
        (moment,) = keyframes.junction_moments(motion_of(np.full(161, 8.0)), roads)
        # The front, 3.8 m ahead of the origin, is in the junction from 48 to 72 m.
        assert abs(8.0 * moment.t + 3.8 - 49.5) < 3.0
        assert moment.end > moment.t

    def test_no_junction(self):
        roads = roads_of(scenes.lines(*scenes.lane("a", 0.0)))
        assert keyframes.junction_moments(motion_of(np.full(161, 8.0)), roads) == []

    @parameterized.parameters((8.0, 1), (0.0, 0))
    def test_passing_a_stop_line(self, speed, count):
        roads = roads_of(
            scenes.lines(*scenes.lane("a", 0.0), ("s", "stop_line", [[50, -2], [50, 2]]))
        )
        found = keyframes.stop_line_moments(motion_of(np.full(161, speed)), roads)
        assert len(found) == count
        if found:
            assert abs(speed * (found[0].t + 0.5) + 3.8 - 50.0) < 1.0

    def test_a_stop_line_of_another_road(self):
        roads = roads_of(scenes.lines(("s", "stop_line", [[50, 20], [50, 24]])))
        assert keyframes.stop_line_moments(motion_of(np.full(161, 8.0)), roads) == []
