"""A label survives the form, and the form says what is missing."""

import dataclasses

import pytest
from review_labels import label

from alpamayo_jax.coc import vlm_prompt
from alpamayo_jax.coc.component import ATTRIBUTES, Component, Kind
from alpamayo_jax.coc.decisions import SIDES, Lateral
from alpamayo_jax.coc.schema import CocLabel
from alpamayo_jax.review import form as form_lib
from alpamayo_jax.review.book import same_content
from alpamayo_jax.review.form import Form, new_component
from alpamayo_jax.types import InputError

LABELS = [
    label(),
    label(components=(), unobserved="behind a truck"),
    label(longitudinal=None, longitudinal_detail="", lateral=Lateral.TURN, lateral_detail="left"),
    label(lateral=Lateral.KEEP_LANE),
]


@pytest.mark.parametrize("one", LABELS)
def test_through_the_form_and_back(one):
    made = Form.of(one).label(one.clip, one.keyframe_s)
    assert isinstance(made, CocLabel) and same_content(made, one)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"scenario": ""}, "scenario"),
        ({"longitudinal": ""}, "at least one decision"),
        ({"trace": " \n"}, "trace"),
        ({"lateral": "turn"}, "side"),
        ({"longitudinal_detail": "hop"}, "details.longitudinal"),
        ({"trace": "x" * 3000}, "trace"),
    ],
)
def test_what_is_missing(changes, words):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(Form.of(label()), **changes).label("c0", 8.0)


def test_what_no_longer_applies_is_left_out():
    form = dataclasses.replace(
        Form.of(label()), lateral="lane_keeping", lateral_detail="left", unobserved="old words"
    )
    made = form.label("c0", 8.0)
    assert made.lateral_detail == "" and made.unobserved == ""
    form = dataclasses.replace(form, longitudinal="", longitudinal_detail="slow")
    assert form.label("c0", 8.0).longitudinal_detail == ""


def test_the_trace_is_one_line():
    form = dataclasses.replace(Form.of(label()), trace=" Slow down,\n\n  please. ")
    assert form.label("c0", 8.0).trace == "Slow down, please."


def test_forms_do_not_share_components():
    a, b = Form.of(label()), Form.of(label())
    a.components.clear()
    assert len(b.components) == 1 and Form().components is not Form().components


def test_a_new_component():
    made = new_component("traffic_light", {"state": "red", "arrow": "", "note": None}, 0.4, 8.0)
    assert made == Component(Kind.LIGHT, {"state": "red"}, 7.6)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("traffic_light", {"state": ""}, 0.0, 8.0), "say something about the traffic light"),
        (("traffic_light", {"state": "blue"}, 0.0, 8.0), "blue"),
        (("dragon", {"x": "y"}, 0.0, 8.0), "kind"),
        (("lane", {"note": "  "}, 0.0, 8.0), "say something"),
        (("lane", {"note": "wide"}, -1.0, 8.0), "after the keyframe"),
    ],
)
def test_a_bad_component(arguments, words):
    with pytest.raises(InputError, match=words):
        new_component(*arguments)


def test_words():
    (car,) = label().components
    jumbled = dataclasses.replace(car, attributes=dict(reversed(car.attributes.items())))
    assert vlm_prompt.component_words(jumbled) == "vehicle, in path, slowing"
    assert form_lib.fact_words(car) == "track 3, gap 14.2 m"
    more = dataclasses.replace(car, track=None, fact={"ego_mps": 9.53111, "m": 2, "lane_id": "a"})
    assert form_lib.fact_words(more) == "ego 9.531 m/s, m 2, lane id a"
    twice = dataclasses.replace(car, attributes={"type": "vehicle", "category": "VEHICLE"})
    assert vlm_prompt.component_words(twice) == "vehicle"
    assert form_lib.seen_words(car, 8.0) == "0.5 s before"
    assert form_lib.seen_words(car, 7.5) == "at the keyframe"
    assert form_lib.fact_words(Component(Kind.LANE, {}, 1.0)) == ""
    assert vlm_prompt.component_words(Component(Kind.LANE, {}, 1.0)) == "nothing said"


def test_choices_are_those_of_the_schema():
    for kind in Kind:
        assert form_lib.attribute_choices(kind.value) == ATTRIBUTES[kind]
    for lateral in Lateral:
        assert form_lib.side_choices(lateral.value) == [s.value for s in SIDES.get(lateral, ())]
    assert form_lib.side_choices("") == []
