"""What every family promises, drawn again and again: where things are when the ego comes."""

import functools

import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.sim import surface
from alpamayo_jax.sim.layouts import Profile, Site, open_road
from alpamayo_jax.sim.longtail import base
from alpamayo_jax.sim.looks import make_look
from alpamayo_jax.sim.roadside import clearance
from alpamayo_jax.sim.scenarios import FAMILIES, play, sample_scenario
from alpamayo_jax.sim.seen import FRONT, HALF, REAR
from alpamayo_jax.sim.style import Style
from alpamayo_jax.sim.world import Kind, Sign

SEEDS = range(3)
SECONDS = 14.0


@functools.cache
def played(family, seed):
    return play(sample_scenario(seed, 11, SECONDS, family))


def corners(drive):
    """Corners of the ego's box at every step: [T, 4, 2]."""
    ahead = np.stack([np.cos(drive.heading), np.sin(drive.heading)], -1)
    left = np.stack([-ahead[:, 1], ahead[:, 0]], -1)
    at = np.stack([drive.x, drive.y], -1)
    return np.stack([at + x * ahead + y * left for x in (FRONT, -REAR) for y in (HALF, -HALF)], 1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_ego_is_on_the_road(family, seed):
    run = played(family, seed)
    assert clearance(run.world.layout, corners(run.drive)).max() < 0.0


@pytest.mark.parametrize("family", ["roundabout", "turn", "merge", "s_curve", "green_light"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_picture_has_asphalt_under_the_ego(family, seed):
    """What the renderer looks up, cell by cell, is the road that the ego drives on."""
    run = played(family, seed)
    roads = surface.Surface(run.world, make_look(0, "clear"))
    asphalt = make_look(0, "clear").surfaces["asphalt"][:3]
    bands = [b for b in roads.bands if np.allclose(b[-5:-2], asphalt)]
    for k in range(0, len(run.drive.t), 4):
        point = np.array([run.drive.x[k], run.drive.y[k]])
        window, corner = roads.window(*point)
        column, row = (point - corner) / surface.CELL
        i, j, u, v = int(row), int(column), row % 1.0, column % 1.0
        cells = window[:, i : i + 2, j : j + 2]
        near = (1 - u) * (1 - v) * cells[:, 0, 0] + (1 - u) * v * cells[:, 0, 1]
        near = near + u * (1 - v) * cells[:, 1, 0] + u * v * cells[:, 1, 1]
        found = [
            b for b in bands
            if b[1] <= near[int(b[0]), 0] <= b[2] and b[3] <= near[int(b[0]), 1] <= b[4]
        ]  # fmt: skip
        assert found, (k, near)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_road_goes_on_beyond_what_the_ego_sees(family):
    for seed in SEEDS:
        run = played(family, seed)
        route = run.world.layout.route
        assert route.s[-1] - run.drive.s[-1] > 0.6 * base.VIEW
        assert route.s[0] < -REAR


@pytest.mark.parametrize("family", FAMILIES)
def test_nobody_parks_or_walks_where_the_moment_is(family):
    for seed in SEEDS:
        scenario = played(family, seed).scenario
        strangers = scenario.world.actors[scenario.concerned :]
        for actor in strangers:
            if actor.path is scenario.world.layout.route and actor.direction > 0:
                assert abs(actor.d) > scenario.world.layout.width / 2 - 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_with_and_without_the_cause_it_looks_the_same(family):
    scenario = played(family, 0).scenario
    assert scenario.without.look == scenario.world.look
    assert scenario.without.weather == scenario.world.weather
    strangers = scenario.world.actors[scenario.concerned :]
    if strangers:
        assert scenario.without.actors[-len(strangers) :] == strangers


@pytest.mark.parametrize("seed", SEEDS)
def test_cones_narrow_the_lane_from_the_edge(seed):
    actors = played("construction", seed).scenario.world.actors
    cones = [actor for actor in actors if actor.kind is Kind.CONE]
    d = np.array([cone.d for cone in cones])
    assert len(cones) >= 7 and (np.diff([cone.s for cone in cones]) > 3.0).all()
    assert (np.diff(d) > -1e-9).all() and -1.0 < d[-1] < 0.0
    (barrier,) = (actor for actor in actors if actor.kind is Kind.BARRIER)
    assert cones[0].s < barrier.s < cones[-1].s + 3.2 and barrier.d < d[-1]


@pytest.mark.parametrize("family", ["pedestrian_crosses", "cyclist_crosses"])
@pytest.mark.parametrize("seed", SEEDS)
def test_who_crosses_begins_beside_the_road_and_ends_on_the_other_side(family, seed):
    run = played(family, seed)
    motion, layout = run.motions[0], run.world.layout
    sides = layout.route.locate(motion.xy)[1]
    assert clearance(layout, motion.xy[:1])[0] > 0.3
    crossed = np.flatnonzero(np.diff(np.sign(sides)))
    assert len(crossed) <= 1
    assert np.abs(np.diff(sides)).max() < 0.45  # a pace, not a jump


@pytest.mark.parametrize("seed", SEEDS)
def test_signs_stand_before_what_they_announce(seed):
    walk = played("pedestrian_crosses", seed).world
    (sign,) = walk.signs
    place = walk.layout.route.locate(walk.layout.crosswalks[0].mean(0))[0]
    assert sign.kind == "crosswalk" and 0.0 < place - sign.s < 10.0
    bump = played("speed_bump", seed).world
    assert bump.signs[0].kind == "bump" and bump.signs[0].s < bump.bumps[0]
    for one in (walk, bump):
        assert one.signs[0].d < one.layout.edges[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_light_is_green_when_the_ego_goes(seed):
    run = played("start_at_light", seed)
    goes = run.drive.t[int(np.argmax(run.drive.v > 0.1))]
    signal = run.world.signal
    assert run.drive.v[0] == 0.0 and signal.colour(0.0) == "red"
    assert signal.colour(goes) == "green" and signal.since(goes) >= run.scenario.style.reaction


def test_a_sign_must_be_one_that_can_be_drawn():
    with pytest.raises(ConfigError, match="'curve' is unknown; known: stop, yield"):
        Sign("curve", 10.0, -3.0)


class TestParts:
    """What the families are drawn from."""

    rng = staticmethod(np.random.default_rng)

    def test_a_road_is_long_enough(self):
        style = Style(set_speed=10.0)
        short = base.long_enough([(40.0, 0.0)], style, 12.0)
        assert sum(length for length, _ in short) == pytest.approx(10.0 * 12.0 + base.VIEW)
        far = [(1000.0, 0.0)]
        assert base.long_enough(far, style, 12.0) == far

    @pytest.mark.parametrize("seed", range(5))
    def test_a_gentle_road_needs_no_slowing(self, seed):
        speed = 14.0
        pieces = base.gentle(self.rng(seed), speed)
        layout = open_road(base.long_enough(pieces, Style(speed), 12.0), Profile(), Site())
        assert (np.abs(layout.route.kappa) * speed**2).max() <= 0.9 + 1e-6
        run = base.alone(layout, Style(set_speed=speed), speed, 12.0)
        assert run.v.min() > 0.95 * speed

    def test_a_style_keeps_what_is_fixed(self):
        drawn = [base.draw_style(self.rng(seed), 9.0, 11.0, overtakes=True) for seed in range(20)]
        assert all(style.overtakes and 9.0 <= style.set_speed <= 11.0 for style in drawn)
        assert len({style.brake for style in drawn}) == 20

    def test_arrival_goes_on_past_the_end(self):
        layout = open_road([(600.0, 0.0)], Profile(), Site())
        run = base.alone(layout, Style(set_speed=10.0), 10.0, 8.0)
        assert base.arrival(run, 40.0) == pytest.approx(4.0, abs=0.05)
        assert base.arrival(run, 120.0) == pytest.approx(12.0, abs=0.1)

    @pytest.mark.parametrize("side", [1.0, -1.0])
    def test_a_path_across_comes_from_its_side(self, side):
        layout = open_road([(600.0, 0.0)], Profile(), Site((3.0, 4.0), 1.0))
        path = base.across(layout, 50.0, side)
        s, d = layout.route.locate(path.pose(np.array([-10.0, 0.0, 10.0]))[0])
        np.testing.assert_allclose(s, 50.0, atol=1e-6)
        np.testing.assert_allclose(d, [10.0 * side, 0.0, -10.0 * side], atol=1e-6)

    @pytest.mark.parametrize("make", [base.car, base.person, base.cyclist])
    def test_road_users_have_plausible_sizes(self, make):
        layout = open_road([(600.0, 0.0)], Profile(), Site())
        for seed in range(30):
            one = make(self.rng(seed), layout.route, 5.0, speed=3.0)
            length, width, height = one.lwh
            assert (one.s, one.speed) == (5.0, 3.0)
            if one.kind.vehicle:
                assert 3.9 < length < 9.0 and 1.7 < width < 2.5 and height < 3.5
            else:
                assert length < 2.0 and width == 0.6 and 1.5 < height < 2.0

    def test_rows_of_the_grid(self):
        assert (base.steps(2.0), base.steps(12.7), base.steps(20.0)) == (21, 128, 201)
