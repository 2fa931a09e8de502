"""Components that a text names."""

import pytest

from alpamayo_jax.coc import lexicon
from alpamayo_jax.coc.component import ATTRIBUTES, Component, Kind
from alpamayo_jax.coc.evidence import components_of, thing

CASES = {
    "Slow down because the car ahead is braking.": [
        ("vehicle", {"pose": "in_path", "motion": "slowing"})],
    "Slow down to stop behind the stopped truck ahead.": [
        ("vehicle", {"pose": "in_path", "motion": "stopped"})],
    "Follow the slower cyclist": [("cyclist", {"motion": "slower"})],
    "Speed up as the vehicle ahead is speeding up": [
        ("vehicle", {"pose": "in_path", "motion": "accelerating"})],
    "Yield to the pedestrian crossing from the right": [
        ("pedestrian", {"pose": "right", "motion": "crossing"})],
    "Slow down because the oncoming bus is about to cross the path": [
        ("vehicle", {"pose": "oncoming", "motion": "crossing"})],
    "Start moving because the crossing pedestrian has left the path": [
        ("pedestrian", {"motion": "passed"})],
    "Brake because a van on the left is cutting in": [
        ("vehicle", {"pose": "left", "motion": "cut_in"})],
    "Nudge to the right to pass the parked vehicle on the left.": [
        ("vehicle", {"pose": "left", "motion": "parked"})],
    "Stop because the traffic light is red.": [("traffic_light", {"state": "red"})],
    "The light has turned green": [("traffic_light", {"state": "green"})],
    "Stop at the stop sign": [("stop_sign", {})],
    "Slow down for the sharp left curve ahead.": [("curve", {"side": "left"})],
    "Slow down for the speed bump": [("bump", {})],
    "Slow down due to construction": [("construction", {})],
    "Turn left at the junction": [("junction", {"side": "left"})],
    "Change lanes to follow the route": [("route", {})],
    "Keep the speed because the lane ahead is clear.": [("lane", {"state": "free"})],
    "No vehicle is ahead": [("lane", {"state": "free"})],
    "Nothing in the way": [("lane", {"state": "free"})],
    "banana": [],
    "": [],
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_what_is_named(text):
    found = [(thing(c), {k: v for k, v in c.attributes.items() if k not in ("type", "state")}
              | ({"state": c.attributes["state"]} if "state" in c.attributes else {}))
             for c in components_of(text)]  # fmt: skip
    assert found == CASES[text]


def test_every_thing_once_with_all_that_is_said_of_it():
    text = "The car ahead is near, slow down because the car is braking and the light is red"
    found = components_of(text)
    assert [thing(c) for c in found] == ["vehicle", "traffic_light"]
    assert found[0].attributes == {"type": "vehicle", "pose": "in_path", "motion": "slowing"}


@pytest.mark.parametrize("text", CASES)
def test_attributes_are_those_of_the_schema(text):
    for component in components_of(text):
        for name, value in component.attributes.items():
            values = ATTRIBUTES[component.kind][name]
            assert values is None or value in values


# `lexicon` takes a pedestrian who is "crossing from the right" for a crosswalk.
@pytest.mark.parametrize("text", [text for text in CASES if "crossing from" not in text])
def test_a_text_names_what_is_read_from_it(text):
    for component in components_of(text):
        if component.kind is not Kind.LANE and thing(component) != "traffic_light":
            assert lexicon.names(text, component)


def test_things():
    turn = Component(Kind.ROUTE, {"intent": "turn", "side": "left"}, 0.0)
    assert thing(turn) == thing(Component(Kind.ROAD_EVENT, {"type": "junction"}, 0.0))
    assert thing(Component(Kind.ROUTE, {"intent": "merge"}, 0.0)) == "route"
    assert thing(Component(Kind.LANE, {"type": "ego_lane"}, 0.0)) == "lane"
    assert thing(Component(Kind.ODD, {}, 0.0)) == "odd_constraint"


def test_reading_twice_gives_the_same():
    first = components_of("Stop because the traffic light is red.")
    assert components_of("Stop because the traffic light is red.") is first


def test_the_ego_is_no_cause():
    assert components_of("The ego vehicle keeps its speed; our own car is fine") == ()
