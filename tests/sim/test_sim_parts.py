"""Solids and the bodies made of them: where they stand, what lights up, what they look like."""

import dataclasses

import numpy as np
import pytest

from alpamayo_jax.sim import bodies, parts, roadside
from alpamayo_jax.sim.paths import straight
from alpamayo_jax.sim.world import Actor, Kind

PATH = straight((0.0, 0.0, 0.0), 10.0, 50.0)
SIZES = {
    Kind.CAR: (4.5, 1.8, 1.5), Kind.VAN: (5.2, 1.95, 2.1), Kind.TRUCK: (7.5, 2.3, 3.0),
    Kind.BUS: (11.0, 2.5, 3.1), Kind.PEDESTRIAN: (0.5, 0.6, 1.75),
    Kind.CYCLIST: (1.75, 0.6, 1.7), Kind.CONE: (0.45, 0.45, 0.75),
    Kind.BARRIER: (0.4, 2.5, 1.1),
}  # fmt: skip
VEHICLES = (Kind.CAR, Kind.VAN, Kind.TRUCK, Kind.BUS)


def actor(kind, **plan):
    return Actor(kind, PATH, 0.0, lwh=SIZES[kind], **plan)


def extent(rows):
    """(lowest, highest) corner of solids that are not turned."""
    centre, half = rows[:, parts.CENTRE], rows[:, parts.SIZE] / 2
    return (centre - half).min(0), (centre + half).max(0)


def test_a_row_has_every_column():
    row = parts.part((1, 2, 3), (4, 5, 6), (7, 8, 9), glow=True, ball=True, outline="disc")
    table = parts.table([row])
    assert table.shape == (1, parts.COLUMNS) and table.dtype == np.float64
    np.testing.assert_array_equal(table[0, parts.CENTRE], [1, 2, 3])
    np.testing.assert_array_equal(table[0, parts.SIZE], [4, 5, 6])
    np.testing.assert_array_equal(table[0, parts.COLOUR], [7, 8, 9])
    assert table[0, parts.GLOW] == 1 and table[0, parts.SHAPE] == parts.ROUND
    assert parts.OUTLINES[int(table[0, parts.OUTLINE])] == "disc"
    assert parts.table([]).shape == (0, parts.COLUMNS)


def test_an_outline_must_be_known():
    with pytest.raises(ValueError):
        parts.part((0, 0, 0), (1, 1, 1), (0, 0, 0), outline="heart")


@pytest.mark.parametrize("heading", [0.0, 0.7, -2.5])
def test_an_object_is_turned_about_its_origin(heading):
    rows = parts.table([parts.part((2.0, 1.0, 0.5), (1, 1, 1), (0, 0, 0))])
    out = parts.placed(rows, (10.0, -4.0, heading))
    turn = np.exp(1j * heading) * (2.0 + 1.0j) + (10.0 - 4.0j)
    np.testing.assert_allclose(out[0, :3], [turn.real, turn.imag, 0.5], atol=1e-12)
    assert out[0, parts.YAW] == pytest.approx(heading)
    assert rows[0, 0] == 2.0  # what is placed is a copy


@pytest.mark.parametrize("kind", list(SIZES))
def test_a_body_fills_its_box_and_stands_on_the_ground(kind):
    rows = bodies.body_of(actor(kind)).rows
    solid = rows[rows[:, 2] > 0.03]  # without its shadow
    low, high = extent(solid)
    length, width, height = SIZES[kind]
    assert -0.05 <= low[2] < 0.15 and 0.9 * height < high[2] < height + 0.1
    np.testing.assert_allclose(high[:2] - low[:2], [length, width], atol=0.35)
    np.testing.assert_allclose(high[1] + low[1], 0.0, atol=0.05)  # the same on both sides


@pytest.mark.parametrize("kind", VEHICLES)
def test_a_vehicle_wears_its_paint(kind):
    red, blue = (bodies.body_of(actor(kind, colour=c)).rows for c in ((1, 0, 0), (0, 0, 1)))
    changed = (red[:, parts.COLOUR] != blue[:, parts.COLOUR]).any(-1)
    assert changed.any() and not changed.all()
    np.testing.assert_array_equal(red[changed][0, parts.COLOUR], [255, 0, 0])
    np.testing.assert_array_equal(red[:, parts.SIZE], blue[:, parts.SIZE])


@pytest.mark.parametrize("kind", VEHICLES)
def test_brake_lamps_are_at_the_rear_and_red(kind):
    body = bodies.body_of(actor(kind))
    rows, lit = bodies.posed(body, (0.0, 0.0, 0.0), 0.0, braking=True, blinks=0)
    assert len(lit) == 2
    for (x, _, z), colour in lit:
        assert x == pytest.approx(-SIZES[kind][0] / 2) and 0.5 < z < 1.5
        assert colour == bodies.BRAKE
    assert sum(centre[1] for centre, _ in lit) == pytest.approx(0.0)
    assert (rows[list(body.brakes), parts.GLOW] == 1).all()
    dark, none = bodies.posed(body, (0.0, 0.0, 0.0), 0.0, braking=False, blinks=0)
    assert none == [] and (dark[list(body.brakes), parts.GLOW] == 0).all()


@pytest.mark.parametrize("kind", VEHICLES)
@pytest.mark.parametrize("blinks", [1, -1])
def test_signals_are_at_both_ends_of_one_side(kind, blinks):
    body = bodies.body_of(actor(kind))
    _, lit = bodies.posed(body, (0.0, 0.0, 0.0), 0.0, braking=False, blinks=blinks)
    assert [colour for _, colour in lit] == [bodies.AMBER] * 2
    assert all(np.sign(centre[1]) == blinks for centre, _ in lit)
    assert sorted(np.sign(centre[0]) for centre, _ in lit) == [-1, 1]


def test_lamps_go_where_the_vehicle_goes():
    body = bodies.body_of(actor(Kind.CAR))
    place = (30.0, 5.0, np.pi / 2)
    _, lit = bodies.posed(body, place, 0.0, braking=True, blinks=1)
    brakes = [centre for centre, colour in lit if colour == bodies.BRAKE]
    assert all(centre[1] == pytest.approx(5.0 - 2.25) for centre in brakes)  # it faces +y
    signals = [centre for centre, colour in lit if colour == bodies.AMBER]
    assert all(centre[0] < 30.0 for centre in signals)


@pytest.mark.parametrize("kind", [Kind.PEDESTRIAN, Kind.CYCLIST])
def test_legs_swing_against_each_other_and_come_back(kind):
    body = bodies.body_of(actor(kind))
    rest, swung, again = (
        bodies.posed(body, (0.0, 0.0, 0.0), gone, False, 0)[0][list(body.legs), 0]
        for gone in (0.0, 0.375, 1.5)
    )
    assert swung[0] - rest[0] == pytest.approx(-(swung[1] - rest[1])) and swung[0] > rest[0]
    np.testing.assert_allclose(again, rest, atol=1e-9)


def test_who_stands_has_no_lamps():
    for kind in (Kind.PEDESTRIAN, Kind.CYCLIST, Kind.CONE, Kind.BARRIER):
        _, lit = bodies.posed(bodies.body_of(actor(kind)), (0.0, 0.0, 0.0), 0.0, True, 1)
        assert lit == []


def test_a_barrier_is_striped():
    rows = bodies.body_of(actor(Kind.BARRIER)).rows
    board = rows[rows[:, 2] > 0.7 * SIZES[Kind.BARRIER][2]]
    red, white = (board[i::2] for i in range(2))
    assert len(board) == 6 and (red[:, 8] < 60).all() and (white[:, 8] > 200).all()
    wide = dataclasses.replace(actor(Kind.BARRIER), lwh=(0.4, 4.1, 1.1))
    assert len(bodies.body_of(wide).rows) - len(rows) == 4


@pytest.mark.parametrize("colour", ["red", "yellow", "green"])
def test_one_lens_of_a_light_is_lit_and_red_is_on_top(colour):
    rows = roadside.lamps(colour)
    (lit,) = np.flatnonzero(rows[:, parts.GLOW])
    order = sorted(range(3), key=lambda i: -rows[i, 2])
    assert ["red", "yellow", "green"][order.index(lit)] == colour
    strongest = int(np.argmax(rows[lit, parts.COLOUR]))
    assert strongest == (1 if colour == "green" else 0)
    assert not roadside.lamps("off")[:, parts.GLOW].any()
