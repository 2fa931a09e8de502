"""What is said of a step, on drives written by hand: cause, action and what is seen decide."""

import dataclasses

import numpy as np
import pytest

from alpamayo_jax.coc.component import Kind as Evidence
from alpamayo_jax.coc.decisions import Lateral, Longitudinal, SpeedDetail
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.sim.expert import Drive
from alpamayo_jax.sim.explain import Explainer
from alpamayo_jax.sim.layouts import Profile, Site, open_road
from alpamayo_jax.sim.motion import move
from alpamayo_jax.sim.paths import straight
from alpamayo_jax.sim.rules import CAUSES
from alpamayo_jax.sim.scenarios import Run, Scenario
from alpamayo_jax.sim.sideways import Move
from alpamayo_jax.sim.style import Style
from alpamayo_jax.sim.world import Actor, Kind, Shift, Sign, Signal, SpeedChange, World

ROAD = open_road([(600.0, 0.0)], Profile(), Site())
STEPS, K = 60, 20
SLOWS, KEEPS, SPEEDS_UP = -1.5, 0.0, 1.2
PERSON = dict(lwh=(0.5, 0.6, 1.7))


def played(cause, accel, *actors, v=10.0, s=0.0, actor=-1, blocker=-1, moves=(), **world):
    """A drive at `v` that changes by `accel` from step K on, for one cause."""
    t = 0.1 * np.arange(STEPS)
    speed = np.maximum(v + accel * np.maximum(t - t[K], 0.0), 0.0)
    along = s + np.concatenate([[0.0], np.cumsum(0.1 * speed[:-1])])
    zero, one = np.zeros(STEPS), np.ones(STEPS, np.int32)
    drive = Drive(
        t, along, zero, zero, along, zero, speed, zero, zero, CAUSES.index(cause) * one,
        actor * one, blocker * one, tuple(moves),
    )  # fmt: skip
    there = World(world.pop("layout", ROAD), actors, **world)
    scenario = Scenario("x", t[-1], there, there, Style(set_speed=12.0), v, "", len(actors))
    return Run(scenario, drive, tuple(move(who, STEPS) for who in actors))


def said(*args, **kwargs):
    return Explainer(played(*args, **kwargs)).at(K)


def car(s, d=0.0, **plan):
    return Actor(Kind.CAR, ROAD.route, s, d, **plan)


def crossing(kind, speed, s=60.0, reach=-6.0):
    x, y, heading = ROAD.route.place(s)
    path = straight((x, y, heading - np.pi / 2), 40.0, 40.0)
    return Actor(kind, path, reach, speed=speed)


def test_a_lead_that_brakes():
    brakes = car(60.0, speed=10.0, changes=(SpeedChange(1.0, 4.0, 2.0),))
    one = said("lead", SLOWS, brakes, actor=0)
    assert one.text == "Slow down because the car ahead is braking."
    assert one.scenario is ScenarioClass.SLOW_FOR_LEAD
    assert (one.longitudinal, one.detail) == (Longitudinal.FOLLOW_LEAD, SpeedDetail.SLOW)
    (seen,) = one.components
    assert seen.kind is Evidence.OBJECT and seen.track == 0
    assert seen.attributes["motion"] == "slowing" and seen.seen_at == 2.0


def test_it_is_about_stopping_if_the_ego_comes_to_rest():
    stops = car(60.0, speed=10.0, changes=(SpeedChange(1.0, 0.0, 2.0),))
    assert said("lead", -4.0, stops, actor=0).scenario is ScenarioClass.STOP_FOR_LEAD


@pytest.mark.parametrize(
    "lead, accel, v, text",
    [
        (4.0, SLOWS, 10.0, "Slow down because the car ahead is slower."),
        (0.0, SLOWS, 10.0, "Slow down to stop behind the stopped car ahead."),
        (0.0, 0.0, 0.0, "Stay stopped behind the stopped car ahead."),
        (12.0, SPEEDS_UP, 10.0, "Speed up because the car ahead is speeding up."),
        (5.0, SPEEDS_UP, 1.0, "Start moving because the car ahead is driving off."),
        (10.0, KEEPS, 10.0, "Keep a safe distance to the car ahead."),
    ],
)
def test_a_lead_by_its_speed(lead, accel, v, text):
    assert said("lead", accel, car(60.0, speed=lead), v=v, actor=0).text == text


@pytest.mark.parametrize("lead, accel, v", [(10.5, SLOWS, 10.0), (9.0, SPEEDS_UP, 10.0),
                                            (1.0, KEEPS, 1.0)])  # fmt: skip
def test_what_cannot_be_seen_yet_is_not_said(lead, accel, v):
    assert said("lead", accel, car(60.0, speed=lead), v=v, actor=0) is None


def test_a_taken_lane_is_why_it_stays_behind():
    two = open_road([(600.0, 0.0)], Profile(same=1), Site())
    slow, beside = (Actor(Kind.CAR, two.route, s, d, speed=7.0) for s, d in ((60, 0), (20, 3.5)))
    one = said("lead", KEEPS, slow, beside, actor=0, blocker=1, v=7.0, layout=two)
    assert one.text == "Stay behind the slower car ahead because a car blocks the left lane."
    assert [seen.track for seen in one.components] == [0, 1]
    assert one.scenario is ScenarioClass.PREPARE_LANE_CHANGE


@pytest.mark.parametrize("d, side", [(3.5, "left"), (-3.5, "right")])
def test_a_cut_in_needs_a_sign_of_it(d, side):
    comes = car(40.0, d, speed=8.0, shifts=(Shift(2.5, 0.0, 3.0),))
    one = said("cut_in", SLOWS, comes, actor=0)
    assert one.text == f"Slow down because the car on the {side} is cutting in."
    assert one.scenario is ScenarioClass.CUT_IN
    quiet = dataclasses.replace(comes, shifts=(Shift(2.5, 0.0, 3.0, signals=False),))
    assert said("cut_in", SLOWS, quiet, actor=0) is None
    assert said("cut_in", KEEPS, comes, actor=0) is None


@pytest.mark.parametrize("kind, noun", [(Kind.PEDESTRIAN, "pedestrian"), (Kind.CYCLIST, "cyclist"),
                                        (Kind.CAR, "car")])  # fmt: skip
def test_who_crosses(kind, noun):
    one = said("vru" if kind.vulnerable else "conflict", SLOWS, crossing(kind, 1.4), actor=0)
    assert one.text == f"Slow down because a {noun} is crossing from the left."
    wanted = ScenarioClass.YIELD_TO_VRU if kind.vulnerable else ScenarioClass.RISKY_DRIVING
    assert one.scenario is wanted and one.components[0].attributes["motion"] == "crossing"
    stands = said("vru", 0.0, crossing(kind, 1.4), v=0.0, actor=0)
    assert stands.text.startswith("Stay stopped because")
    assert said("vru", SLOWS, crossing(kind, 0.0), actor=0) is None  # stands


def test_on_a_crosswalk_that_is_where_somebody_is():
    layout = open_road([(600.0, 0.0)], Profile(), Site(), crosswalk=60.0)
    one = said("vru", SLOWS, crossing(Kind.PEDESTRIAN, 1.4), actor=0, layout=layout)
    assert one.components[0].attributes["pose"] == "crosswalk"


@pytest.mark.parametrize("cause", ["lead", "cut_in", "vru", "conflict", "gap", "blocked"])
def test_nobody_is_no_reason(cause):
    assert said(cause, SLOWS, car(60.0), actor=-1) is None


@pytest.mark.parametrize("colour, near", [("red", True), ("yellow", True), ("green", True),
                                          ("red", False)])  # fmt: skip
def test_a_light(colour, near):
    signal = Signal(70.0 if near else 400.0, ((-10.0, colour),))
    one = said("signal", SLOWS, signal=signal)
    if colour == "green" or not near:
        assert one is None
        return
    assert one.text == f"Slow down to stop at the line because the traffic light is {colour}."
    assert one.components[0].attributes == {"state": colour}
    stands = said("signal", 0.0, v=0.0, signal=signal)
    assert stands.detail == SpeedDetail.STAY_STOPPED


def test_a_light_that_turned_green_is_why_it_starts():
    signal = Signal(8.0, ((-10.0, "red"), (1.5, "green")))
    one = said("free", SPEEDS_UP, v=0.0, signal=signal)
    assert one.text == "Start moving because the traffic light has turned green."
    assert one.scenario is ScenarioClass.RESUME_AT_CONTROL
    passes = said("free", KEEPS, signal=Signal(70.0, ((-10.0, "green"),)))
    assert passes.scenario is ScenarioClass.INTERSECTION
    red = said("free", KEEPS, signal=Signal(90.0, ((-10.0, "red"),)))
    assert red.text == "Prepare to stop because the traffic light ahead is red."


def test_signs_and_bumps():
    stop = (Sign("stop", 60.0, -3.0, 60.0),)
    assert said("sign", SLOWS, signs=stop).text == "Slow down to stop at the stop sign."
    assert said("sign", 0.0, v=0.0, signs=stop).text == "Stay stopped at the stop sign."
    assert said("bump", SLOWS, bumps=(60.0,)).text == "Slow down for the speed bump ahead."
    assert said("bump", KEEPS, bumps=(60.0,)).text == "Hold a low speed over the speed bump."
    assert said("bump", SLOWS, bumps=(5.0,)) is None  # behind
    faster = said("bump", SPEEDS_UP, bumps=(60.0,))
    assert faster.text == "Speed up because the lane ahead is clear."


def test_somebody_who_comes_is_why_the_parked_car_is_not_passed():
    parked = car(60.0, -1.2)
    comes = Actor(Kind.CAR, ROAD.route, 120.0, 3.5, direction=-1, speed=8.0)
    one = said("blocked", SLOWS, parked, comes, actor=0, blocker=1)
    assert one.text == "Slow down because an oncoming car blocks the way around the parked car."
    assert [seen.track for seen in one.components] == [1, 0]
    assert said("blocked", SLOWS, parked, comes, actor=0) is None


def test_merging_and_a_lane_that_ends():
    one = said("gap", SLOWS, car(30.0, 3.5, speed=9.0), actor=0)
    assert one.text == "Slow down to merge behind the car on the left."
    assert one.longitudinal is Longitudinal.SEARCH_GAP
    assert said("end", SLOWS).text == "Slow down because the lane ends."
    assert said("end", KEEPS) is None


@pytest.mark.parametrize(
    "kind, leaves, words, lateral",
    [
        (Kind.CAR, True, "Move to the left to pass the parked car.", Lateral.OUT_OF_LANE_NUDGE),
        (Kind.CAR, False, "Move slightly to the left to pass the parked car.",
         Lateral.IN_LANE_NUDGE),
        (Kind.CYCLIST, True, "Move to the left to pass the slow cyclist.",
         Lateral.OUT_OF_LANE_NUDGE),
        (Kind.CONE, False, "Move slightly to the left to pass the traffic cones.",
         Lateral.IN_LANE_NUDGE),
    ],
)  # fmt: skip
def test_moves_aside_come_before_everything_else(kind, leaves, words, lateral):
    other = Actor(kind, ROAD.route, 40.0, -1.4, lwh=(1.0, 0.6, 1.0))
    aside = Move(K + 3, "nudge", "left", 1.0, 0, leaves)
    one = said("free", KEEPS, other, moves=(aside,))
    assert (one.text, one.lateral, one.side) == (words, lateral, "left")
    early = dataclasses.replace(aside, step=K + 20)
    assert said("free", KEEPS, other, moves=(early,)).lateral is None
    back = dataclasses.replace(aside, kind="return")
    assert said("free", KEEPS, other, moves=(back,)).lateral is None


def test_who_waits_at_a_green_light_is_named_and_does_not_slow():
    waits = Actor(Kind.PEDESTRIAN, ROAD.route, 50.0, -3.0, **PERSON)
    signal = Signal(60.0, ((-10.0, "green"),))
    one = said("free", KEEPS, waits, signal=signal)
    assert one.text == "Keep the speed because the pedestrian on the right waits."
    assert one.scenario is ScenarioClass.NO_YIELD_TO_VRU
    assert "pedestrian" not in said("free", KEEPS, waits).text  # no right of way


@pytest.mark.parametrize(
    "accel, v, text",
    [
        (KEEPS, 10.0, "Keep the speed because the lane ahead is clear."),
        (SPEEDS_UP, 10.0, "Speed up because the lane ahead is clear."),
        (SPEEDS_UP, 0.5, "Start moving because the lane ahead is clear."),
    ],
)
def test_a_clear_road(accel, v, text):
    one = said("free", accel, v=v)
    assert one.text == text and one.scenario is None
    assert one.components[0].attributes == {"type": "clear_road", "state": "free"}


def test_slowing_for_nothing_is_not_explained():
    assert said("free", SLOWS) is None
