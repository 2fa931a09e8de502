"""What the host prepares for a frame: where solids may be seen, lamps, meetings of paths."""

import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.ops.camera import camera_from_ego, project
from alpamayo_jax.sim import camera, draw, renderer
from alpamayo_jax.sim.layouts import Profile, Site, open_road
from alpamayo_jax.sim.motion import move
from alpamayo_jax.sim.parts import SIZE, YAW, part, table
from alpamayo_jax.sim.paths import ring, straight
from alpamayo_jax.sim.seen import HALF, others_of
from alpamayo_jax.sim.world import Actor, Kind, World

VIEWS = {
    "pinhole": camera.make_view(camera.FRONT, 96, 60),
    "wide": camera.make_view(camera.RIG[1], 96, 60),
    "left": camera.make_view(camera.RIG[0], 96, 60),
    "tele": camera.make_view(camera.RIG[6], 96, 60),
}
ROAD = open_road([(600.0, 0.0)], Profile(), Site((3.0, 5.0), 0.6))


def solids(count, seed=0):
    rng = np.random.default_rng(seed)
    rows = table([part((0, 0, 0), (1, 1, 1), (9, 9, 9)) for _ in range(count)])
    rows[:, :3] = rng.uniform((-12, -12, 0), (40, 12, 3), (count, 3))
    rows[:, YAW] = rng.uniform(-3, 3, count)
    rows[:, SIZE] = rng.uniform(0.3, 6.0, (count, 3))
    return rows


def hits(view, row):
    """bool [H, W]: whose ray meets a box, by slabs."""
    cos, sin = np.cos(row[YAW]), np.sin(row[YAW])
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    start = turn @ (view.origin - row[:3]) / (row[SIZE] / 2)
    if (np.abs(start) < 1.2).all():
        return None  # the lens is in it, or almost
    way = view.rays.astype(np.float64) @ turn.T / (row[SIZE] / 2)
    way = np.where(np.abs(way) < 1e-12, 1e-12, way)
    one, two = (-1 - start) / way, (1 - start) / way
    enter, leave = np.minimum(one, two).max(-1), np.maximum(one, two).min(-1)
    return (enter < leave) & (enter > draw.NEAR) & view.seen


@pytest.mark.parametrize("name", VIEWS)
def test_a_rectangle_holds_every_pixel_of_its_solid(name):
    view, rows = VIEWS[name], solids(150)
    u0, v0, u1, v1 = renderer._rectangles(view, renderer._corners(rows))
    assert (u0 >= 0).all() and (u1 <= 96).all() and (v0 >= 0).all() and (v1 <= 60).all()
    seen = 0
    for i, row in enumerate(rows):
        met = hits(view, row)
        if met is None or not met.any():
            continue
        seen += 1
        v, u = np.nonzero(met)
        assert u0[i] <= u.min() and u.max() < u1[i], (i, name)
        assert v0[i] <= v.min() and v.max() < v1[i], (i, name)
    assert seen > 15


@pytest.mark.parametrize("name", ["pinhole", "tele"])
def test_what_is_behind_takes_no_pixels(name):
    rows = solids(40)
    rows[:, 0] = -30.0 - np.abs(rows[:, 0])
    u0, v0, u1, v1 = renderer._rectangles(VIEWS[name], renderer._corners(rows))
    assert ((u1 <= u0) | (v1 <= v0)).all()


def test_corners_of_a_turned_box():
    row = table([part((5.0, 1.0, 2.0), (4.0, 2.0, 1.0), (0, 0, 0))])
    row[0, YAW] = np.pi / 2
    (found,) = renderer._corners(row)
    np.testing.assert_allclose(found.min(0), [4.0, -1.0, 1.5], atol=1e-9)
    np.testing.assert_allclose(found.max(0), [6.0, 3.0, 2.5], atol=1e-9)


def test_the_world_seen_from_the_ego_and_back():
    rows = solids(20, seed=2)
    x, y, heading = 7.0, -3.0, 2.1
    own = renderer._to_ego(rows, x, y, heading)
    back = np.exp(1j * heading) * (own[:, 0] + 1j * own[:, 1]) + x + 1j * y
    np.testing.assert_allclose(np.stack([back.real, back.imag], -1), rows[:, :2], atol=1e-9)
    np.testing.assert_allclose(own[:, YAW] + heading, rows[:, YAW])
    np.testing.assert_array_equal(own[:, 2], rows[:, 2])


def test_entries_are_padded_and_counted():
    rig = renderer.Rig((VIEWS["pinhole"],))
    few = renderer._entries(rig, solids(5))
    size = len(few["entries"])
    pixels = np.diff(few["first"])
    assert few["first"][0] == 0 and len(pixels) == size
    assert few["entries"].dtype == np.float32 and (few["entries"][:, SIZE] > 0).all()
    assert (few["width"] >= 1).all() and (pixels % few["width"] == 0).all()
    none = renderer._entries(rig, solids(5)[:0])
    assert none["first"][-1] == 0 and len(none["entries"]) >= 1


def test_of_too_many_the_nearest_are_drawn():
    rows = np.concatenate([solids(1, seed=s) for s in range(2 * draw.MAX_ENTRIES // 100)] * 101)
    rows[:, 0] = np.linspace(5.0, 60.0, len(rows))
    rows[:, 1:3] = 0.0, 1.0
    found = renderer._entries(renderer.Rig((VIEWS["pinhole"],)), rows)
    assert len(found["entries"]) == draw.MAX_ENTRIES < len(rows)
    assert found["entries"][:, 0].max() < 60.0


def test_lamps_are_where_they_are_projected_and_the_nearest_comes_last():
    rig = renderer.Rig((VIEWS["pinhole"],))
    lit = [(np.array([x, 0.0, 1.0]), (255.0, 0.0, 0.0), 0.1) for x in (20.0, 10.0, 40.0)]
    lit.append((np.array([-10.0, 0.0, 1.0]), (1.0, 2.0, 3.0), 0.1))  # behind
    rows, count = renderer._lamp_rows(rig, lit, (0.0, 0.0, 0.0))
    assert count == 3 and (np.diff(rows[:3, 3]) < 0).all()
    view = VIEWS["pinhole"]
    points = camera_from_ego(np.array([[40.0, 0, 1], [20, 0, 1], [10, 0, 1]]), view.ego_from_camera)
    uv, _ = project(points, view.intrinsics)
    np.testing.assert_allclose(rows[:3, 1:3], uv, atol=1e-3)
    assert (rows[:3, 4] <= 9.0).all() and rows[2, 4] >= rows[0, 4]
    assert renderer._lamp_rows(rig, [], (0.0, 0.0, 0.0))[1] == 0
    assert jnp.asarray(rows).shape[1] == 8


class TestMeetings:
    """Where somebody's path crosses the route."""

    def meeting(self, path, s, d=0.0, lwh=(4.5, 1.8, 1.5), **plan):
        actor = Actor(Kind.CAR, path, s, d, lwh=lwh, **{"speed": 5.0, **plan})
        (other,) = others_of(World(ROAD, (actor,)), (move(actor, 3),))
        return other.meeting

    @pytest.mark.parametrize("angle", [np.pi / 2, -np.pi / 2, 1.0])
    def test_across(self, angle):
        x, y, heading = ROAD.route.place(80.0)
        found = self.meeting(straight((x, y, heading + angle), 60.0, 60.0), -40.0)
        low, high = found.s
        assert low < 80.0 < high and high - low < 14.0
        # It comes when its box is within reach of the ego's, and is gone when it no longer is.
        reach = (4.5 * abs(np.sin(angle)) + 1.8 * abs(np.cos(angle))) / 2 + HALF + 0.35
        assert found.begin == pytest.approx(40.0 - reach / abs(np.sin(angle)), abs=0.6)
        assert found.end == pytest.approx(40.0 + reach / abs(np.sin(angle)), abs=0.6)

    @pytest.mark.parametrize("d", [0.0, 3.5])
    def test_along_is_no_crossing(self, d):
        x, y, heading = ROAD.route.place(20.0, d)
        assert self.meeting(straight((x, y, heading), 60.0, 200.0), 0.0) is None

    def test_past_it_is_none(self):
        x, y, heading = ROAD.route.place(80.0)
        assert self.meeting(straight((x, y, heading + np.pi / 2), 60.0, 60.0), 10.0) is None

    def test_who_stands_meets_nobody(self):
        x, y, heading = ROAD.route.place(80.0)
        path = straight((x, y, heading + np.pi / 2), 60.0, 60.0)
        assert self.meeting(path, -10.0, speed=0.0) is None

    def test_a_ring_crosses_where_the_ego_comes_first(self):
        x, y = ROAD.route.pose(80.0, 12.0)[0]
        circle = ring((float(x), float(y)), 14.0, ROAD.route.pose(80.0)[1] - 2.0)
        low, high = self.meeting(circle, 2.0).s
        assert 60.0 < low < high < 100.0 and low < 80.0
