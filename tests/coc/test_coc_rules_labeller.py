"""Whole drives by rules: the decision, its cause, and nothing that was not seen by then."""

import dataclasses

from absl.testing import parameterized
import coc_scenes as scenes
import numpy as np
import pytest

from alpamayo_jax.coc.annotated import Annotations
from alpamayo_jax.coc.checks import check_label
from alpamayo_jax.coc.decisions import Lateral, Longitudinal, SpeedDetail
from alpamayo_jax.coc.rules.labeller import AUTHOR, keyframes_of, label_clip
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.data.clip_folder import find_clips, read_clip
from alpamayo_jax.data.mirror import mirror_clip
from alpamayo_jax.sim.source import procedural_clip

T = scenes.times()


def stand_and_go(go: float):
    return scenes.speed_of((go, 0.0), (4.0, 1.5), start=0.0)


def brake(at: float, to_stop: bool = False, start: float = 10.0):
    return scenes.speed_of((at, 0.0), (4.0 if to_stop else 2.0, -2.5), start=start)


def swing(begin, rise, size):
    up = np.clip((T - begin) / rise, 0, 1)
    down = np.clip((T - begin - rise - 2.0) / rise, 0, 1)
    return size * ((1 - np.cos(np.pi * up)) / 2 - (1 - np.cos(np.pi * down)) / 2)


def only(clip):
    labels, _ = label_clip(clip)
    assert len(labels) == 1, [label.trace for label in labels]
    return labels[0]


def position(speed):
    return np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * 0.1)])


class DrivesTest(parameterized.TestCase):
    def test_slow_for_a_lead(self):
        label = only(scenes.braking_behind_lead())
        assert label.scenario is ScenarioClass.STOP_FOR_LEAD
        assert label.longitudinal is Longitudinal.FOLLOW_LEAD
        assert label.longitudinal_detail == SpeedDetail.STOP
        assert label.components[0].track == 7
        assert 5.4 < label.keyframe_s <= 6.1
        assert label.author == AUTHOR and label.components[0].seen_at == label.keyframe_s

    def test_a_red_light_and_its_green(self):
        speed = scenes.speed_of((4.0, 0.0), (4.0, -2.5), (4.0, 0.0), (3.0, 1.5))
        at = position(speed)[100] + 3.8 + 1.0
        events = [scenes.light(0.0, "red", at, 3.0), scenes.light(11.7, "green", at, 3.0)]
        clip = scenes.drive(speed, events=events)
        labels, _ = label_clip(clip)
        assert [label.scenario for label in labels] == [
            ScenarioClass.STOP_FOR_CONTROL, ScenarioClass.STOP_FOR_CONTROL,
            ScenarioClass.RESUME_AT_CONTROL,
        ]  # fmt: skip
        assert [label.longitudinal for label in labels] == [
            Longitudinal.STOP, Longitudinal.STOP, Longitudinal.SET_SPEED
        ]  # fmt: skip
        # The later of half a second before moving off and the light turning green.
        assert 11.7 <= labels[-1].keyframe_s <= 12.1

    def test_a_lead_at_a_red_light_is_the_nearer_cause(self):
        speed = brake(4.0, to_stop=True)
        at = position(speed)[-1]
        clip = scenes.drive(
            speed, [scenes.agent(7, T, at + 9.0, 0.0)],
            events=[scenes.light(0.0, "red", at + 30.0, 3.0)],
        )  # fmt: skip
        labels, _ = label_clip(clip)
        assert {label.longitudinal for label in labels} == {Longitudinal.FOLLOW_LEAD}

    def test_yield_to_a_pedestrian_and_go_on(self):
        speed = scenes.speed_of((4.0, 0.0), (3.4, -2.5), (2.6, 0.0), (3.0, 1.5), start=8.0)
        at = position(speed)[95] + 9.0
        walker = scenes.person(4, T, at, -6.5 + 1.3 * (T - 2.0))
        labels, _ = label_clip(scenes.drive(speed, [walker]))
        first = labels[0]
        assert first.scenario is ScenarioClass.YIELD_TO_VRU
        assert first.longitudinal is Longitudinal.YIELD and first.components[0].track == 4
        assert "pedestrian" in first.trace

    def test_a_cut_in(self):
        y = 3.5 - 1.2 * np.clip(T - 4.8, 0.0, 2.9)
        other = scenes.agent(6, T, 12.0 + 10.0 * T - 0.5 * np.clip(T - 5, 0, 3) ** 2, y)
        labels, _ = label_clip(scenes.drive(brake(6.0), [other]))
        assert labels[0].scenario is ScenarioClass.CUT_IN
        assert labels[0].longitudinal is Longitudinal.YIELD

    def test_slow_for_a_curve(self):
        def bend(s):
            return 0.04 if 75 < s < 105 else 0.0

        speed = brake(5.0)
        ego = scenes.ego_along(speed, bend)
        label = label_clip(
            scenes.drive(speed, map_entries=scenes.curve_map(ego), kappa=bend)
        )[0][0]
        assert label.scenario is ScenarioClass.CURVE
        assert label.longitudinal is Longitudinal.ADAPT_SPEED
        assert "left curve" in label.trace

    def test_slow_for_a_turn_at_a_junction_and_turn(self):
        def turn(s):
            return 1.0 / 12.0 if 48 < s < 48 + 6.0 * np.pi else 0.0

        speed = scenes.speed_of((4.0, 0.0), (1.5, -2.0), start=8.0)
        clip = scenes.drive(speed, map_entries=scenes.junction(60.0), kappa=turn)
        slow, turns = label_clip(clip)[0]
        assert slow.longitudinal is Longitudinal.ADAPT_SPEED
        assert slow.trace == "Slow down for the left turn at the junction."
        assert (turns.lateral, turns.lateral_detail) == (Lateral.TURN, "left")
        assert turns.trace.startswith("Turn left at the junction")

    @parameterized.parameters((1.2, "left", -2.6), (-1.2, "right", 2.6))
    def test_a_nudge_around_something(self, size, side, y):
        box = scenes.agent(3, T, 8.0 * 7.5, y, size=(4.5, 1.6, 1.5))
        clip = scenes.drive(np.full(161, 8.0), [box], offset=swing(5.0, 2.0, size))
        label = only(clip)
        assert label.scenario is ScenarioClass.NUDGE
        assert label.lateral in (Lateral.IN_LANE_NUDGE, Lateral.OUT_OF_LANE_NUDGE)
        assert label.lateral_detail == side and label.components[0].track == 3

    def test_a_nudge_around_cones_is_construction(self):
        cones = [
            scenes.agent(20 + i, T, 50.0 + 4.0 * i, -2.2, category="TRAFFIC_CONE",
                         size=(0.4, 0.4, 0.8))
            for i in range(3)
        ]  # fmt: skip
        clip = scenes.drive(np.full(161, 8.0), cones, offset=swing(5.0, 2.0, 1.2))
        assert only(clip).scenario is ScenarioClass.CONSTRUCTION

    def test_a_lane_change_around_a_slow_lead(self):
        slow = scenes.agent(7, T, 50.0 + 3.0 * T, 0.0)
        offset = 3.5 * (1 - np.cos(np.pi * np.clip((T - 6.0) / 4.0, 0, 1))) / 2
        entries = [*scenes.lane("a", 0.0), *scenes.lane("b", 3.5)]
        clip = scenes.drive(np.full(161, 8.0), [slow], entries, offset=offset)
        labels = [x for x in label_clip(clip)[0] if x.lateral is Lateral.LANE_CHANGE]
        assert len(labels) == 1 and labels[0].lateral_detail == "left"
        assert labels[0].scenario is ScenarioClass.LANE_CHANGE

    def test_passing_someone_who_stands(self):
        clip = scenes.drive(np.full(161, 8.0), [scenes.person(4, T, 60.0, 3.2)])
        label = only(clip)
        assert label.scenario is ScenarioClass.NO_YIELD_TO_VRU
        assert label.longitudinal_detail == SpeedDetail.KEEP

    def test_moving_off_behind_a_lead(self):
        lead = position(stand_and_go(5.5)) + 10.0
        clip = scenes.drive(stand_and_go(7.0), [scenes.agent(7, T, lead, 0.0)])
        labels, _ = label_clip(clip)
        assert labels[-1].longitudinal_detail == SpeedDetail.START
        assert labels[0].longitudinal_detail == SpeedDetail.STAY_STOPPED


class RejectedTest(parameterized.TestCase):
    def rules(self, clip):
        labels, rejected = label_clip(clip)
        assert not labels
        return [entry.rule for entry in rejected]

    def test_a_stop_that_nothing_explains(self):
        assert self.rules(scenes.drive(brake(6.0, to_stop=True)))[0] == "no_cause"

    def test_what_begins_before_it_could_be_seen(self):
        early = scenes.drive(scenes.speed_of((0.5, 0.0), (1.6, -2.5)))
        assert self.rules(early) == ["not_observed"]

    def test_what_is_not_decided_within_the_clip(self):
        assert "no_future" in self.rules(scenes.drive(brake(14.2)))

    def test_a_drive_without_annotation(self):
        clip = dataclasses.replace(scenes.drive(brake(6.0)), agents=None, map_lines=None)
        assert self.rules(clip) == ["no_annotation"]

    def test_a_quiet_drive_has_nothing(self):
        assert self.rules(scenes.drive(np.full(161, 8.0))) == []

    def test_a_short_drive(self):
        clip = scenes.drive(np.full(161, 8.0))
        ego = clip.ego
        short = dataclasses.replace(
            clip, ego=type(ego)(ego.t[:15], ego.xyz[:15], ego.quat_wxyz[:15])
        )
        assert label_clip(short) == ([], [])


def mirrored(label):
    swap = {"left": "right", "right": "left"}
    words = label.trace.replace("left", "#").replace("right", "left").replace("#", "right")
    return (
        label.keyframe_s, label.scenario, label.longitudinal, label.longitudinal_detail,
        label.lateral, swap.get(label.lateral_detail, label.lateral_detail), words,
    )  # fmt: skip


def told(label):
    return (
        label.keyframe_s, label.scenario, label.longitudinal, label.longitudinal_detail,
        label.lateral, label.lateral_detail, label.trace,
    )  # fmt: skip


@pytest.mark.parametrize("index", [0, 1, 2, 6])
def test_in_the_mirror_left_is_right(index):
    clip = procedural_clip(3, index, cameras=())
    labels, _ = label_clip(clip)
    again, _ = label_clip(mirror_clip(clip))
    assert [mirrored(label) for label in labels] == [told(label) for label in again]


def cut_after(clip, t, shift):
    """The same clip, but from time t on all others are elsewhere."""
    agents = clip.agents
    moved = agents.xyz + np.where(agents.t > t + 1e-6, shift, 0.0)[:, None]
    return dataclasses.replace(
        clip,
        agents=dataclasses.replace(agents, xyz=moved),
        events=tuple(event for event in clip.events if event.t <= t),
    )


@pytest.mark.parametrize("index", range(4))
def test_what_others_do_after_a_keyframe_does_not_change_its_label(index):
    clip = procedural_clip(4, index, cameras=())
    labels, _ = label_clip(clip)
    for label in labels[:2]:
        again, _ = label_clip(cut_after(clip, label.keyframe_s, 200.0))
        same = [other for other in again if other.key == label.key]
        assert same and same[0] == label


def test_keyframes_for_somebody_else_to_label():
    clip = scenes.braking_behind_lead()
    times = keyframes_of(clip)
    assert len(times) >= 1 and (np.diff(times) >= 1.0).all()
    assert any(abs(t - 5.5) < 0.5 for t in times)
    assert keyframes_of(dataclasses.replace(clip, agents=None, map_lines=None)) == times


class ProceduralTest(parameterized.TestCase):
    @parameterized.parameters(*range(8))
    def test_labels_pass_all_checks(self, index):
        clip = procedural_clip(11, index, cameras=())
        labels, _ = label_clip(clip)
        annotations = Annotations(clip)
        for label in labels:
            assert check_label(label) + annotations.check(label) == []

    def test_again_is_the_same(self):
        clip = procedural_clip(11, 2, cameras=())
        assert label_clip(clip) == label_clip(clip)


@pytest.fixture(scope="module")
def recorded(real_clips_dir):
    """(annotated clips, others, labels by clip)."""
    clips = [read_clip(path) for path in find_clips(real_clips_dir)]
    annotated = [clip for clip in clips if clip.agents is not None]
    bare = [clip for clip in clips if clip.agents is None]
    return annotated, bare, {clip.clip_id: label_clip(clip)[0] for clip in annotated}


class TestRecorded:
    @pytest.fixture(autouse=True)
    def _recorded(self, recorded):
        self.clips, self.bare, self.labels = recorded

    def test_every_annotated_clip_has_a_trace(self):
        assert self.clips and all(self.labels.values())

    def test_no_annotation_no_label(self):
        assert all(label_clip(clip)[0] == [] for clip in self.bare)

    def test_labels_pass_all_checks(self):
        for clip in self.clips:
            annotations = Annotations(clip)
            for label in self.labels[clip.clip_id]:
                assert check_label(label) + annotations.check(label) == [], label.trace

    def test_what_is_named_is_in_the_rows_of_the_annotation(self):
        """Not through the labeller's own code: straight from the table."""
        for clip in self.clips:
            agents = clip.agents
            for label in self.labels[clip.clip_id]:
                for component in label.components:
                    if component.track is None:
                        continue
                    rows = agents.track == component.track
                    rows &= np.abs(agents.t - label.keyframe_s) < 0.16
                    rows &= agents.t <= label.keyframe_s + 1e-6
                    assert rows.any(), label.trace
                    assert component.attributes["category"] in set(agents.category[rows])
                    k = int(np.argmin(np.abs(clip.ego.t - label.keyframe_s)))
                    away = np.linalg.norm(agents.xyz[rows] - clip.ego.xyz[k], axis=-1).min()
                    assert away < 70.0

    def test_facts_are_those_of_the_annotation(self):
        for clip in self.clips:
            agents = clip.agents
            for label in self.labels[clip.clip_id]:
                for component in label.components:
                    if "speed_mps" not in component.fact:
                        continue
                    past = agents.track == component.track
                    past &= (agents.t <= label.keyframe_s + 1e-6) & (
                        agents.t >= label.keyframe_s - 0.85
                    )
                    t, xyz = agents.t[past], agents.xyz[past]
                    if len(t) > 2:
                        speed = np.linalg.norm((xyz[-1] - xyz[0])[:2]) / (t[-1] - t[0])
                        assert abs(speed - component.fact["speed_mps"]) < 0.6, label.trace
