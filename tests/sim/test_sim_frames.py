"""Frames of the ego, and the paths of the others: small geometry of the closed loop, in NumPy."""

import numpy as np
import pytest

from alpamayo_jax.sim import traffic
from alpamayo_jax.sim.closed_loop import from_rig, to_rig
from alpamayo_jax.sim.scenes import make_arrays

RNG = np.random.default_rng(4)


def poses(*shape):
    return RNG.uniform((-50, -50, -3), (50, 50, 3), (*shape, 3)).astype(np.float32)


@pytest.mark.parametrize("shape", [(), (5,), (2, 5)])
def test_the_rig_frame(shape):
    pose, origin = poses(*shape), poses(*shape)
    found = np.asarray(to_rig(pose, origin))
    z, o = (p[..., 0] + 1j * p[..., 1] for p in (pose.astype(float), origin.astype(float)))
    own = (z - o) * np.exp(-1j * origin[..., 2].astype(float))
    np.testing.assert_allclose(found[..., 0], own.real, atol=1e-4)
    np.testing.assert_allclose(found[..., 1], own.imag, atol=1e-4)
    turned = np.exp(1j * (pose[..., 2].astype(float) - origin[..., 2]))
    np.testing.assert_allclose(np.exp(1j * found[..., 2]), turned, atol=1e-5)
    assert (np.abs(found[..., 2]) <= np.pi + 1e-5).all()


def test_there_and_back():
    pose, origin = poses(7, 4), poses(7, 1)
    back = np.asarray(from_rig(to_rig(pose, origin), origin))
    np.testing.assert_allclose(back, pose, atol=1e-4)
    points = np.asarray(from_rig(to_rig(pose, origin)[..., :2], origin))
    np.testing.assert_allclose(points, pose[..., :2], atol=1e-4)


def test_the_origin_is_at_rest_in_its_own_frame():
    origin = poses(6)
    np.testing.assert_allclose(to_rig(origin, origin), 0.0, atol=1e-6)


def test_jitter_on_the_spot_is_thinned_away():
    line = np.stack([np.arange(0.0, 10.0, 0.1), np.zeros(100)], -1)
    kept = traffic.thinned(line)
    assert len(kept) == 20 and (np.linalg.norm(np.diff(kept, axis=0), axis=-1) >= 0.5 - 1e-9).all()
    np.testing.assert_array_equal(kept[0], line[0])
    jitter = 0.1 * RNG.standard_normal((50, 2)).clip(-1, 1)
    assert len(traffic.thinned(jitter)) == 1


def scene(*lanes):
    ego = np.zeros((5, 3))
    return make_arrays(
        ego, np.zeros(5), np.array([[0.0, 0], [1, 0]]), 10.0,
        lane_centres=lanes, lane_polygons=[np.zeros((3, 2)) for _ in lanes],
    )  # fmt: skip


def lane(*points):
    return np.array(points, np.float32)


class TestLanesAhead:
    def test_a_lane_goes_on_from_the_place(self):
        found = traffic.lanes_from(scene(lane((0, 0), (30, 0))), np.array([10.0, 0.0]), 0.0)
        np.testing.assert_allclose(found, [[30.0, 0.0]], atol=1e-5)

    def test_lanes_follow_each_other(self):
        two = scene(lane((0, 0), (20, 0)), lane((20, 0), (40, 10)))
        found = traffic.lanes_from(two, np.array([5.0, 0.0]), 0.0)
        np.testing.assert_allclose(found, [[20.0, 0.0], [40.0, 10.0]], atol=1e-5)

    def test_who_drives_beside_the_middle_stays_beside_it(self):
        found = traffic.lanes_from(scene(lane((0, 0), (30, 0))), np.array([10.0, 0.8]), 0.0)
        np.testing.assert_allclose(found, [[30.0, 0.8]], atol=1e-5)

    @pytest.mark.parametrize(
        "point, heading", [((10.0, 0.0), np.pi), ((10.0, 9.0), 0.0), ((29.9, 0.0), 0.0)],
        ids=["against", "far", "at its end"],
    )  # fmt: skip
    def test_there_may_be_none(self, point, heading):
        found = traffic.lanes_from(scene(lane((0, 0), (30, 0))), np.array(point), heading)
        assert found.shape == (0, 2)

    def test_the_nearest_of_two_is_taken(self):
        two = scene(lane((0, 3), (30, 3)), lane((0, -1), (30, -1)))
        found = traffic.lanes_from(two, np.array([0.0, 0.0]), 0.1)
        np.testing.assert_allclose(found[-1], [30.0, 0.0], atol=1e-4)

    def test_a_ring_of_lanes_ends(self):
        angle = np.linspace(0, 2 * np.pi, 9)
        corner = 4.0 * np.stack([np.cos(angle), np.sin(angle)], -1)
        lanes = [corner[i : i + 2] for i in range(8)]
        found = traffic.lanes_from(scene(*lanes), corner[0], np.pi / 2 + 0.3)
        assert 1 <= len(found) <= 8 and np.isfinite(found).all()

    def test_it_looks_no_farther_than_is_of_use(self):
        row = [lane((20 * i, 0), (20 * i + 20, 0)) for i in range(9)]
        found = traffic.lanes_from(scene(*row), np.array([0.0, 0.0]), 0.0)
        assert 60.0 <= found[-1, 0] <= 80.0

    def test_without_lanes_there_are_none(self):
        assert traffic.lanes_from(scene(), np.zeros(2), 0.0).shape == (0, 2)
