"""Texts and the decisions that they state."""

import random
import time

from coc_labels import stop_label
import pytest

from alpamayo_jax.coc import intent
from alpamayo_jax.coc.component import Component, Kind
from alpamayo_jax.coc.decisions import SIDES, Lateral, Longitudinal
from alpamayo_jax.coc.intent import Intent, intent_of, parse_intent

L, P = Longitudinal, Lateral

SPEEDS = {
    # What the paper's closed set says in its own words and in others.
    "Keep the speed because the lane ahead is clear.": (L.SET_SPEED, "keep"),
    "Maintain a steady speed; nothing is ahead": (L.SET_SPEED, "keep"),
    "The ego continues through the crossing since the traffic light is green": (
        L.SET_SPEED, "keep"),
    "Start moving because the traffic light has turned green.": (L.SET_SPEED, "start"),
    "Resume driving because the pedestrian has left the path": (L.SET_SPEED, "start"),
    "Accelerate because the road is free": (L.SET_SPEED, "faster"),
    "Speed up because the road straightens after the curve.": (L.SET_SPEED, "faster"),
    "Keep a safe distance to the car ahead.": (L.FOLLOW_LEAD, ""),
    "Stay behind the slower car ahead because a car blocks the left lane.": (L.FOLLOW_LEAD, ""),
    "Follow the lead vehicle at a safe gap": (L.FOLLOW_LEAD, ""),
    "Slow down because the car ahead is braking.": (L.FOLLOW_LEAD, "slow"),
    "Slow down to stop behind the stopped car ahead.": (L.FOLLOW_LEAD, "stop"),
    "Slow down to a stop to keep a safe distance to the truck ahead": (L.FOLLOW_LEAD, "stop"),
    "Stay stopped behind the vehicle ahead, which is stopped": (L.FOLLOW_LEAD, "stay_stopped"),
    "Start moving because the vehicle ahead is driving off": (L.FOLLOW_LEAD, "start"),
    "Speed up because the vehicle ahead is faster": (L.FOLLOW_LEAD, "faster"),
    "Slow down for the sharp left curve ahead.": (L.ADAPT_SPEED, "slow"),
    "Prepare to slow down for the speed bump": (L.ADAPT_SPEED, "slow"),
    "Brake for the left turn at the junction": (L.ADAPT_SPEED, "slow"),
    "Reduce speed due to construction": (L.ADAPT_SPEED, "slow"),
    "Hold a low speed through the gentle right curve.": (L.ADAPT_SPEED, "keep"),
    "Keep the speed low through the sharp left curve ahead": (L.ADAPT_SPEED, "keep"),
    "Adjust to match the speed of the target lane": (L.SEARCH_GAP, ""),
    "Search for a gap in the left lane": (L.SEARCH_GAP, ""),
    "Accelerate to pass the slow truck ahead": (L.PASS, "faster"),
    "Overtake the cyclist": (L.PASS, ""),
    "Yield to the pedestrian crossing from the right": (L.YIELD, ""),
    "Give way to the ambulance": (L.YIELD, ""),
    "Slow down to yield because the pedestrian on the crosswalk is crossing": (L.YIELD, "slow"),
    "Stop to yield because the pedestrian is crossing.": (L.YIELD, "stop"),
    "Slow down because the pedestrian is crossing": (L.YIELD, "slow"),
    "Slow down because the car on the left is cutting in": (L.YIELD, "slow"),
    "Stay stopped to yield because the cyclist is crossing": (L.YIELD, "stay_stopped"),
    "Wait for the pedestrian on the crosswalk": (L.YIELD, "stay_stopped"),
    "Stop because the traffic light is red.": (L.STOP, "stop"),
    "Come to a complete stop at the stop sign": (L.STOP, "stop"),
    "Slow down to a stop at the stop line ahead": (L.STOP, "stop"),
    "Prepare to stop because the traffic light ahead is yellow.": (L.STOP, "stop"),
    "Stay stopped at the line because the traffic light is red.": (L.STOP, "stay_stopped"),
    "Decelerate because the light turned yellow": (L.STOP, "slow"),
    "Stop for the school bus": (L.STOP, "stop"),
}  # fmt: skip
PATHS = {
    "Keep to the lane; the lane ahead is clear.": (P.KEEP_LANE, ""),
    "Stay in the lane": (P.KEEP_LANE, ""),
    "Keep the speed and follow the left curve.": (P.KEEP_LANE, ""),
    "Go straight on": (P.KEEP_LANE, ""),
    "Merge into the traffic on the highway": (P.MERGE_SPLIT, "merge"),
    "Take the exit on the right": (P.MERGE_SPLIT, "split"),
    "Nudge left to give room to the cyclist on the right.": (P.IN_LANE_NUDGE, "left"),
    "Move slightly to the left because the truck on the right is close to the path": (
        P.IN_LANE_NUDGE, "left"),
    "Steer around the parked car to the left": (P.IN_LANE_NUDGE, "left"),
    "Nudge right across the line into the next lane": (P.OUT_OF_LANE_NUDGE, "right"),
    "Nudge to the left out of lane because a truck is stopped": (P.OUT_OF_LANE_NUDGE, "left"),
    "Change to the left lane because the vehicle ahead is slower": (P.LANE_CHANGE, "left"),
    "Change lanes to the right": (P.LANE_CHANGE, "right"),
    "The car is moving into the right lane": (None, ""),
    "Make a lane change to the left": (P.LANE_CHANGE, "left"),
    "Pull over to let the ambulance pass": (P.PULL_OVER, ""),
    "Park at the curb": (P.PULL_OVER, ""),
    "Turn left at the junction to follow the route": (P.TURN, "left"),
    "Make a right turn": (P.TURN, "right"),
    "Abort the lane change because a car is close on the left": (P.ABORT, ""),
    "Slow down because the car ahead is turning left": (None, ""),
}


@pytest.mark.parametrize("text", SPEEDS)
def test_what_decides_the_speed(text):
    found = parse_intent(text)
    assert (found.longitudinal, found.speed) == SPEEDS[text]


@pytest.mark.parametrize("text", PATHS)
def test_what_decides_the_path(text):
    found = parse_intent(text) or Intent()
    assert (found.lateral, found.side) == PATHS[text]


@pytest.mark.parametrize("text", [
    "", "   ", "banana", "The sky is blue.", "The traffic light is red.", "!!!", "<|cot_end|>",
    "The pedestrian stops at the curb.", "Do not stop.", "5/5",
])  # fmt: skip
def test_texts_without_a_decision(text):
    assert parse_intent(text) is None


def test_both_axes():
    found = parse_intent("Decelerate and turn right at the intersection as the route turns right.")
    assert found == Intent(L.ADAPT_SPEED, "slow", P.TURN, "right", ("right",))
    found = parse_intent("Stop for the red light and keep lane")
    assert (found.longitudinal, found.lateral) == (L.STOP, P.KEEP_LANE)


@pytest.mark.parametrize(("text", "speed"), [
    ("Because the car ahead is speeding up, keep the speed.", "keep"),
    ("The light is red, so stop at the line.", "stop"),
    ("The car ahead is braking; slow down.", "slow"),
    ("Speed up although the stop sign is near", "faster"),
    ("The ego vehicle slows down because the lead vehicle is speeding up.", "slow"),
    ("Do not stop, keep the speed because the light is green.", "keep"),
    ("Keep the speed instead of stopping.", "keep"),
])  # fmt: skip
def test_others_and_reasons_are_no_decisions(text, speed):
    assert parse_intent(text).speed == speed


def test_what_comes_first_is_decided():
    assert parse_intent("Speed up, then slow down for the curve.").speed == "faster"
    assert parse_intent("Slow down for the curve. Speed up.").speed == "slow"


def test_case_and_spaces_do_not_matter():
    plain = "Slow down because the car ahead is braking."
    assert parse_intent(plain) == parse_intent(plain.upper().replace(" ", " \n "))


@pytest.mark.parametrize(("text", "bends"), [
    ("Keep the speed and follow the left curve.", ("left",)),
    ("Speed up because the road straightens after the curve.", ("left", "right")),
    ("Slow down because the vehicle on the left is slowing", ()),
    ("Slow down for the right turn at the junction", ("right",)),
])  # fmt: skip
def test_bends(text, bends):
    assert parse_intent(text).bends == bends


def test_of_a_label():
    assert intent_of(stop_label()) == Intent(L.STOP, "stop", P.TURN, "left", ("left",))
    curve = Component(Kind.ROAD_EVENT, {"type": "curve"}, 0.0)
    assert intent_of(stop_label(components=(curve,))).bends == ("left", "right")


@pytest.mark.parametrize("part", [
    "the car ", "because ", "keep the ", "the car ahead ", "left right ", "slow down to ", "a " * 9,
])  # fmt: skip
def test_long_texts_do_not_take_long(part):
    begin = time.perf_counter()
    intent.parse_intent.__wrapped__(part * 20000)
    assert time.perf_counter() - begin < 2.0


def test_no_salad_of_words_is_too_much():
    """Untrained policies say such things; every parse is of the closed set, or none."""
    words = " ".join([*SPEEDS, *PATHS]).split()
    words += [",", ".", "<|x|>", "(", "[", "\\", "ß", "\x00", "7"]
    rng = random.Random(0)
    decided = 0
    for _ in range(500):
        found = parse_intent(" ".join(rng.choices(words, k=rng.randrange(40))))
        if found is not None:
            decided += 1
            assert found.longitudinal in (None, *L) and found.lateral in (None, *P)
            assert (found.longitudinal, found.lateral) != (None, None)
            assert found.side in ("", *SIDES.get(found.lateral, ()))
            assert bool(found.side) == (found.lateral in SIDES)
    assert 100 < decided < 500
