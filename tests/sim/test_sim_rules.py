"""Reasons of the expert one at a time: what each proposes, against formulas written out here."""

import dataclasses

import numpy as np
import pytest

from alpamayo_jax.sim.layouts import Profile, Site, open_road
from alpamayo_jax.sim.motion import move
from alpamayo_jax.sim.paths import curve, straight
from alpamayo_jax.sim.rules import (
    BUMP_SPEED,
    CAUSES,
    LINE_GAP,
    Limits,
    Speed,
    bump_limits,
    curve_limits,
    equilibrium_gap,
)
from alpamayo_jax.sim.seen import FRONT, others_of
from alpamayo_jax.sim.sideways import Swerve
from alpamayo_jax.sim.style import State, Style, Task, rows_at
from alpamayo_jax.sim.world import Actor, Kind, Shift, Sign, Signal, SpeedChange, World

STYLE = Style(set_speed=12.0)
ROAD = open_road([(500.0, 0.0)], Profile(), Site())
AHEAD = Swerve(0.0, 1.0, 0.0)


def state_of(world, s=0.0, v=10.0, k=0, swerve=AHEAD, passes=frozenset()):
    others = others_of(world, tuple(move(actor, k + 2) for actor in world.actors))
    rows = rows_at(others, [other.rows() for other in others], k, s)
    return State(k, 0.1 * k, s, 0.0, v, swerve, rows, passes)


def proposed(world, cause, speed=None, *, waits=None, merging=False, **state):
    """What one reason proposes: (acceleration, actor) or None."""
    speed = speed or Speed(Task(world, STYLE))
    found = speed.proposals(state_of(world, **state), waits, merging)
    assert len(found) == len(CAUSES)
    return found[CAUSES.index(cause)]


def idm(gap, v, lead):
    closing = v * (v - lead) / (2 * np.sqrt(STYLE.accel * STYLE.brake))
    wanted = STYLE.min_gap + max(v * STYLE.time_gap + closing, 0.0)
    return STYLE.accel * (1 - (v / STYLE.set_speed) ** 4 - (wanted / gap) ** 2)


def car(s, d=0.0, **plan):
    return Actor(Kind.CAR, ROAD.route, s, d, **plan)


@pytest.mark.parametrize("v", [0.0, 6.0, 12.0])
def test_a_free_road(v):
    accel, actor = proposed(World(ROAD), "free", v=v)
    assert actor == -1
    assert accel == pytest.approx(STYLE.accel * (1 - (v / 12.0) ** 4))


def test_who_is_too_fast_slows_gently():
    accel, _ = proposed(World(ROAD), "free", v=14.0)
    assert -1.0 <= accel < 0.0


def test_an_empty_road_gives_no_other_reason():
    found = Speed(Task(World(ROAD), STYLE)).proposals(state_of(World(ROAD)), None, False)
    given = {cause for cause, one in zip(CAUSES, found) if one is not None}
    assert given == {"free", "curve"}
    assert found[CAUSES.index("curve")][0] > 5.0  # a straight asks for nothing


@pytest.mark.parametrize("gap, lead", [(30.0, 10.0), (12.0, 4.0), (8.0, 10.0)])
def test_the_intelligent_driver_model(gap, lead):
    other = car(FRONT + gap + 2.3, speed=lead)
    accel, actor = proposed(World(ROAD, (other,)), "lead")
    assert actor == 0 and accel == pytest.approx(idm(gap, 10.0, lead), abs=1e-6)


def test_at_the_equilibrium_gap_nothing_changes():
    gap = equilibrium_gap(9.0, STYLE)
    assert idm(gap, 9.0, 9.0) == pytest.approx(0.0, abs=1e-9)
    assert equilibrium_gap(11.0, STYLE) > gap > STYLE.min_gap


@pytest.mark.parametrize("s, d", [(-30.0, 0.0), (40.0, 3.5), (40.0, -3.2), (250.0, 0.0)])
def test_who_is_elsewhere_is_no_lead(s, d):
    assert proposed(World(ROAD, (car(s, d, speed=5.0),)), "lead") is None


def test_the_nearest_lead_counts_and_who_is_passed_does_not():
    world = World(ROAD, (car(60.0, speed=2.0), car(30.0, speed=2.0)))
    assert proposed(world, "lead")[1] == 1
    assert proposed(world, "lead", passes=frozenset({1}))[1] == 0


def test_who_signals_into_the_lane_has_cut_in():
    comes = car(25.0, 3.5, speed=8.0, shifts=(Shift(0.5, 0.0, 3.0),))
    world, speed = World(ROAD, (comes,)), Speed(Task(World(ROAD, (comes,)), STYLE))
    for k in range(12):
        found = proposed(world, "cut_in", speed, k=k)
    assert found is not None and found[1] == 0
    stays = dataclasses.replace(comes, shifts=())
    assert proposed(World(ROAD, (stays,)), "cut_in", k=11) is None


def test_limits_fall_no_faster_than_one_brakes():
    s = np.arange(0.0, 100.0, 0.25)
    speed = np.where((s > 60) & (s < 70), 5.0, 20.0)
    limits = Limits(s, speed, brake=1.5)
    assert (limits.values <= speed + 1e-9).all()
    falls = (limits.values[:-1] ** 2 - limits.values[1:] ** 2) / (2 * 0.25)
    assert falls.max() <= 1.5 + 1e-6
    assert limits.values[0] == pytest.approx(np.sqrt(25.0 + 3.0 * 60.25), rel=1e-3)
    assert limits.at(-5.0) == limits.values[0] and limits.at(1e4) == pytest.approx(20.0)
    assert limits.at(10.1) == pytest.approx(np.interp(10.1, s, limits.values))


def test_a_curve_limits_lateral_acceleration():
    road = open_road([(60.0, 0.0)] + curve(0.04, 1.2, 15.0) + [(200.0, 0.0)], Profile(), Site())
    limits = curve_limits(Task(World(road), STYLE))
    lateral = limits.values**2 * np.abs(road.route.kappa)
    assert lateral.max() <= STYLE.lateral + 1e-6
    assert limits.values.min() == pytest.approx(np.sqrt(STYLE.lateral / 0.04), rel=1e-3)


def test_bumps_are_driven_over_slowly():
    assert bump_limits(Task(World(ROAD), STYLE)) is None
    limits = bump_limits(Task(World(ROAD, bumps=(80.0, 140.0)), STYLE))
    assert limits.at(79.0) == limits.at(139.0) == pytest.approx(BUMP_SPEED)
    assert limits.at(110.0) > BUMP_SPEED + 3.0
    assert proposed(World(ROAD, bumps=(80.0,)), "bump", s=70.0, v=9.0)[0] < -1.5


@pytest.mark.parametrize("colour, stops", [("red", True), ("yellow", True), ("green", False)])
def test_a_light(colour, stops):
    world = World(ROAD, signal=Signal(40.0, ((-10.0, colour),)))
    found = proposed(world, "signal", s=40.0 - FRONT - LINE_GAP - 20.0)
    assert (found is not None) == stops
    if stops:
        assert found == (pytest.approx(-0.55 * 100.0 / 20.0, abs=0.01), -1)


def test_a_light_that_is_far_is_not_yet_a_reason():
    world = World(ROAD, signal=Signal(140.0, ((-10.0, "red"),)))
    assert proposed(world, "signal") is None


def test_braking_for_a_line_goes_on_until_the_light_is_green():
    signal = Signal(40.0, ((-10.0, "red"), (3.0, "green")))
    world = World(ROAD, signal=signal)
    speed = Speed(Task(world, STYLE))
    assert proposed(world, "signal", speed, s=15.0, k=10) is not None
    assert proposed(world, "signal", speed, s=15.0, v=2.0, k=20) is not None  # held, though slow
    assert proposed(world, "signal", speed, s=25.0, v=3.0, k=40) is None


def test_a_stop_sign_holds_for_its_time():
    world = World(ROAD, signs=(Sign("stop", 40.0, -3.0, 40.0), Sign("yield", 60.0, -3.0)))
    speed, stands = Speed(Task(world, STYLE)), 40.0 - FRONT - LINE_GAP
    assert proposed(world, "sign", speed, s=stands - 15.0, v=8.0) is not None
    held = [proposed(world, "sign", speed, s=stands - 0.2, v=0.0, k=k) for k in range(10, 30)]
    assert held[0] is not None and held[-1] is None
    times = [k for k, one in enumerate(held) if one is None]
    assert times[0] == pytest.approx(12, abs=1)  # 1.2 s


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_who_walks_into_the_road_is_let_pass(side):
    x, y, heading = ROAD.route.place(45.0)
    path = straight((x, y, heading - side * np.pi / 2), 30.0, 30.0)
    walker = Actor(Kind.PEDESTRIAN, path, -6.0, speed=1.4, lwh=(0.5, 0.6, 1.7))
    world = World(ROAD, (walker,))
    speed = Speed(Task(world, STYLE))
    found = [proposed(world, "vru", speed, s=k * 1.0, k=k) for k in range(14)]
    assert found[0] is None  # a driver takes time to react
    assert found[-1] is not None and found[-1][0] < -1.0 and found[-1][1] == 0
    stands = dataclasses.replace(walker, speed=0.0)
    assert proposed(World(ROAD, (stands,)), "vru", s=13.0, k=13) is None


def test_a_crossing_car_is_a_conflict_not_a_person():
    x, y, heading = ROAD.route.place(50.0)
    path = straight((x, y, heading - np.pi / 2), 60.0, 60.0)
    world = World(ROAD, (Actor(Kind.CAR, path, -30.0, speed=8.0),))
    speed = Speed(Task(world, STYLE))
    found = [proposed(world, "conflict", speed, s=k * 1.0, k=k) for k in range(16)]
    assert found[-1] is not None and found[-1][1] == 0
    assert proposed(world, "vru", speed, s=15.0, k=15) is None


def test_who_waits_to_pass_stops_where_it_is_told():
    assert proposed(World(ROAD), "blocked", waits=(FRONT + 25.0, 3)) == (
        pytest.approx(-0.55 * 100.0 / 25.0), 3
    )  # fmt: skip
    assert proposed(World(ROAD), "blocked", waits=(FRONT + 300.0, 3)) is None


def test_cones_are_passed_slowly():
    cone = Actor(Kind.CONE, ROAD.route, 30.0, -1.6, lwh=(0.4, 0.4, 0.75))
    world = World(ROAD, (cone,))
    near = proposed(world, "passing", s=15.0, v=10.0)
    assert near[0] < -0.5 and near[1] == 0
    assert proposed(world, "passing", s=15.0, v=4.0)[0] > 0.0
    assert proposed(world, "passing", s=40.0) is None


def test_a_gap_is_followed_only_while_merging():
    world = World(ROAD, (car(20.0, 3.5, speed=9.0),))
    accel, actor = proposed(world, "gap", merging=True)
    assert actor == 0 and accel >= -1.6
    assert proposed(world, "gap") is None


def test_a_lane_that_ends():
    layout = dataclasses.replace(ROAD, lane_end=60.0)
    assert proposed(World(layout), "end", s=30.0)[0] < -1.0
    assert proposed(World(layout), "end", s=30.0, swerve=Swerve(0.0, 1.0, 3.5)) is None
    assert proposed(World(ROAD), "end", s=30.0) is None


def test_a_lead_that_drives_off_is_followed():
    starts = car(20.0, changes=(SpeedChange(0.5, 8.0, 2.0),))
    world = World(ROAD, (starts,))
    standing = proposed(world, "lead", s=5.0, v=0.0)[0]
    later = proposed(world, "lead", s=5.0, v=0.0, k=40)[0]
    assert later > standing and later > 0.5
