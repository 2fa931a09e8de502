"""What roads are built of: profiles, bands, lanes and their marks, ramps and rings."""

import math

import numpy as np
import pytest

from alpamayo_jax.sim import layouts
from alpamayo_jax.sim.layouts import Profile, Site, bands_of, lanes_of, merging_road, open_road
from alpamayo_jax.sim.paths import build_path

PATH = build_path([(200.0, 0.0)], start=-20.0)
SITE = Site((12.0, -7.0), 0.3)


@pytest.mark.parametrize("same, oncoming", [(0, 1), (1, 1), (2, 0), (0, 2)])
def test_a_profile_from_right_to_left(same, oncoming):
    profile = Profile(width=3.6, same=same, oncoming=oncoming, shoulder=1.0)
    assert profile.middle == pytest.approx((same + 0.5) * 3.6)
    assert profile.left - profile.middle == pytest.approx(oncoming * 3.6)
    right, left = profile.edges
    assert right == pytest.approx(-1.8 - 1.0) and left > profile.left


@pytest.mark.parametrize("same, oncoming", [(0, 1), (1, 1), (2, 0), (0, 2)])
def test_lines_are_between_lanes(same, oncoming):
    profile = Profile(same=same, oncoming=oncoming)
    asphalt, *lines = bands_of(profile)
    assert asphalt.surface == "asphalt" and asphalt.d == profile.edges
    middles = sorted(round(sum(line.d) / 2, 6) for line in lines)
    edges = [(i - 0.5) * profile.width for i in range(2 + same + oncoming)]
    np.testing.assert_allclose(middles, edges, atol=1e-6)
    yellow = [line for line in lines if line.surface == "yellow"]
    assert len(yellow) == (1 if oncoming else 0)
    solid = {round(sum(line.d) / 2, 6) for line in lines if line.dash is None}
    assert {round(edges[0], 6), round(edges[-1], 6)} <= solid


def test_lines_stop_where_another_road_crosses():
    bands = bands_of(Profile(), [(50.0, 62.0)])
    spans = {band.s for band in bands if band.surface != "asphalt"}
    assert spans == {(-math.inf, 50.0), (62.0, math.inf)}
    (asphalt,) = (band for band in bands if band.surface == "asphalt")
    assert asphalt.s == (-math.inf, math.inf)


@pytest.mark.parametrize(
    "gaps, reach, want",
    [
        ([], (0.0, 9.0), [(0.0, 9.0)]),
        ([(2.0, 3.0)], (0.0, 9.0), [(0.0, 2.0), (3.0, 9.0)]),
        ([(5.0, 6.0), (2.0, 3.0)], (0.0, 9.0), [(0.0, 2.0), (3.0, 5.0), (6.0, 9.0)]),
        ([(-1.0, 3.0)], (0.0, 9.0), [(3.0, 9.0)]),
        ([(8.0, 12.0)], (0.0, 9.0), [(0.0, 8.0)]),
        ([(-1.0, 10.0)], (0.0, 9.0), []),
    ],
)
def test_what_lies_between_gaps(gaps, reach, want):
    assert layouts._between(gaps, reach) == want


def test_lanes_cover_the_road_once():
    profile = Profile(same=1, oncoming=1)
    lanes = lanes_of(PATH, profile, [(60.0, 75.0)])
    links = [lane for lane in lanes if lane.left == "NONE"]
    assert len(links) == 3 and all(lane.right == "NONE" for lane in links)
    for lane in lanes:
        assert lane.width == profile.width
        s, d = PATH.locate(lane.centre)
        assert np.ptp(d) < 1e-6
        number = d[0] / profile.width
        assert number == pytest.approx(round(number), abs=1e-6)
        assert (np.diff(s) > 0).all() == (round(number) < 2)  # the third comes the other way
    for number in range(3):
        spans = sorted(
            (float(PATH.locate(lane.centre)[0].min()), float(PATH.locate(lane.centre)[0].max()))
            for lane in lanes
            if round(PATH.locate(lane.centre)[1][0] / profile.width) == number
        )
        assert spans[0][0] == pytest.approx(PATH.s[0]) and spans[-1][1] == pytest.approx(PATH.s[-1])
        for (_, end), (begin, _) in zip(spans, spans[1:]):
            assert begin == pytest.approx(end, abs=1e-6)


@pytest.mark.parametrize(
    "profile, marks",
    [
        (Profile(), ("DASHED_YELLOW", "SOLID_WHITE")),
        (Profile(dashed=False), ("SOLID_YELLOW", "SOLID_WHITE")),
        (Profile(same=1), ("DASHED_WHITE", "SOLID_WHITE")),
        (Profile(oncoming=0), ("SOLID_WHITE", "SOLID_WHITE")),
    ],
)
def test_marks_of_the_first_lane(profile, marks):
    first = lanes_of(PATH, profile)[0]
    assert (first.left, first.right) == marks


def test_a_site_moves_and_turns_the_whole_road():
    here = open_road([(100.0, 0.0)], Profile(), Site())
    there = open_road([(100.0, 0.0)], Profile(), SITE)
    turn = np.array([[math.cos(0.3), -math.sin(0.3)], [math.sin(0.3), math.cos(0.3)]])
    moved = here.route.xy @ turn.T + SITE.origin
    np.testing.assert_allclose(there.route.xy, moved, atol=1e-9)
    for one, other in zip(here.lanes, there.lanes):
        np.testing.assert_allclose(other.centre, one.centre @ turn.T + SITE.origin, atol=1e-9)


def test_a_ramp_runs_beside_the_road_and_ends():
    layout = merging_road(Profile(same=2, oncoming=0), SITE, 70.0, 190.0, 400.0)
    assert layout.lane_end == 190.0
    main = layout.strips[1].path
    gap = layout.route.locate(main.pose(np.linspace(5.0, 100.0, 9))[0])[1]
    np.testing.assert_allclose(gap, layout.width, atol=0.02)  # the next lane on the left
    before = float(main.distance(layout.route.pose(20.0)[0][None])[0])
    assert before > layout.width + 0.5
    assert all(lane.s[0] == pytest.approx(55.0) for lane in layout.beside)
    assert [lane.direction for lane in layout.beside] == [1, 1]


@pytest.mark.parametrize("out, turned", [("right", -1), ("straight", 0), ("left", 1)])
def test_a_roundabout_is_driven_to_the_left_around_its_middle(out, turned):
    layout, ring = layouts.roundabout(Profile(), SITE, 60.0, out, 200.0)
    assert ring.closed
    centre = (ring.xy.max(0) + ring.xy.min(0)) / 2
    (begin, end) = layout.junctions[0]
    inside = layout.route.points(begin, end, spacing=1.0)
    away = np.linalg.norm(inside - centre, axis=-1)
    assert away.min() > 10.0 and abs(away.min() - 15.0) < 1.5
    angle = np.unwrap(np.arctan2(*(inside - centre).T[::-1]))
    middle = angle[len(angle) // 4 : -len(angle) // 4]
    assert (np.diff(middle) > 0).all()  # counter-clockwise
    heading = float(layout.route.pose(end + 50.0)[1]) - SITE.heading
    assert heading == pytest.approx(turned * math.pi / 2, abs=0.1)


def test_the_stop_line_spans_the_own_side():
    layout = layouts.crossing_road([(400.0, 0.0)], Profile(), SITE, 60.0)
    (bar,) = layout.stop_lines
    s, d = layout.route.locate(bar)
    np.testing.assert_allclose(s, 60.0, atol=1e-6)
    np.testing.assert_allclose(sorted(d), [-1.75, 1.75], atol=1e-6)
    assert layout.junctions[0][0] > 60.0
