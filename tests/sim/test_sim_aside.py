"""Moves aside decided one step at a time: whom to pass, when to wait, when to change lanes."""

import dataclasses

import numpy as np
import pytest

from alpamayo_jax.sim.aside import Aside
from alpamayo_jax.sim.layouts import Profile, Site, open_road
from alpamayo_jax.sim.motion import move
from alpamayo_jax.sim.seen import HALF, others_of
from alpamayo_jax.sim.sideways import Swerve
from alpamayo_jax.sim.style import State, Style, Task, rows_at
from alpamayo_jax.sim.world import Actor, Kind, World

STYLE = Style(set_speed=11.0)
ROAD = open_road([(600.0, 0.0)], Profile(), Site((2.0, -9.0), 0.5))
TWO_LANES = open_road([(600.0, 0.0)], Profile(same=1), Site())
STEPS = 60


def still(s, d, kind=Kind.CAR, road=ROAD, **plan):
    sizes = {Kind.CAR: (4.5, 1.85, 1.5), Kind.CONE: (0.36, 0.36, 0.75),
             Kind.CYCLIST: (1.75, 0.6, 1.7), Kind.PEDESTRIAN: (0.5, 0.6, 1.7)}  # fmt: skip
    return Actor(kind, road.route, s, d, lwh=sizes[kind], **plan)


class Driver:
    """A driver at constant speed whose moves aside are decided by `Aside`."""

    def __init__(self, world, style=STYLE, v=10.0):
        self.aside, self.v, self.swerve = Aside(Task(world, style)), v, Swerve(0.0, 1.0, 0.0)
        self.others = others_of(world, tuple(move(actor, STEPS + 1) for actor in world.actors))
        self.table = [other.rows() for other in self.others]

    def step(self, k, s=None):
        s = 0.1 * self.v * k if s is None else s
        d = self.swerve.at(s)[0]
        rows = rows_at(self.others, self.table, k, s)
        self.swerve = self.aside.update(State(k, 0.1 * k, s, d, self.v, self.swerve, rows))
        return self.swerve

    def drive(self, steps=STEPS):
        return [self.step(k).target for k in range(steps)]


def test_on_an_empty_road_nothing_is_decided():
    driver = Driver(World(ROAD))
    assert set(driver.drive()) == {0.0}
    assert driver.aside.moves == [] and driver.aside.waits is None


@pytest.mark.parametrize(
    "kind, margin", [(Kind.CAR, 0.75), (Kind.CYCLIST, 1.1), (Kind.CONE, 0.45)]
)
def test_who_stands_in_the_way_is_passed_with_a_margin(kind, margin):
    actor = still(40.0, -1.6, kind)
    targets = Driver(World(ROAD, (actor,))).drive()
    free = max(targets) - HALF - (actor.d + actor.lwh[1] / 2)
    assert free == pytest.approx(margin, abs=0.02)
    assert targets[0] == 0.0 or kind is Kind.CONE  # not before it is near


def test_afterwards_it_comes_back():
    driver = Driver(World(ROAD, (still(25.0, -2.1),)))
    targets = driver.drive()
    assert max(targets) > 0.3 and targets[-1] == 0.0
    assert [one.kind for one in driver.aside.moves] == ["nudge", "return"]
    nudge, back = driver.aside.moves
    assert (nudge.side, back.side) == ("left", "right") and nudge.actor == 0
    assert nudge.step < back.step and not nudge.leaves


def test_what_needs_the_other_lane_leaves_the_own_one():
    driver = Driver(World(ROAD, (still(45.0, -1.0),)))
    targets = driver.drive()
    assert max(targets) + HALF > ROAD.width / 2
    assert driver.aside.moves[0].leaves


@pytest.mark.parametrize(
    "actor",
    [
        still(40.0, -4.5),  # far enough aside
        still(40.0, 0.3),  # in the middle: followed, not passed
        still(40.0, -1.6, speed=9.0),  # drives on
        still(-20.0, -1.6),  # behind
        still(40.0, -1.6, Kind.PEDESTRIAN),
    ],
    ids=["aside", "middle", "drives", "behind", "person"],
)
def test_who_is_not_in_the_way_is_not_passed(actor):
    driver = Driver(World(ROAD, (actor,)))
    assert set(driver.drive(40)) == {0.0} and driver.aside.moves == []


def test_a_cyclist_who_is_slow_is_passed_and_a_fast_one_is_not():
    slow, fast = (still(30.0, -1.4, Kind.CYCLIST, speed=v) for v in (3.0, 5.0))
    assert max(Driver(World(ROAD, (slow,))).drive()) > 0.8
    assert max(Driver(World(ROAD, (fast,))).drive()) == 0.0


def test_somebody_who_comes_makes_it_wait():
    parked = still(45.0, -1.0)
    comes = Actor(Kind.CAR, ROAD.route, 95.0, 3.5, direction=-1, speed=9.0)
    driver = Driver(World(ROAD, (parked, comes)))
    driver.step(5, 20.0)
    stop, number = driver.aside.waits
    assert number == 0 and driver.aside.blocker == 1
    assert stop == pytest.approx(45.0 - 2.25 - 11.0) and driver.aside.passes == frozenset()
    gone = Actor(Kind.CAR, ROAD.route, -20.0, 3.5, direction=-1, speed=9.0)
    free = Driver(World(ROAD, (parked, gone)))
    free.step(5, 20.0)
    assert free.aside.waits is None and free.aside.blocker == -1
    assert free.aside.passes == frozenset({0})


def test_several_in_a_row_are_passed_in_one_go():
    row = tuple(still(s, -1.5) for s in (32.0, 40.0, 48.0))
    driver = Driver(World(ROAD, row))
    targets = np.array(driver.drive())
    out = np.flatnonzero(targets > 0.1)
    assert (np.diff(out) == 1).all()
    assert [one.kind for one in driver.aside.moves] == ["nudge", "return"]


class TestLanes:
    """Changes to the lane on the left."""

    slow = still(45.0, 0.0, road=TWO_LANES, speed=5.0)
    keen = dataclasses.replace(STYLE, overtakes=True)

    def kinds(self, *actors, style=None, layout=TWO_LANES, v=10.0):
        driver = Driver(World(layout, actors), style or self.keen, v)
        for k in range(STEPS):
            driver.step(k, 0.5 * k)
        return driver, [one.kind for one in driver.aside.moves]

    def test_a_slow_lead_is_overtaken(self):
        driver, kinds = self.kinds(self.slow)
        assert kinds == ["lane_change"] and driver.aside.base == pytest.approx(3.5)
        assert driver.aside.moves[0].actor == 0 and driver.aside.moves[0].step >= 6

    def test_not_without_the_will(self):
        assert self.kinds(self.slow, style=STYLE)[1] == []

    @pytest.mark.parametrize("s, speed", [(45.0, 10.5), (120.0, 5.0), (-30.0, 5.0)])
    def test_not_without_a_reason(self, s, speed):
        other = still(s, 0.0, road=TWO_LANES, speed=speed)
        driver = Driver(World(TWO_LANES, (other,)), self.keen)
        driver.step(0, 0.0)
        driver.step(8, 0.0)
        assert driver.aside.moves == []

    def test_not_while_somebody_is_beside(self):
        beside = still(2.0, 3.5, road=TWO_LANES, speed=5.0)
        driver, kinds = self.kinds(self.slow, beside)
        assert kinds == [] and driver.aside.blocker == 1

    def test_nor_while_somebody_fast_comes_from_behind(self):
        fast = still(-20.0, 3.5, road=TWO_LANES, speed=14.0)
        driver = Driver(World(TWO_LANES, (self.slow, fast)), self.keen)
        for k in range(9):
            driver.step(k, 1.0 * k)
        assert driver.aside.moves == [] and driver.aside.blocker == 1

    def test_a_lane_that_ends_is_left_even_by_the_calm(self):
        ending = dataclasses.replace(TWO_LANES, lane_end=150.0)
        driver, kinds = self.kinds(style=STYLE, layout=ending)
        assert kinds == ["merge"] and driver.aside.moves[0].actor == -1

    def test_nobody_merges_while_standing(self):
        ending = dataclasses.replace(TWO_LANES, lane_end=150.0)
        driver, kinds = self.kinds(style=STYLE, layout=ending, v=1.0)
        assert kinds == [] and driver.aside.merging


def test_a_move_is_comfortable():
    """Lateral acceleration along the swerve at its speed stays below what a curve may ask for."""
    driver = Driver(World(ROAD, (still(45.0, -1.2),)))
    bends = []
    for k in range(STEPS):
        swerve = driver.step(k)
        bends.append(swerve.at(driver.v * 0.1 * k)[2])
    assert 0.5 < np.abs(bends).max() * driver.v**2 < STYLE.lateral + 0.5


def test_the_length_of_a_move_grows_with_speed_and_way():
    aside = Aside(Task(World(ROAD), STYLE))

    def length(v, shift):
        return aside._length(State(0, 0.0, 0.0, 0.0, v, Swerve(0.0, 1.0, 0.0), ()), shift)

    assert length(2.0, 0.1) == 9.0
    assert length(10.0, 0.5) == pytest.approx(26.0)
    assert length(2.0, 4.0) == pytest.approx(15.0)
