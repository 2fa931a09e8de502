"""Grades of texts against references, level by level of the rubric."""

import dataclasses

import numpy as np
import pytest
from reward_episodes import episodes, situation

from alpamayo_jax.coc.component import Component, Kind
from alpamayo_jax.coc.decisions import Lateral, Longitudinal
from alpamayo_jax.coc.evidence import components_of
from alpamayo_jax.coc.intent import parse_intent
from alpamayo_jax.coc.rules.labeller import label_clip
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.coc.schema import CocLabel
from alpamayo_jax.data.clip_folder import find_clips, read_clip
from alpamayo_jax.rl.rewards.reasoning import (
    StructuredReasoning,
    cause_agreement,
    grade,
    reference,
)

RED = "Stop because the traffic light is red."
LEAD = "Slow down because the car ahead is braking."
NUDGE = "Nudge to the left because the truck on the right is close to the path."

GRADES = [
    # (reference, text, grade)
    (RED, RED, 5),
    (RED, "Come to a stop at the red light", 5),
    (RED, "The light is red, so the ego vehicle stops.", 5),
    (RED, "Stop because the light is red and the road is clear", 4),
    (RED, "Slow down because the traffic light is red.", 3),
    (RED, "Stop because the stop sign is ahead", 2),
    (RED, "Stop behind the stopped car ahead.", 2),
    (RED, "Keep the speed because the traffic light is red.", 2),
    (RED, "Keep the speed because the lane ahead is clear.", 1),
    (RED, "Speed up because the traffic light is red", 1),
    (RED, "Speed up because the lane ahead is clear.", 0),
    (RED, "Start moving because the traffic light has turned green.", 0),
    (RED, "banana", 0),
    (RED, "", 0),
    (RED, "5", 0),
    (LEAD, "Slow down because the vehicle ahead is slowing down", 5),
    (LEAD, "Decelerate since the lead vehicle is braking", 5),
    (LEAD, "Slow down because the vehicle ahead is slower", 5),
    (LEAD, "Slow down because the car ahead is crossing", 3),
    (LEAD, "Slow down to stop behind the car ahead.", 3),
    (LEAD, "Keep a safe distance to the car ahead.", 2),
    (LEAD, "Slow down because the car ahead is braking, and turn left.", 2),
    (NUDGE, "Nudge left because the truck on the right is close", 5),
    (NUDGE, "Nudge left out of lane because the truck on the right is close", 5),
    (NUDGE, "Change to the left lane because the truck on the right is close", 3),
    (NUDGE, "Nudge right because the truck on the left is close", 1),
    (NUDGE, "Nudge right because the lane ahead is clear", 0),
    (NUDGE, "Keep to the lane because the truck on the right is close", 2),
]


@pytest.mark.parametrize(("wanted", "text", "want"), GRADES)
def test_the_rubric(wanted, text, want):
    assert grade(text, parse_intent(wanted), components_of(wanted)) == want


def test_naming_everything_does_not_pay():
    everything = (
        f"{RED[:-1]}, the car ahead is braking, a pedestrian is crossing on the left and the curve "
        "is sharp"
    )
    assert grade(everything, parse_intent(RED), components_of(RED)) < 5


def test_causes():
    red, green = components_of("the traffic light is red"), components_of("the light is green")
    car, person = components_of("the car ahead"), components_of("the pedestrian is crossing")
    stopped = components_of("the stopped car ahead")
    moving_away = components_of("the car ahead is driving off")
    assert cause_agreement(red, red) == 1.0 and cause_agreement(red, green) == 0.0
    assert cause_agreement(car, stopped) == 1.0  # nothing that is said is wrong
    assert cause_agreement(moving_away, stopped) == 0.5
    assert cause_agreement(person, car) == 0.0
    assert cause_agreement(red + car, red) == pytest.approx(2 * 0.5 / 1.5)
    assert cause_agreement((), ()) == 1.0 and cause_agreement((), red) == 0.0
    assert cause_agreement(red, ()) == 0.0


def _label(**changes):
    label = CocLabel(
        "c", 8.0, ScenarioClass.STOP_FOR_LEAD, Longitudinal.FOLLOW_LEAD, None,
        (Component(Kind.OBJECT, {"type": "vehicle", "category": "CAR", "pose": "in_path",
                                 "motion": "stopped"}, 8.0),),
        "Stop behind the car ahead, which is stopped", "rules", "stop",
    )  # fmt: skip
    return dataclasses.replace(label, **changes)


def test_a_label_goes_before_the_text():
    window = situation(RED, label=_label())
    intent, causes = reference(window)
    assert intent.longitudinal is Longitudinal.FOLLOW_LEAD and causes == _label().components
    texts = ["Stop behind the stopped car ahead.", RED]
    scores = StructuredReasoning()(episodes([window], [texts]))
    np.testing.assert_array_equal(scores.values, [[5, 2]])
    other = situation("", label=_label(lateral=Lateral.TURN, lateral_detail="left"))
    assert reference(other)[0].side == "left"


def test_windows_without_a_reference_are_not_measured():
    made = episodes([situation(), situation("banana"), situation(RED)], [[RED, LEAD]] * 3)
    scores = StructuredReasoning()(made)
    np.testing.assert_array_equal(scores.values[:2], 0)
    np.testing.assert_array_equal(scores.measured, [[False] * 2, [False] * 2, [True] * 2])
    assert scores.valid.all() and scores.values[2, 0] == 5
    assert scores.mean() == scores.values[2].mean()


def test_labels_of_recorded_drives_grade_their_own_trace_best(real_clips_dir):
    clips = map(read_clip, find_clips(real_clips_dir)[:2])
    labels = [label for clip in clips for label in label_clip(clip)[0]]
    assert labels
    for label in labels:
        assert grade(label.trace, *reference(situation(label=label))) == 5, label.trace
