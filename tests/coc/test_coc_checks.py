"""The four checks find what they are there for, and pass what is right."""

import dataclasses

from absl.testing import parameterized
import coc_scenes as scenes
import numpy as np

from alpamayo_jax.coc import checks, lexicon
from alpamayo_jax.coc.annotated import NOT_ANNOTATED, Annotations
from alpamayo_jax.coc.balance import balance, per_class, per_decision
from alpamayo_jax.coc.component import Component, Kind
from alpamayo_jax.coc.decisions import Lateral, Longitudinal, SpeedDetail
from alpamayo_jax.coc.rules.labeller import label_clip
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.coc.schema import CocLabel

LEAD = Component(
    Kind.OBJECT, {"type": "vehicle", "pose": "in_path", "motion": "slowing"}, 5.0, 7
)
WALKER = Component(
    Kind.OBJECT, {"type": "pedestrian", "pose": "crosswalk", "motion": "crossing"}, 5.0, 4
)
RED = Component(Kind.LIGHT, {"state": "red"}, 5.0)
GREEN = Component(Kind.LIGHT, {"state": "green"}, 5.0)
CLEAR = Component(Kind.LANE, {"type": "clear_road", "state": "free"}, 5.0)
TURN = Component(Kind.ROUTE, {"intent": "turn", "side": "left"}, 5.0)
CURVE = Component(Kind.ROAD_EVENT, {"type": "curve", "side": "left"}, 5.0)


def label(trace, components=(LEAD,), decision=Longitudinal.FOLLOW_LEAD, detail="slow", **changes):
    values = dict(
        clip="a", keyframe_s=5.0, scenario=ScenarioClass.SLOW_FOR_LEAD, longitudinal=decision,
        longitudinal_detail=detail, lateral=None, components=tuple(components), trace=trace,
        author="somebody",
    )  # fmt: skip
    return CocLabel(**(values | changes))


GOOD = label("Slow down because the vehicle ahead is slowing down.")


class FourChecksTest(parameterized.TestCase):
    @parameterized.parameters(
        GOOD,
        label("Yield to the pedestrian on the crosswalk, who is crossing.", [WALKER],
              Longitudinal.YIELD),
        label("Stop because the traffic light is red.", [RED], Longitudinal.STOP, "stop"),
        label("Start moving because the traffic light is green.", [GREEN],
              Longitudinal.SET_SPEED, "start"),
        label("Speed up because the lane ahead is clear.", [CLEAR], Longitudinal.SET_SPEED,
              "faster"),
        label("Turn left at the junction to follow the route.", [TURN], None, "",
              lateral=Lateral.TURN, lateral_detail="left"),
        label("Slow down.", [], unobserved="the camera is covered"),
    )  # fmt: skip
    def test_a_good_label(self, one):
        one.validate()
        assert checks.check_label(one) == []

    @parameterized.parameters(
        # coverage
        ("causal_coverage", label("Slow down.", [])),
        ("causal_coverage", label("Slow down because the light is red.", [RED])),
        ("causal_coverage", label("Slow down.", [LEAD])),
        ("causal_coverage", label("Slow down because the vehicle ahead is slowing down.",
                                  lateral=Lateral.TURN, lateral_detail="left")),
        ("causal_coverage", label("Slow down because the vehicle beside is slowing down.",
                                  [dataclasses.replace(LEAD, attributes={
                                      "type": "vehicle", "pose": "left", "motion": "slowing"})])),
        # correctness
        ("causal_correctness", label("Slow down because the pedestrian and the vehicle stop.")),
        ("causal_correctness", label("Slow because the vehicle ahead is stopped.")),
        ("causal_correctness", label("Slow for the vehicle ahead at the red light.")),
        ("causal_correctness", label("Slow for the vehicle ahead because it slows down.")),
        ("causal_correctness", label("Slow down as the vehicle ahead will brake.")),
        ("causal_correctness", label("Slow for the traffic light ahead.", [GREEN],
                                     Longitudinal.STOP, "stop")),
        ("causal_correctness", label("Start behind the vehicle ahead.", detail="start")),
        ("causal_correctness", label("Slow down in the clear lane.", [CLEAR],
                                     Longitudinal.SET_SPEED)),
        # proximate cause
        ("proximate_cause", label("Stop for the red light behind the vehicle ahead.", [RED, LEAD],
                                  Longitudinal.STOP, "stop")),
        ("proximate_cause", label("Slow for the curve behind the vehicle ahead.", [CURVE, LEAD],
                                  Longitudinal.ADAPT_SPEED)),
        # minimality
        ("decision_minimality", label("Slow for the vehicle ahead.", lateral=Lateral.KEEP_LANE)),
        ("decision_minimality", label("Keep behind the vehicle ahead.", detail="keep")),
        ("decision_minimality", label("Slow for the vehicle ahead.", [LEAD, CURVE])),
        ("decision_minimality", label("Slow for the vehicle ahead.", [LEAD] * 5)),
    )  # fmt: skip
    def test_a_bad_one(self, rule, one):
        assert rule in {failure.rule for failure in checks.check_label(one)}

    def test_the_words_of_a_failure_name_the_thing(self):
        found = checks.correctness(label("Slow for the cyclist and the vehicle ahead."))
        assert found == ["the trace says 'cyclist', which no component shows"]


class LexiconTest(parameterized.TestCase):
    @parameterized.parameters(
        ("The stop sign and the emergency vehicle.", ["emergency vehicle", "stop sign"]),
        ("A bus and two trucks behind cones.", ["cones", "bus", "trucks"]),
        ("People on the crosswalk.", ["crosswalk", "people"]),
        ("Keep right of way on the right lane.", []),
        ("The business of scarcity.", []),
    )
    def test_things(self, trace, words):
        assert [mention.words for mention in lexicon.mentions(trace)] == words

    def test_a_truck_is_not_a_bus(self):
        bus = Component(Kind.OBJECT, {"type": "vehicle", "category": "BUS"}, 0.0)
        (truck,) = lexicon.mentions("truck")
        (vehicle,) = lexicon.mentions("vehicle")
        assert not truck.fits(bus) and vehicle.fits(bus)


class AnnotatedTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        clip = scenes.braking_behind_lead()
        cls.annotations = Annotations(clip)
        (cls.label,) = label_clip(clip)[0]

    def rules(self, **changes):
        return {f.rule for f in self.annotations.check(dataclasses.replace(self.label, **changes))}

    def with_component(self, track=7, seen_at=None, **attributes):
        one = self.label.components[0]
        return (
            dataclasses.replace(
                one, track=track, attributes=one.attributes | attributes,
                seen_at=one.seen_at if seen_at is None else seen_at,
            ),
        )  # fmt: skip

    def test_the_label_itself(self):
        assert self.rules() == set()

    @parameterized.parameters(
        dict(track=8), dict(track=None), dict(type="pedestrian"), dict(motion="stopped"),
        dict(motion="crossing"), dict(pose="left"), dict(pose="oncoming"),
        dict(pose="crosswalk"), dict(seen_at=2.0),
    )  # fmt: skip
    def test_what_the_annotation_does_not_show(self, **changes):
        if changes.get("motion") == "crossing":
            changes["track"] = 9
        if changes.get("seen_at") == 2.0:
            changes["motion"] = "slowing"
        assert self.rules(components=self.with_component(**changes)) == {NOT_ANNOTATED}

    @parameterized.parameters(
        Component(Kind.LIGHT, {"state": "red"}, 5.0),
        Component(Kind.CONTROL, {"type": "stop_line"}, 5.0),
        Component(Kind.CONTROL, {"type": "crosswalk"}, 5.0),
        Component(Kind.ROAD_EVENT, {"type": "junction"}, 5.0),
        Component(Kind.ROAD_EVENT, {"type": "curve", "side": "left"}, 5.0),
        Component(Kind.ROAD_EVENT, {"type": "bump"}, 5.0),
        Component(Kind.ROUTE, {"intent": "turn", "side": "left"}, 5.0),
        Component(Kind.LANE, {"type": "clear_road"}, 5.0, fact={"free_m": 60.0}),
        Component(Kind.ODD, {"type": "weather"}, 5.0),
    )
    def test_things_that_are_not_there(self, component):
        assert NOT_ANNOTATED in self.rules(components=(component,))
        free = dataclasses.replace(self.label, components=(component,))
        assert self.annotations.check(free, evidence=False) == []

    @parameterized.parameters(
        dict(longitudinal_detail=SpeedDetail.FASTER), dict(longitudinal_detail=SpeedDetail.START),
        dict(longitudinal_detail=SpeedDetail.STAY_STOPPED),
        dict(longitudinal_detail=SpeedDetail.KEEP),
        dict(lateral=Lateral.TURN, lateral_detail="left"),
    )  # fmt: skip
    def test_what_the_ego_does_not_do(self, **changes):
        assert "decision_minimality" in self.rules(**changes)

    def test_a_lead_that_stands_before_the_light(self):
        t = scenes.times()
        speed = scenes.speed_of((4.0, 0.0), (4.0, -2.5))
        clip = scenes.drive(
            speed, [scenes.agent(7, t, 70.0, 0.0)], events=[scenes.light(0.0, "red", 90.0)]
        )
        background = label(
            "Stop because the traffic light is red.",
            [Component(Kind.LIGHT, {"state": "red"}, 4.0, fact={"distance_m": 46.0})],
            Longitudinal.STOP, "stop", keyframe_s=4.0,
        )  # fmt: skip
        assert checks.check_label(background) == []
        found = Annotations(clip).check(background)
        assert [failure.rule for failure in found] == ["proximate_cause"]

    def test_a_keyframe_outside_the_clip(self):
        assert self.rules(keyframe_s=99.0) == {NOT_ANNOTATED}


class BalanceTest(parameterized.TestCase):
    def labels(self):
        kinds = [ScenarioClass.CURVE] * 9 + [ScenarioClass.NUDGE] * 2
        return [
            dataclasses.replace(GOOD, keyframe_s=float(i), scenario=kind)
            for i, kind in enumerate(kinds)
        ]

    @parameterized.parameters((0, 11), (1, 2), (3, 5), (20, 11))
    def test_at_most(self, most, count):
        kept = balance(self.labels(), most)
        assert len(kept) == count
        assert [x.key for x in kept] == sorted(x.key for x in kept)

    def test_more_keeps_what_fewer_kept_wherever_they_come_from(self):
        fewer, more = balance(self.labels(), 2), balance(self.labels(), 5)
        assert {x.key for x in fewer} <= {x.key for x in more}
        assert {x.key for x in balance(self.labels()[::-1], 2)} == {x.key for x in fewer}

    def test_counts(self):
        counts = per_class(self.labels())
        assert len(counts) == 16 and counts["curvy_road"] == 9 and counts["nudge"] == 2
        decisions = per_decision(self.labels())
        assert len(decisions) == 15 and decisions["lead_obstacle_following"] == 11
        assert sum(decisions.values()) == 11
        assert np.sum(list(per_class([]).values())) == 0
