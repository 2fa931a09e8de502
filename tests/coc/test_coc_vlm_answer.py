"""Answers of a labelling model: the good one, and everything else."""

import json

import pytest
from vlm_answers import DECIDED, SEEN

from alpamayo_jax.coc.component import Kind
from alpamayo_jax.coc.decisions import Lateral, Longitudinal
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.coc.schema import CocLabel, parse_label
from alpamayo_jax.coc.vlm_answer import NoLabel, parse_object, read_decided, read_seen
from alpamayo_jax.types import InputError


def seen(**changes):
    entry = SEEN["components"][0] | changes
    return read_seen(json.dumps({"components": [entry]}), 8.0, 2.0)


def decided(scenario=None, **changes):
    components = read_seen(json.dumps(SEEN), 8.0, 2.0)
    text = json.dumps(DECIDED | changes)
    return read_decided(text, "c", 8.0, components, "vlm:m", scenario, {"model": "m"})


def test_components():
    car, light = read_seen(json.dumps(SEEN), 8.0, 2.0)
    assert car.kind is Kind.OBJECT and light.kind is Kind.LIGHT
    assert (car.seen_at, light.seen_at) == (7.5, 8.0)
    assert car.attributes == {
        "type": "vehicle", "pose": "in_path", "motion": "slowing", "uncertainty": "low",
    }  # fmt: skip
    assert car.track is None and car.fact == {}
    assert read_seen('{"components": []}', 8.0, 2.0) == ()


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"seconds_before": -0.5}, "seconds_before"),
        ({"seconds_before": 2.5}, "seconds_before"),
        ({"seconds_before": None}, "seconds_before"),
        ({"kind": "ghost"}, "kind"),
        ({"attributes": {"type": "dragon"}}, "attributes.type"),
        ({"attributes": {"colour": "red"}}, "colour"),
        ({"attributes": []}, "attributes"),
        ({"confidence": 1}, "confidence"),
    ],
)
def test_bad_components(changes, words):
    with pytest.raises(InputError, match=words):
        seen(**changes)


@pytest.mark.parametrize("value", [[], {"components": {}}, {"components": [1]}, {"x": 1}, "no"])
def test_no_list_of_components(value):
    with pytest.raises(InputError):
        read_seen(json.dumps(value), 8.0, 2.0)


def test_too_many_components():
    with pytest.raises(InputError, match="at most 16"):
        read_seen(json.dumps({"components": [SEEN["components"][0]] * 17}), 8.0, 2.0)


def test_a_label():
    label = decided()
    assert isinstance(label, CocLabel) and label.author == "vlm:m"
    assert (label.clip, label.keyframe_s) == ("c", 8.0)
    assert (label.longitudinal, label.lateral) == (Longitudinal.FOLLOW_LEAD, None)
    assert label.scenario is ScenarioClass.SLOW_FOR_LEAD
    assert [c.kind for c in label.components] == [Kind.OBJECT]
    assert parse_label(label.line()) == label


def test_the_order_of_causes_is_kept_and_none_is_repeated():
    label = decided(causes=[1, 0, 1])
    assert [c.kind for c in label.components] == [Kind.LIGHT, Kind.OBJECT]


def test_the_scenario_of_the_keyframe_goes_first():
    assert decided(scenario=ScenarioClass.CUT_IN).scenario is ScenarioClass.CUT_IN


def test_a_lateral_decision_and_its_side():
    label = decided(lateral="lane_change", lateral_detail="left", longitudinal=None)
    assert (label.lateral, label.lateral_detail) == (Lateral.LANE_CHANGE, "left")
    assert label.longitudinal_detail == ""


def test_unobserved():
    label = decided(causes=[], unobserved="the reason is behind a truck")
    assert label.components == () and label.unobserved.startswith("the reason")
    assert decided(unobserved="but there are causes").unobserved == ""


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"longitudinal": "fly"}, "longitudinal is 'fly', not one of"),
        ({"longitudinal": ["yield", "stop"]}, "longitudinal"),
        ({"lateral": "turn"}, "details.lateral"),
        ({"lateral": "turn", "lateral_detail": "merge"}, "details.lateral"),
        ({"longitudinal_detail": "hop"}, "details.longitudinal"),
        ({"causes": [2]}, "causes must be numbers of the 2"),
        ({"causes": [True]}, "causes"),
        ({"causes": "0"}, "causes"),
        ({"causes": []}, "unobserved"),
        ({"causes": [], "unobserved": "  "}, "unobserved"),
        ({"trace": ""}, "trace is empty"),
        ({"trace": "x" * 5000}, "trace"),
        ({"scenario_class": "party"}, "scenario_class"),
        ({"usable": "yes"}, "usable"),
        ({"usable": False}, "unusable_reason"),
        ({"mood": "good"}, "mood"),
    ],
)
def test_bad_labels(changes, words):
    with pytest.raises(InputError, match=words):
        decided(**changes)


def test_nothing_to_label():
    assert decided(longitudinal=None) == NoLabel(
        "no_decision", "the model sees no change of speed or path"
    )
    assert decided(usable=False, unusable_reason="runs a red light") == NoLabel(
        "excluded", "runs a red light"
    )


@pytest.mark.parametrize(
    "text", ['{"a": 1}', '```json\n{"a": 1}\n```', '```\n{"a": 1}```', ' {"a": 1}\n']
)
def test_objects(text):
    assert parse_object(text) == {"a": 1}


@pytest.mark.parametrize(
    "text",
    ["", "I think that", '{"a": 1', '{"a": NaN}', "[1]", "null", '{"a": 1} {"b": 2}',
     "[" * 100_000, '{"a": "\\ud800"}', 'Sure: {"a": 1}'],
)  # fmt: skip
def test_what_is_no_object(text):
    with pytest.raises(InputError, match="clip 'c'"):
        parse_object(text, "clip 'c'")
