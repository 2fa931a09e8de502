import dataclasses

from absl.testing import parameterized
import jax
import numpy as np
import pytest

from alpamayo_jax.metrics import dynamics


def _rot(yaw):
    yaw = np.asarray(yaw, np.float64)
    rot = np.zeros((*yaw.shape, 3, 3))
    rot[..., 0, 0], rot[..., 0, 1] = np.cos(yaw), -np.sin(yaw)
    rot[..., 1, 0], rot[..., 1, 1] = np.sin(yaw), np.cos(yaw)
    rot[..., 2, 2] = 1
    return rot.astype(np.float32)


def _drive(speed, yaw, batch=()):
    """Poses of a vehicle with the given speeds and yaws; pose i + 1 = pose i + speed i * 0.1 s."""
    velocity = speed[:, None] * np.stack([np.cos(yaw), np.sin(yaw), 0 * yaw], -1)
    xyz = np.concatenate([np.zeros((1, 3)), np.cumsum(velocity * 0.1, axis=0)])[:-1]
    xyz, rot = xyz.astype(np.float32), _rot(yaw)
    return np.broadcast_to(xyz, (*batch, *xyz.shape)), np.broadcast_to(rot, (*batch, *rot.shape))


class DynamicsTest(parameterized.TestCase):
    @parameterized.parameters(((),), ((2, 1),))
    def test_constant_acceleration_on_a_straight_road(self, batch):
        t = np.arange(20) * 0.1
        xyz, rot = _drive(5 + 2 * t, 0 * t, batch)
        motion = jax.jit(dynamics.dynamics)(xyz, rot)
        assert motion.accel.shape == (*batch, 20)
        # The last speed repeats the one before, so the last two accelerations are 0.
        np.testing.assert_allclose(motion.accel[..., :-2], 2, atol=1e-3)
        np.testing.assert_allclose(motion.accel[..., -2:], 0, atol=1e-3)
        np.testing.assert_allclose(motion.lon_accel, motion.accel, atol=1e-3)
        for name in ("lat_accel", "yaw_rate", "yaw_accel"):
            np.testing.assert_allclose(getattr(motion, name), 0, atol=1e-3)

    def test_hand_made_numbers(self):
        xyz = np.zeros((4, 3), np.float32)
        xyz[:, 0] = [0, 1, 3, 4]
        xyz[:, 1] = [0, 0, 0, 1]
        motion = dynamics.dynamics(xyz, _rot([0, 0, np.pi / 2, np.pi / 2]), dt=1.0)
        # Velocities (1, 0), (2, 0), (1, 1), (1, 1): 1, 2, 1, 1 along the heading and 0, 0, -1, -1
        # across it.
        root = np.sqrt(2)
        np.testing.assert_allclose(motion.speed, [1, 2, root, root], atol=1e-6)
        np.testing.assert_allclose(motion.accel, [1, root - 2, 0, 0], atol=1e-6)
        np.testing.assert_allclose(motion.jerk, [root - 3, 2 - root, 0, 0], atol=1e-6)
        np.testing.assert_allclose(motion.lon_accel, [1, -1, 0, 0], atol=1e-6)
        np.testing.assert_allclose(motion.lon_jerk, [-2, 1, 0, 0], atol=1e-6)
        np.testing.assert_allclose(motion.lat_accel, [0, -1, 0, 0], atol=1e-6)
        np.testing.assert_allclose(motion.yaw_rate, [0, np.pi / 2, 0, 0], atol=1e-6)
        np.testing.assert_allclose(motion.yaw_accel, [np.pi / 2, -np.pi / 2, 0, 0], atol=1e-6)

    def test_yaw_rate_across_the_half_turn(self):
        yaw = np.pi - 0.15 + 0.1 * np.arange(5)
        motion = dynamics.dynamics(*_drive(np.ones(5), yaw))
        np.testing.assert_allclose(motion.yaw_rate, 1.0, atol=1e-4)

    def test_a_rotation_of_another_shape_is_refused(self):
        with pytest.raises(AssertionError):
            dynamics.dynamics(np.zeros((5, 3), np.float32), np.zeros((4, 3, 3), np.float32))


class ComfortTest(parameterized.TestCase):
    def test_order_of_the_checks(self):
        checks = dynamics.comfort_checks(*_drive(np.full(10, 8.0), np.zeros(10)))
        assert list(checks) == [f.name for f in dataclasses.fields(dynamics.ComfortBounds)]

    def test_a_calm_drive_passes(self):
        t = np.arange(64) * 0.1
        xyz, rot = _drive(8 + 0.0 * t, 0.1 * t, batch=(2, 1))
        comfort = jax.jit(dynamics.comfort)(xyz, rot)
        np.testing.assert_array_equal(comfort, np.ones((2, 1), np.float32))

    def test_one_hard_brake_fails_all_longitudinal_checks_only(self):
        speed = np.full(20, 8.0)
        speed[10:] = 6.0
        checks = dynamics.comfort_checks(*_drive(speed, np.zeros(20)))
        failed = {name for name, ok in checks.items() if not ok}
        assert failed == {"lon_accel", "jerk", "lon_jerk"}
        np.testing.assert_allclose(dynamics.comfort(*_drive(speed, np.zeros(20))), 0.5)

    def test_a_fast_turn_fails_the_yaw_checks(self):
        yaw = np.concatenate([np.zeros(10), 0.15 * np.arange(10)])
        checks = dynamics.comfort_checks(*_drive(np.full(20, 1.0), yaw))
        assert not checks["yaw_rate"] and not checks["yaw_accel"] and checks["lon_accel"]

    def test_bounds_are_strict(self):
        bounds = dynamics.ComfortBounds(yaw_rate=(0.0, 1.0))
        checks = dynamics.comfort_checks(*_drive(np.ones(10), np.zeros(10)), bounds)
        assert not checks["yaw_rate"]
