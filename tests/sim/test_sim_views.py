"""What the driver has in view: bends by name, curves to come, people who wait, who is near."""

import numpy as np
import pytest

from alpamayo_jax.sim.expert import drive
from alpamayo_jax.sim.layouts import Profile, Site, open_road
from alpamayo_jax.sim.motion import move
from alpamayo_jax.sim.paths import curve
from alpamayo_jax.sim.scenarios import Run, Scenario
from alpamayo_jax.sim.seen import FRONT, others_of
from alpamayo_jax.sim.style import Style, rows_at
from alpamayo_jax.sim.views import Bend, Coming, bend_ahead, waiting_person
from alpamayo_jax.sim.world import Actor, Kind, World

STYLE = Style(set_speed=11.0)


def played(pieces, actors=(), seconds=12.0, speed=11.0):
    """A drive along a road of `pieces`; `actors` of the layout."""
    layout = open_road(pieces, Profile(), Site((4.0, 7.0), -1.0))
    world = World(layout, tuple(make(layout) for make in actors))
    motions = tuple(move(actor, int(seconds * 10) + 1) for actor in world.actors)
    driven = drive(world, motions, STYLE, int(seconds * 10) + 1, speed)
    scenario = Scenario("curve", seconds, world, world, STYLE, speed, "", len(world.actors))
    return Run(scenario, driven, motions)


def bending(kappa, lead=60.0):
    return [(lead, 0.0)] + curve(kappa, 1.0, 15.0) + [(300.0, 0.0)]


@pytest.mark.parametrize(
    "kappa, side, sharpness, name",
    [
        (0.05, "left", "sharp", "sharp left curve"),
        (-0.05, "right", "sharp", "sharp right curve"),
        (0.02, "left", "moderate", "left curve"),
        (-0.005, "right", "gentle", "gentle right curve"),
    ],
)
def test_a_bend_has_a_name(kappa, side, sharpness, name):
    bend = Bend(kappa)
    assert (bend.side, bend.sharpness, bend.name) == (side, sharpness, name)


def test_a_straight_has_no_bend():
    run = played([(400.0, 0.0)])
    assert bend_ahead(run, 0, slows=False) is None and bend_ahead(run, 50, slows=True) is None
    coming = Coming(run)
    assert all(coming.coming(k) is None for k in range(len(run.drive.t)))


@pytest.mark.parametrize("kappa", [0.045, -0.045])
def test_the_bend_that_slows_the_ego_is_named_with_its_peak(kappa):
    run = played(bending(kappa))
    slowing = np.flatnonzero(run.drive.a < -0.5)
    assert len(slowing)
    bend = bend_ahead(run, int(slowing[0]), slows=True)
    assert bend.kappa == pytest.approx(kappa, rel=0.05) and not bend.inside
    middle = int(np.argmax(np.abs(np.interp(run.drive.s, run.world.layout.route.s,
                                            run.world.layout.route.kappa))))  # fmt: skip
    assert bend_ahead(run, middle, slows=False).inside


def test_a_curve_is_announced_before_it_slows_and_not_from_afar():
    run = played(bending(0.045, lead=110.0), seconds=16.0)
    coming = Coming(run)
    told = [k for k in range(len(run.drive.t)) if coming.coming(k) is not None]
    slowing = int(np.flatnonzero(run.drive.a < -0.5)[0])
    assert told and told[0] < slowing
    assert run.drive.s[told[0]] > 20.0 and coming.coming(0) is None


def test_a_gentle_bend_asks_for_nothing():
    run = played(bending(0.004))
    coming = Coming(run)
    assert all(coming.coming(k) is None for k in range(60))
    assert run.drive.a.min() > -0.3


@pytest.mark.parametrize("d, side", [(-3.0, "right"), (5.0, "left")])
def test_who_waits_beside_the_road_is_seen(d, side):
    def stands(road):
        return Actor(Kind.PEDESTRIAN, road.route, 60.0, d, lwh=(0.5, 0.6, 1.7))

    run = played([(400.0, 0.0)], [stands])
    others = others_of(run.world, run.motions)
    seen = [k for k in range(len(run.drive.t)) if waiting_person(run, others, k)]
    assert seen and waiting_person(run, others, seen[0]) == (0, side)
    gaps = 60.0 - run.drive.s[seen] - FRONT
    assert gaps.max() < 45.0 and gaps.min() > 1.0
    assert seen == list(range(seen[0], seen[-1] + 1))


@pytest.mark.parametrize(
    "kind, d, speed", [(Kind.PEDESTRIAN, -12.0, 0.0), (Kind.PEDESTRIAN, -3.0, 1.2),
                       (Kind.CAR, -4.0, 0.0)],
)  # fmt: skip
def test_who_does_not_wait_there_is_not(kind, d, speed):
    run = played([(400.0, 0.0)], [lambda road: Actor(kind, road.route, 60.0, d, speed=speed)])
    others = others_of(run.world, run.motions)
    assert not [k for k in range(len(run.drive.t)) if waiting_person(run, others, k)]


def test_rows_are_those_within_reach_and_present():
    layout = open_road([(600.0, 0.0)], Profile(), Site())
    places = (-50.0, -15.0, 0.0, 100.0, 155.0, 170.0)
    world = World(layout, tuple(Actor(Kind.CAR, layout.route, s) for s in places))
    motions = tuple(move(actor, 3) for actor in world.actors)
    others = others_of(world, motions)
    rows = rows_at(others, [other.rows() for other in others], 1, 10.0)
    low = layout.route.s[0]
    want = [i for i, s in enumerate(places) if low < s and -60.0 < s - 10.0 < 160.0]
    assert [row.number for row in rows] == want and 5 not in want
    for row in rows:
        assert row.still and row.front - row.rear == pytest.approx(world.actors[0].lwh[0])
        assert row.s == pytest.approx(places[row.number]) and row.d == pytest.approx(0.0, abs=1e-6)


def test_along_the_route_everybody_is_seen_from_the_route():
    layout = open_road(bending(0.02), Profile(), Site((3.0, -8.0), 2.0))
    ahead = Actor(Kind.CAR, layout.route, 20.0, 0.4, speed=8.0)
    against = Actor(Kind.CAR, layout.route, 90.0, 3.5, direction=-1, speed=6.0)
    motions = tuple(move(actor, 31) for actor in (ahead, against))
    one, two = others_of(World(layout, (ahead, against)), motions)
    np.testing.assert_allclose(one.s, 20.0 + 0.8 * np.arange(31), atol=1e-6)
    np.testing.assert_allclose(one.speed, 8.0, atol=1e-6)
    np.testing.assert_allclose(two.speed, -6.0, atol=1e-6)
    np.testing.assert_allclose(two.gone, 0.6 * np.arange(31), atol=1e-6)
    assert one.meeting is None and two.meeting is None
