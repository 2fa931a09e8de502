"""The tables of words: every decision of the closed set can be said, and nothing else is meant."""

import pytest

from alpamayo_jax.coc import intent_words
from alpamayo_jax.coc.decisions import Lateral, Longitudinal, SpeedDetail


def test_every_decision_has_words():
    lateral = {decision for _, decision in intent_words.LATERALS}
    assert lateral == set(Lateral) - {Lateral.OUT_OF_LANE_NUDGE}  # which is a nudge that leaves
    # Set speed tracking and stops are told by what else is said.
    told = {decision for _, decision, _ in intent_words.SPEEDS} - {None}
    assert told == set(Longitudinal) - {Longitudinal.SET_SPEED, Longitudinal.STOP}
    assert {speed for _, _, speed in intent_words.SPEEDS} - {""} == set(SpeedDetail)


@pytest.mark.parametrize("thing", [
    "the stop sign", "a stop line", "the yield sign", "the left turn lane", "the stopped car",
    "the slow truck", "a turning vehicle", "the speed bump", "turn signals", "a waiting bus",
])  # fmt: skip
def test_things_are_no_decisions(thing):
    left = intent_words.THINGS.sub(" ", thing)
    tables = [*intent_words.SPEEDS, *intent_words.LATERALS]
    assert not any(pattern.search(left) for pattern, *_ in tables)


@pytest.mark.parametrize(("text", "left"), [
    ("stop because the light is red", "stop "),
    ("stop because the light is red, then turn left", "stop , then turn left"),
    ("because the light is red and the car is slow, stop", ", stop"),
    ("slow down for the bus and keep the lane", "slow down and keep the lane"),
    ("the light is red, so stop", "the light is red, so stop"),
])  # fmt: skip
def test_reasons_end_with_their_clause(text, left):
    assert intent_words.REASON.sub("", text) == left


@pytest.mark.parametrize(("text", "left"), [
    ("the car ahead is braking", ""),
    ("the light on the left is red, stop", ", stop"),
    ("a pedestrian crosses so yield", "so yield"),
    ("the ego vehicle stops", "the ego vehicle stops"),
    ("our own car stops", "our own car stops"),
    ("keep the speed because the lane is clear", "keep the speed because "),
])  # fmt: skip
def test_what_others_do(text, left):
    assert intent_words.OTHERS.sub("", text) == left


@pytest.mark.parametrize("text", ["do not stop now", "without stopping", "never turn left"])
def test_what_is_not_done(text):
    assert not intent_words.NOT.sub("", text).strip()


def test_a_lane_is_left():
    for text in ("out of lane", "across the line", "crossing the lane line", "leaving the lane"):
        assert intent_words.LEAVES.search(text), text
    assert not intent_words.LEAVES.search("within the lane")
