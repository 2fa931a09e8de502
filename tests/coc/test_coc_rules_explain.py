"""Decisions with their reasons: which cause comes first, and when there is none."""

from absl.testing import parameterized
import coc_scenes as scenes
import numpy as np

from alpamayo_jax.coc.decisions import Lateral, Longitudinal, SpeedDetail
from alpamayo_jax.coc.keyframes import Change, Moment
from alpamayo_jax.coc.lanes import roads_of
from alpamayo_jax.coc.motion import ego_motion
from alpamayo_jax.coc.rules import explain
from alpamayo_jax.coc.rules.scene import scene_at
from alpamayo_jax.coc.scenarios import ScenarioClass

T = scenes.times()
AT = 5.0
LEAD = scenes.agent(7, T, 62.0, 0.0)  # stands 16 m ahead of the front at 5 s
AWAY = scenes.agent(8, T, 55.0 + 9.0 * (T - AT), 0.0)  # pulls away
WALKER = scenes.person(4, T, 55.0, -2.2 + 1.4 * (T - AT))
RED = scenes.light(0.0, "red", 80.0, 3.0)
GREEN = scenes.light(0.0, "green", 80.0, 3.0)


def scene(*others, speed=8.0, **kwargs):
    clip = scenes.drive(np.full(161, speed), others, **kwargs)
    return scene_at(clip, AT, ego_motion(clip.ego), roads_of(clip.map_lines))


def moment(change, side="", size=0.0):
    return Moment(AT, AT + 0.5, AT + 4.0, change, side, size)


class SlowTest(parameterized.TestCase):
    @parameterized.parameters(
        ([LEAD, WALKER], [RED], Longitudinal.FOLLOW_LEAD),
        ([WALKER], [RED], Longitudinal.STOP),
        ([WALKER], [GREEN], Longitudinal.YIELD),
        ([AWAY], [RED], Longitudinal.STOP),
    )
    def test_the_nearest_cause_comes_first(self, others, events, want):
        for change in (Change.SLOW, Change.STOP):
            found = explain.slow(scene(*others, events=events), moment(change))
            assert found.longitudinal is want

    @parameterized.parameters(
        ([AWAY], [GREEN]), ([], []), ([scenes.agent(7, T, 140.0, 0.0)], [])
    )
    def test_none(self, others, events):
        assert explain.slow(scene(*others, events=events), moment(Change.SLOW)) is None

    def test_a_lead_that_keeps_its_speed_is_the_last_resort(self):
        steady = scene(scenes.agent(7, T, 60.0 + 8.0 * (T - AT), 0.0))
        assert explain.slow(steady, moment(Change.SLOW)) is None
        found = explain.slow(steady, moment(Change.SLOW), steady=True)
        assert "keep a safe distance" in found.words

    def test_a_stop_line_explains_a_stop_and_not_a_slowing(self):
        entries = [*scenes.lane("a", 0.0), ("s", "stop_line", [[60, -2], [60, 2]])]
        found = explain.slow(scene(map_entries=entries), moment(Change.STOP))
        assert found.longitudinal is Longitudinal.STOP and "stop line" in found.words
        assert explain.slow(scene(map_entries=entries), moment(Change.SLOW)) is None

    @parameterized.parameters(
        (Change.SLOW, SpeedDetail.SLOW, ScenarioClass.SLOW_FOR_LEAD),
        (Change.STOP, SpeedDetail.STOP, ScenarioClass.STOP_FOR_LEAD),
    )
    def test_class_and_detail(self, change, detail, scenario):
        found = explain.slow(scene(LEAD), moment(change))
        assert (found.detail, found.scenario) == (detail, scenario)


class StandAndGoTest(parameterized.TestCase):
    near = scenes.agent(7, T, 12.0, 0.0)
    off = scenes.agent(7, T, 12.0 + 1.2 * np.maximum(T - 4.0, 0.0) ** 2 / 2, 0.0)

    @parameterized.parameters(
        ([near], [RED], Longitudinal.FOLLOW_LEAD), ([], [RED], Longitudinal.STOP),
        ([scenes.person(4, T, 12.0, -2.2 + 1.4 * (T - AT))], [], Longitudinal.YIELD),
    )  # fmt: skip
    def test_why_it_stands(self, others, events, want):
        found = explain.stand(scene(*others, speed=0.0, events=events), moment(Change.STAND))
        assert found.longitudinal is want and found.detail == SpeedDetail.STAY_STOPPED
        assert found.words.startswith("Stay stopped")

    def test_standing_for_nothing(self):
        assert explain.stand(scene(speed=0.0), moment(Change.STAND)) is None

    def start(self, *others, events=(), before=()):
        now = scene(*others, speed=0.0, events=events)
        earlier = scene(*before, speed=0.0) if before else now
        return explain.start(now, moment(Change.START), lambda back: earlier)

    def test_why_it_goes(self):
        assert self.start(events=[GREEN]).scenario is ScenarioClass.RESUME_AT_CONTROL
        assert self.start(self.off).longitudinal is Longitudinal.FOLLOW_LEAD
        assert "the lane ahead is clear" in self.start().words

    def test_what_still_forbids_it(self):
        assert self.start(self.near) is None
        assert self.start(events=[RED]) is None
        assert self.start(scenes.person(4, T, 12.0, -2.2 + 1.4 * (T - AT))) is None

    def test_someone_who_has_left_the_path(self):
        gone = scenes.person(4, T, 12.0, 4.0 + 1.4 * (T - AT))
        there = scenes.person(4, T, 12.0, -1.0 + 1.4 * (T - AT))
        found = self.start(gone, before=[there])
        assert found.scenario is ScenarioClass.YIELD_TO_VRU and "has left the path" in found.words

    def test_why_it_speeds_up(self):
        assert explain.faster(scene(), moment(Change.FASTER)).longitudinal is Longitudinal.SET_SPEED
        found = explain.faster(scene(AWAY), moment(Change.FASTER))
        assert found.longitudinal is Longitudinal.FOLLOW_LEAD
        assert explain.faster(scene(LEAD), moment(Change.FASTER)) is None


class SidewaysTest(parameterized.TestCase):
    def test_a_lane_change_needs_something_slower_in_the_lane(self):
        change = moment(Change.LANE_CHANGE, "left", 3.5)
        assert explain.lane_change(scene(LEAD), change).side == "left"
        assert explain.lane_change(scene(AWAY), change) is None
        assert explain.lane_change(scene(), change) is None

    @parameterized.parameters(("left", -2.6, True), ("right", -2.6, False))
    def test_a_nudge_goes_away_from_something(self, side, y, there):
        beside = scene(scenes.agent(3, T, 55.0, y))
        found = explain.nudge(beside, moment(Change.NUDGE, side, 0.8), leaves=True)
        assert (found is not None) == there
        if there:
            assert found.lateral is Lateral.OUT_OF_LANE_NUDGE

    def test_a_person_who_stands_or_crosses(self):
        found = explain.person(scene(scenes.person(4, T, 58.0, 3.2)))
        assert found.scenario is ScenarioClass.NO_YIELD_TO_VRU
        assert explain.person(scene(scenes.person(4, T, 58.0, 3.2), WALKER)) is None
        assert explain.person(scene(scenes.person(4, T, 10.0, 3.2), speed=0.0)) is None
