from absl.testing import parameterized
import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alpamayo_jax.config import ActionSpaceConfig
from alpamayo_jax.metrics import baselines, open_loop

CFG = ActionSpaceConfig()


def _arc(speed, accel, yaw_rate, first=-15, last=64, batch=()):
    """Exact poses at 0.1 s from an integration with tiny steps; pose 0 is the origin at t0."""
    fine = 200
    t = np.arange(first * fine, last * fine + 1) * (0.1 / fine)
    v, yaw = speed + accel * t, yaw_rate * t
    velocity = v[:, None] * np.stack([np.cos(yaw), np.sin(yaw), 0 * yaw], -1)
    xyz = np.concatenate([np.zeros((1, 3)), np.cumsum(velocity[1:] + velocity[:-1], 0)])
    xyz *= 0.05 / fine
    xyz -= xyz[-first * fine]
    rot = Rotation.from_rotvec(yaw[::fine, None] * [0, 0, 1]).as_matrix()
    xyz, rot = xyz[::fine].astype(np.float32), rot.astype(np.float32)
    out = xyz[:16], rot[:16], xyz[16:], rot[16:]
    return tuple(np.broadcast_to(a, (*batch, *a.shape)) for a in out)


class MotionTest(parameterized.TestCase):
    @parameterized.parameters(
        (8.0, 0.0, 0.0), (8.0, 1.0, 0.2), (12.0, -2.0, -0.3), (-2.0, 0.0, 0.1)
    )
    def test_recovers_an_arc(self, speed, accel, yaw_rate):
        state = baselines.estimate_motion(*_arc(speed, accel, yaw_rate)[:2])
        # The mean of the last three steps is the speed 0.15 s ago.
        np.testing.assert_allclose(state.speed, speed - 0.15 * accel, atol=5e-3)
        np.testing.assert_allclose(state.accel, accel, atol=5e-3)
        np.testing.assert_allclose(state.yaw_rate, yaw_rate, atol=1e-4)

    def test_jitter_is_averaged(self):
        xyz, rot, _, _ = _arc(8.0, 0.0, 0.0, batch=(2000,))
        noisy = xyz + np.random.default_rng(0).normal(0, 0.03, xyz.shape).astype(np.float32)
        state = baselines.estimate_motion(noisy, rot)
        steps = np.diff(noisy[..., 0], axis=-1) * 10
        assert np.std(state.speed) < 0.4 * np.std(steps[:, -1])
        assert np.std(state.accel) < 0.1 * np.std((steps[:, -1] - steps[:, -2]) * 10)

    def test_yaw_across_the_half_turn(self):
        turn = Rotation.from_euler("z", np.pi - 0.05).as_matrix()
        xyz, rot, _, _ = _arc(5.0, 0.0, 0.4)
        xyz, rot = xyz @ turn.T.astype(np.float32), turn.astype(np.float32) @ rot
        state = baselines.estimate_motion(xyz, rot)
        np.testing.assert_allclose([state.speed, state.yaw_rate], [5.0, 0.4], atol=5e-3)

    def test_too_short_a_history_is_refused(self):
        xyz, rot, _, _ = _arc(5.0, 0.0, 0.0)
        with pytest.raises(ValueError, match="3 history poses; need at least 4"):
            baselines.estimate_motion(xyz[:3], rot[:3])


class BaselineTest(parameterized.TestCase):
    @parameterized.product(
        batch=((), (2, 1)),
        predict=(baselines.constant_velocity, baselines.constant_turn_rate_and_acceleration),
    )
    def test_straight_road_at_constant_speed(self, batch, predict):
        history_xyz, history_rot, xyz, rot = _arc(10.0, 0.0, 0.0, batch=batch)
        got = jax.jit(predict, static_argnums=2)(history_xyz, history_rot, CFG)
        assert got.xyz.shape == (*batch, 64, 3) and got.rot.shape == (*batch, 64, 3, 3)
        np.testing.assert_allclose(got.xyz, xyz, atol=2e-3)
        np.testing.assert_allclose(got.rot, rot, atol=1e-4)

    def test_constant_velocity_ignores_the_turn(self):
        history_xyz, history_rot, _, _ = _arc(10.0, 0.0, 0.3)
        got = baselines.constant_velocity(history_xyz, history_rot, CFG)
        np.testing.assert_allclose(got.xyz[:, 1], 0, atol=1e-4)
        np.testing.assert_allclose(got.xyz[-1, 0], 64, atol=0.1)

    def test_constant_turn_rate_follows_a_curve(self):
        history_xyz, history_rot, xyz, rot = _arc(10.0, 0.0, 0.3)
        got = baselines.constant_turn_rate_and_acceleration(history_xyz, history_rot, CFG)
        np.testing.assert_allclose(got.xyz, xyz, atol=0.03)
        np.testing.assert_allclose(got.rot, rot, atol=1e-3)

    def test_acceleration_continues(self):
        history_xyz, history_rot, xyz, _ = _arc(10.0, 1.0, 0.0)
        got = baselines.constant_turn_rate_and_acceleration(history_xyz, history_rot, CFG)
        # The speed lags by 0.15 s, so the error grows to 6.4 s x 0.15 m/s.
        np.testing.assert_allclose(got.xyz[-1, 0], xyz[-1, 0] - 6.4 * 0.15, atol=0.02)

    def test_braking_ends_at_a_standstill(self):
        history_xyz, history_rot, _, _ = _arc(4.0, -2.0, 0.2)
        got = baselines.constant_turn_rate_and_acceleration(history_xyz, history_rot, CFG)
        x = np.asarray(got.xyz[:, 0])
        assert (np.diff(x) >= -1e-6).all()
        length = np.linalg.norm(np.diff(np.asarray(got.xyz), axis=0), axis=-1)
        speed = 4.3  # of 0.15 s ago
        path = length.sum() + np.hypot(*got.xyz[0, :2])
        np.testing.assert_allclose(path, speed**2 / 4, atol=0.03)
        np.testing.assert_array_equal(length[30:], 0)
        np.testing.assert_allclose(got.rot[40:], got.rot[-1:].repeat(24, 0))

    def test_just_stopped_does_not_reverse(self):
        x = np.float32([-3, -2.2, -1.6, -1.1, -0.7, -0.4, -0.2, -0.1, -0.03] + [0.0] * 6 + [-1e-4])
        history_xyz = np.stack([x, 0 * x, 0 * x], -1)
        history_rot = np.broadcast_to(np.eye(3, dtype=np.float32), (16, 3, 3))
        got = baselines.constant_turn_rate_and_acceleration(history_xyz, history_rot, CFG)
        np.testing.assert_allclose(got.xyz, 0, atol=5e-3)

    def test_starts_from_the_last_pose(self):
        history_xyz, history_rot, xyz, _ = _arc(10.0, 0.0, 0.0)
        turn = Rotation.from_euler("z", 0.5).as_matrix().astype(np.float32)
        shift = np.float32([3, -2, 1])
        predict = baselines.constant_turn_rate_and_acceleration
        got = predict(history_xyz @ turn.T + shift, turn @ history_rot, CFG)
        np.testing.assert_allclose(got.xyz, xyz @ turn.T + shift, atol=3e-3)


def test_errors_on_a_recorded_drive(real_clips_dir):
    """Windows wholly after 58 s of KITTI odometry 03, one every 0.1 s."""
    clip = np.load(real_clips_dir / "kitti_odometry" / "seq03" / "ego.npz", allow_pickle=False)
    t, xyz = clip["t10"], clip["xyz10"]
    rot = Rotation.from_quat(clip["quat10_wxyz"][:, [1, 2, 3, 0]]).as_matrix()
    now = np.array([i for i in range(15, len(t) - 64) if t[i - 15] > 58 - 1e-6])
    ego = np.swapaxes(rot[now], -1, -2)[:, None]

    def window(offsets):
        index = now[:, None] + offsets
        moved = (ego @ (xyz[index] - xyz[now][:, None])[..., None])[..., 0]
        return moved.astype(np.float32), (ego @ rot[index]).astype(np.float32)

    history, (future, _) = window(np.arange(-15, 1)), window(np.arange(1, 65))
    errors = [
        open_loop.sample_ade(predict(*history, CFG).xyz[:, None, None], future).mean()
        for predict in (
            baselines.constant_velocity, baselines.constant_turn_rate_and_acceleration
        )
    ]
    np.testing.assert_allclose(errors, [3.36, 3.04], atol=0.02)
