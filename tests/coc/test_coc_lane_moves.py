"""Lane changes, nudges, and the lane channel of meta-actions."""

from absl.testing import parameterized
import coc_scenes as scenes
import numpy as np

from alpamayo_jax.coc import lane_moves
from alpamayo_jax.coc.keyframes import Change
from alpamayo_jax.coc.lane_moves import LaneAction
from alpamayo_jax.coc.lanes import roads_of
from alpamayo_jax.coc.motion import ego_motion

TWO_LANES = roads_of(scenes.lines(*scenes.lane("a", 0.0), *scenes.lane("b", 3.5)))


def swing(begin: float, rise: float, size: float, hold: float = 0.0, back: bool = False):
    """Offset [161] that goes to `size` in `rise` seconds, and back where asked for."""
    t = scenes.times()
    up = np.clip((t - begin) / rise, 0.0, 1.0)
    down = np.clip((t - begin - rise - hold) / rise, 0.0, 1.0) if back else 0.0
    ease = lambda x: (1 - np.cos(np.pi * x)) / 2  # noqa: E731
    return size * (ease(up) - ease(down))


def drive(offset, speed=8.0):
    own = ego_motion(scenes.ego_along(np.full(161, speed), offset=offset))
    return own, lane_moves.lane_track(own, TWO_LANES)


class LaneChangeTest(parameterized.TestCase):
    @parameterized.parameters(("left", 0.0, 3.5), ("right", 3.5, -3.5))
    def test_from_middle_to_middle(self, side, start, size):
        own, track = drive(start + swing(6.0, 4.0, size))
        (moment,) = lane_moves.lane_changes(own, TWO_LANES, track)
        assert (moment.change, moment.side) == (Change.LANE_CHANGE, side)
        assert 5.0 < moment.t < 8.0 and 8.0 < moment.end < 10.5
        assert lane_moves.nudges(own, TWO_LANES, track) == []

    def test_staying_or_going_on_into_the_next_piece_is_none(self):
        own, track = drive(np.zeros(161))
        assert lane_moves.lane_changes(own, TWO_LANES, track) == []
        pieces = roads_of(
            scenes.lines(*scenes.lane("a", 0.0, -50, 60), *scenes.lane("b", 0.0, 50, 250))
        )
        track = lane_moves.lane_track(own, pieces)
        assert len(set(track.lane)) == 2
        assert lane_moves.lane_changes(own, pieces, track) == []

    def test_no_lane(self):
        own = ego_motion(scenes.ego_along(np.full(161, 8.0)))
        track = lane_moves.lane_track(own, roads_of(None))
        assert (track.lane == -1).all() and np.isnan(track.offset).all()


class NudgeTest(parameterized.TestCase):
    @parameterized.parameters(
        (0.7, "left", False), (-0.7, "right", False), (1.4, "left", True), (-1.4, "right", True)
    )
    def test_out_and_back(self, size, side, leaves):
        own, track = drive(swing(5.0, 1.5, size, hold=2.0, back=True))
        (moment,) = lane_moves.nudges(own, TWO_LANES, track)
        assert (moment.change, moment.side) == (Change.NUDGE, side)
        assert abs(abs(moment.size) - abs(size)) < 0.15
        assert 4.0 < moment.t < 6.0
        assert lane_moves.leaves_lane(own, TWO_LANES, track, moment) == leaves

    def test_little_or_no_return_is_none(self):
        for offset in (swing(5.0, 1.5, 0.3, hold=2.0, back=True), np.zeros(161)):
            own, track = drive(offset)
            assert lane_moves.nudges(own, TWO_LANES, track) == []


class ChannelTest(parameterized.TestCase):
    @parameterized.parameters(
        (np.zeros(161), {LaneAction.KEEP_LANE}),
        (swing(6.0, 4.0, 3.5), {LaneAction.KEEP_LANE, LaneAction.LEFT_LANE_CHANGE}),
        (3.5 + swing(6.0, 4.0, -3.5), {LaneAction.KEEP_LANE, LaneAction.RIGHT_LANE_CHANGE}),
        (swing(5.0, 1.5, 0.7, hold=2.0, back=True),
         {LaneAction.KEEP_LANE, LaneAction.SLIGHTLY_SHIFT_LEFT}),
    )  # fmt: skip
    def test_straight_road(self, offset, want):
        own, _ = drive(offset)
        labels = lane_moves.lane_actions(own, TWO_LANES)
        assert {LaneAction(i) for i in labels} == want and labels.shape == (161,)

    @parameterized.parameters((0.05, LaneAction.FOLLOW_CURVE_LEFT),
                              (-0.05, LaneAction.FOLLOW_CURVE_RIGHT))  # fmt: skip
    def test_a_curve_without_a_junction(self, kappa, want):
        ego = scenes.ego_along(np.full(161, 5.0), lambda s: kappa if 30 < s < 60 else 0.0)
        labels = lane_moves.lane_actions(
            ego_motion(ego), roads_of(scenes.lines(*scenes.curve_map(ego)))
        )
        assert want in set(labels)

    def test_a_turn_at_a_junction(self):
        ego = scenes.ego_along(
            np.full(161, 5.0), lambda s: 1.0 / 12.0 if 48 < s < 48 + 6.0 * np.pi else 0.0
        )
        roads = roads_of(scenes.lines(*scenes.junction(60.0)))
        labels = lane_moves.lane_actions(ego_motion(ego), roads)
        assert LaneAction.TURN_LEFT in set(labels)
