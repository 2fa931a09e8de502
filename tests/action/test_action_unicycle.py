"""The action space against published numbers, against dense float64, and against itself."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from alpamayo_jax.action import unicycle
from alpamayo_jax.config import ActionSpaceConfig
from alpamayo_jax.ops import so3

BATCH_DIMS = ((), (2, 1))
CFG = ActionSpaceConfig()
PLAIN = dataclasses.replace(
    CFG, accel_mean=0.0, accel_std=1.0, curvature_mean=0.0, curvature_std=1.0
)
HISTORY_TIMES = np.arange(-15, 1) * 0.1
FUTURE_TIMES = np.arange(1, 65) * 0.1

forward = jax.jit(unicycle.action_to_trajectory, static_argnames=("cfg", "bf16_constants"))
inverse = jax.jit(
    unicycle.trajectory_to_action, static_argnames=("cfg", "bf16_constants", "return_states")
)


def arc(distance, kappa, batch_dims=()):
    """Float32 poses on a circle through the origin, heading along x there."""
    yaw = kappa * distance
    xy = np.stack([np.sin(yaw) / kappa, (1 - np.cos(yaw)) / kappa], axis=-1)
    xyz = np.concatenate([xy, np.zeros_like(xy[..., :1])], axis=-1).astype(np.float32)
    rot = np.asarray(so3.rot_from_yaw(yaw.astype(np.float32)))
    shape = lambda x: np.broadcast_to(x, (*batch_dims, *x.shape))  # noqa: E731
    return shape(xyz), shape(rot)


def drive(v0, accel, kappa, batch_dims=()):
    """History and future of a drive of constant acceleration on a circle."""
    history = arc(v0 * HISTORY_TIMES, kappa, batch_dims)
    future = arc(v0 * FUTURE_TIMES + accel / 2 * FUTURE_TIMES**2, kappa, batch_dims)
    return history, future


def dense_float64(history, future, cfg, v0=None):
    """The chain of least squares with dense matrices: (v0, v, theta, accel, kappa)."""
    as_yaw = lambda rot: np.unwrap(  # noqa: E731
        np.arctan2(np.float64(rot[:, 1, 0]), np.float64(rot[:, 0, 0]))
    )

    def penalty(n, order, weight):
        matrix = np.diff(np.eye(n), n=order, axis=0)
        return weight / cfg.dt ** (2 * order) * matrix.T @ matrix

    def speed_system(xy, theta):
        n = len(theta)
        rows = np.zeros((2, n - 1, n))
        for t in range(n - 1):
            for axis, trig in enumerate((np.cos, np.sin)):
                rows[axis, t, t], rows[axis, t, t + 1] = trig(theta[t]), trig(theta[t + 1])
        rows = rows.reshape(2 * (n - 1), n)
        rhs = rows.T @ (2 * np.diff(xy, axis=0) / cfg.dt).T.reshape(-1)
        return rows.T @ rows + penalty(n, 3, cfg.v_lambda), rhs

    xy = np.float64(history[0][:, :2])
    matrix, rhs = speed_system(xy, as_yaw(history[1]))
    if v0 is None:
        v0 = np.linalg.solve(matrix + cfg.v_ridge * np.eye(len(rhs)), rhs)[-1]
    n = cfg.n_waypoints
    eye = np.eye(n)
    matrix = eye * (1 + cfg.theta_ridge) + penalty(n + 1, 3, cfg.theta_lambda)[1:, 1:]
    theta = np.concatenate([[0.0], np.linalg.solve(matrix, as_yaw(future[1]))])
    xy = np.concatenate([xy[-1:], np.float64(future[0][:, :2])])
    matrix, rhs = speed_system(xy, theta)
    v = np.linalg.solve(
        matrix[1:, 1:] + cfg.v_ridge * eye, rhs[1:] - matrix[1:, 0] * v0
    )
    v = np.concatenate([[v0], v])
    accel = np.linalg.solve(
        eye * (1 + cfg.a_ridge) + penalty(n, 2, cfg.a_lambda), np.diff(v) / cfg.dt
    )
    s = cfg.dt * v[:-1] + cfg.dt**2 / 2 * accel
    matrix = np.diag(s**2) + penalty(n, 2, cfg.kappa_lambda) + cfg.kappa_ridge * eye
    return v0, v, theta, accel, np.linalg.solve(matrix, s * np.diff(theta))


class GoldenTest(parameterized.TestCase):
    """Numbers that the released model prints for an arc and for the zero action."""

    @parameterized.product(batch_dims=BATCH_DIMS)
    def test_speed_at_t0(self, batch_dims):
        history, _ = drive(8.0, 0.5, 0.02, batch_dims)
        v0 = jax.jit(unicycle.estimate_v0, static_argnames="cfg")(*history, cfg=CFG)
        self.assertEqual(v0.shape, batch_dims)
        np.testing.assert_allclose(v0, 7.9996986, atol=1e-6)

    @parameterized.product(batch_dims=BATCH_DIMS)
    def test_actions_of_an_accelerating_arc(self, batch_dims):
        history, future = drive(8.0, 0.5, 0.02, batch_dims)
        actions = inverse(*history, *future, cfg=CFG)
        self.assertEqual(actions.shape, (*batch_dims, 64, 2))
        self.assertEqual(actions.dtype, jnp.float32)
        want = [
            (0.6946827, 0.7544666),
            (0.6928369, 0.7544603),
            (0.6916217, 0.7544577),
            (0.6915022, 0.7544838),
            (0.6893716, 0.7545233),
            (0.6864491, 0.7545438),
        ]
        rows = np.asarray(actions)[..., [0, 1, 2, 31, 62, 63], :]
        np.testing.assert_allclose(rows, np.broadcast_to(want, rows.shape), atol=2e-4)
        total = np.asarray(actions).sum(axis=-2)
        np.testing.assert_allclose(total[..., 0], 44.25505, atol=5e-4)
        np.testing.assert_allclose(total[..., 1], 48.28691, atol=5e-4)
        back = forward(actions, *history, cfg=CFG)
        worst = np.linalg.norm(back.xyz - future[0], axis=-1).max()
        self.assertAlmostEqual(float(worst), 3.8e-3, delta=5e-5)

    def test_zero_action(self):
        history, _ = drive(8.0, 0.5, 0.02)
        got = forward(np.zeros((64, 2), np.float32), *history, cfg=CFG)
        want = [(0.800115, 8.62e-5, 0), (25.747447, 0.0892377, 0), (51.790863, 0.3610778, 0)]
        np.testing.assert_allclose(got.xyz[np.array([0, 31, 63])], want, atol=2e-5)
        self.assertAlmostEqual(float(so3.yaw_from_rot(got.rot[-1])), 0.0139434, places=6)

    def test_bf16_constants(self):
        mean, std = unicycle.constants(CFG, bf16=True)
        np.testing.assert_array_equal(
            np.stack([mean, std]),
            np.float32([[0.029052734375, 0.0002689361572265625], [0.6796875, 0.026123046875]]),
        )
        mean, std = unicycle.constants(CFG)
        np.testing.assert_array_equal(mean, np.float32([CFG.accel_mean, CFG.curvature_mean]))
        np.testing.assert_array_equal(std, np.float32([CFG.accel_std, CFG.curvature_std]))


def test_dense_float64_is_the_released_chain(reference_dir):
    """The yardstick of the tests below against the release's own float64 actions."""
    with np.load(reference_dir / "action_space.npz", allow_pickle=False) as values:
        poses = [values[k] for k in ("hist_xyz", "hist_rot", "fut_xyz", "fut_rot")]
        recorded = values["default_action_f64"]
    cfg = dataclasses.replace(PLAIN, n_waypoints=recorded.shape[1])
    for hist_xyz, hist_rot, fut_xyz, fut_rot, want in zip(*poses, recorded):
        got = dense_float64((hist_xyz, hist_rot), (fut_xyz, fut_rot), cfg)[3:]
        np.testing.assert_allclose(np.stack(got, axis=-1), want, atol=1e-9)


class AccuracyTest(parameterized.TestCase):
    @parameterized.parameters(
        (8.0, 0.5, 0.02),
        (35.0, -1.0, 0.002),
        (4.0, 0.0, -0.2),
        (-2.0, 0.0, 0.05),
        (0.5, 0.1, 0.1),
        (1e-3, 0.0, 0.1),
    )
    def test_float32_bands_equal_dense_float64(self, v0, accel, kappa):
        history, future = drive(v0, accel, kappa)
        want = dense_float64(history, future, PLAIN)
        _, states = inverse(*history, *future, cfg=PLAIN, return_states=True)
        np.testing.assert_allclose(states.v[0], want[0], atol=5e-6)
        np.testing.assert_allclose(states.v, want[1], atol=2e-5)
        np.testing.assert_allclose(states.theta, want[2], atol=1e-5)
        np.testing.assert_allclose(states.accel, want[3], atol=1e-4)
        np.testing.assert_allclose(states.kappa, want[4], atol=3e-5)

    def test_noisy_poses_equal_dense_float64(self):
        rng = np.random.default_rng(0)
        history, future = drive(12.0, -1.0, 0.03)
        noisy = lambda x: (x + rng.normal(0, 0.02, x.shape)).astype(np.float32)  # noqa: E731
        history, future = (noisy(history[0]), history[1]), (noisy(future[0]), future[1])
        want = dense_float64(history, future, PLAIN)
        actions = inverse(*history, *future, cfg=PLAIN)
        np.testing.assert_allclose(actions, np.stack(want[3:], axis=-1), atol=1e-4)

    def test_given_speed_replaces_the_estimate(self):
        history, future = drive(8.0, 0.5, 0.02)
        v0 = np.float32(7.0)
        want = dense_float64(history, future, PLAIN, v0=7.0)
        actions, states = inverse(*history, *future, cfg=PLAIN, v0=v0, return_states=True)
        self.assertEqual(float(states.v[0]), 7.0)
        np.testing.assert_allclose(actions, np.stack(want[3:], axis=-1), atol=1e-4)

    def test_forward_equals_float64(self):
        actions = np.random.default_rng(1).normal(size=(64, 2)).astype(np.float32)
        history, _ = drive(30.0, 0.0, 0.001)
        v0, dt = 30.0, CFG.dt
        accel = actions[:, 0].astype(np.float64) * CFG.accel_std + CFG.accel_mean
        kappa = actions[:, 1].astype(np.float64) * CFG.curvature_std + CFG.curvature_mean
        xy, theta, v, want = np.zeros(2), 0.0, v0, []
        for a, k in zip(accel, kappa):
            before = v * np.array([np.cos(theta), np.sin(theta)])
            theta, v = theta + k * (v * dt + a * dt**2 / 2), v + a * dt
            xy = xy + dt / 2 * (before + v * np.array([np.cos(theta), np.sin(theta)]))
            want.append(xy)
        got = forward(actions, *history, cfg=CFG, v0=np.float32(v0))
        np.testing.assert_allclose(got.xyz[:, :2], want, atol=6e-5)
        np.testing.assert_allclose(so3.unwrap(so3.yaw_from_rot(got.rot))[-1], theta, atol=1e-5)


class ForwardInverseTest(parameterized.TestCase):
    @parameterized.product(
        batch_dims=BATCH_DIMS, case=((8.0, 0.5, 0.02), (25.0, 0.0, 1e-3), (5.0, -0.5, -0.05))
    )
    def test_a_drive_survives_the_round_trip(self, batch_dims, case):
        history, future = drive(*case, batch_dims)
        back = forward(inverse(*history, *future, cfg=CFG), *history, cfg=CFG)
        np.testing.assert_allclose(back.xyz, future[0], atol=0.02)
        np.testing.assert_allclose(back.rot, future[1], atol=2e-3)

    def test_smooth_controls_survive_the_round_trip(self):
        time = np.linspace(0, 1, 64)
        actions = np.stack([np.sin(3 * time), 0.5 * np.cos(2 * time)], axis=-1).astype(np.float32)
        history, _ = drive(9.0, 0.0, 0.01)
        there = forward(actions, *history, cfg=CFG)
        again = inverse(*history, there.xyz, there.rot, cfg=CFG)
        np.testing.assert_allclose(again, actions, atol=0.03)
        back = forward(again, *history, cfg=CFG)
        np.testing.assert_allclose(back.xyz, there.xyz, atol=0.02)

    def test_standing_still_is_the_zero_control(self):
        still = (np.zeros((16, 3), np.float32), np.tile(np.eye(3, dtype=np.float32), (16, 1, 1)))
        future = (np.zeros((64, 3), np.float32), np.tile(np.eye(3, dtype=np.float32), (64, 1, 1)))
        actions = inverse(*still, *future, cfg=PLAIN)
        np.testing.assert_array_equal(actions, np.zeros((64, 2)))
        np.testing.assert_array_equal(forward(actions, *still, cfg=PLAIN).xyz, future[0])

    def test_bf16_constants_agree_both_ways(self):
        history, future = drive(8.0, 0.5, 0.02)
        actions = inverse(*history, *future, cfg=CFG, bf16_constants=True)
        self.assertGreater(np.abs(actions - inverse(*history, *future, cfg=CFG)).max(), 1e-4)
        back = forward(actions, *history, cfg=CFG, bf16_constants=True)
        plain = forward(inverse(*history, *future, cfg=CFG), *history, cfg=CFG)
        np.testing.assert_allclose(back.xyz, plain.xyz, atol=5e-5)


class BehaviourTest(parameterized.TestCase):
    def test_rows_of_a_batch_do_not_touch(self):
        rng = np.random.default_rng(2)
        cases = [drive(v, a, k) for v, a, k in zip(rng.uniform(1, 20, 4), rng.normal(size=4),
                                                   rng.normal(0, 0.03, 4))]
        stacked = [np.stack([c[i][j] for c in cases]) for i in (0, 1) for j in (0, 1)]
        together = inverse(*stacked, cfg=CFG)
        for row, (history, future) in zip(together, cases):
            np.testing.assert_allclose(row, inverse(*history, *future, cfg=CFG), atol=1e-4)

    def test_mirrored_drives_have_mirrored_curvature(self):
        history, future = drive(7.0, 0.3, 0.04)
        flip = np.diag([1, -1, 1]).astype(np.float32)
        mirror = lambda pose: (pose[0] @ flip, flip @ pose[1] @ flip)  # noqa: E731
        left = inverse(*history, *future, cfg=PLAIN)
        right = inverse(*mirror(history), *mirror(future), cfg=PLAIN)
        np.testing.assert_allclose(right, left * np.array([1, -1]), atol=1e-6)
        there = forward(left, *history, cfg=PLAIN)
        other = forward(right, *mirror(history), cfg=PLAIN)
        np.testing.assert_allclose(other.xyz, there.xyz @ flip, atol=1e-5)

    @parameterized.product(batch_dims=BATCH_DIMS)
    def test_height_is_the_last_of_the_history(self, batch_dims):
        (xyz, rot), _ = drive(8.0, 0.0, 0.01, batch_dims)
        xyz = xyz + np.linspace(0, 1.5, 16, dtype=np.float32)[:, None] * np.float32([0, 0, 1])
        got = forward(np.zeros((*batch_dims, 64, 2), np.float32), xyz, rot, cfg=CFG)
        np.testing.assert_allclose(got.xyz[..., 2], 1.5, atol=1e-6)

    def test_jit_changes_nothing(self):
        history, _ = drive(8.0, 0.5, 0.02)
        actions = np.random.default_rng(3).normal(size=(64, 2)).astype(np.float32)
        eager = unicycle.action_to_trajectory(actions, *history, CFG)
        np.testing.assert_allclose(forward(actions, *history, cfg=CFG).xyz, eager.xyz, atol=2e-5)

    def test_states_and_actions_agree(self):
        history, future = drive(8.0, 0.5, 0.02)
        actions, states = inverse(*history, *future, cfg=CFG, return_states=True)
        np.testing.assert_allclose(
            unicycle.states_to_action(states, CFG), actions, atol=1e-6
        )

    @parameterized.product(batch_dims=BATCH_DIMS)
    def test_bounds(self, batch_dims):
        actions = np.zeros((*batch_dims, 64, 2), np.float32)
        inside = functools.partial(unicycle.is_within_bounds, cfg=PLAIN)
        self.assertEqual(inside(actions).shape, batch_dims)
        self.assertTrue(inside(actions).all())
        for channel, value in ((0, 9.9), (0, -9.9), (1, 0.34), (1, -0.34)):
            outside = actions.copy()
            outside[..., 5, channel] = value
            self.assertFalse(inside(outside).any())
            self.assertTrue(inside(outside * np.float32(0.95)).all())

    def test_a_missing_ridge_is_found(self):
        """At rest the curvature system is singular; the retry finds a ridge that solves it."""
        cfg = dataclasses.replace(PLAIN, kappa_ridge=1e-12, a_ridge=1e-12)
        still = (np.zeros((16, 3), np.float32), np.tile(np.eye(3, dtype=np.float32), (16, 1, 1)))
        _, turning = drive(1e-4, 0.0, 0.1)
        actions = inverse(*still, *turning, cfg=cfg)
        self.assertTrue(np.isfinite(actions).all())


class LowSpeedGuardTest(parameterized.TestCase):
    GUARDED = dataclasses.replace(PLAIN, low_speed_guard=True)

    def test_crawling_has_no_curvature(self):
        history, future = drive(0.4, 0.0, 0.2)
        free = inverse(*history, *future, cfg=PLAIN)
        guarded = inverse(*history, *future, cfg=self.GUARDED)
        self.assertGreater(np.abs(free[:, 1]).max(), 0.05)
        np.testing.assert_array_equal(guarded[:, 1], np.zeros(64))
        np.testing.assert_array_equal(guarded[:, 0], free[:, 0])

    def test_only_steps_with_a_slow_end_are_zeroed(self):
        history, future = drive(2.0, -0.3, 0.1)
        _, states = inverse(*history, *future, cfg=self.GUARDED, return_states=True)
        slow = np.abs(states.v) < PLAIN.low_speed
        self.assertTrue(slow.any() and not slow.all())
        np.testing.assert_array_equal(states.kappa == 0, slow[:-1] | slow[1:])

    @parameterized.parameters(1.0, -1.0)
    def test_curvature_is_clamped_to_its_bounds(self, side):
        history, future = drive(3.0, 0.0, 0.5 * side)
        actions = inverse(*history, *future, cfg=self.GUARDED)
        np.testing.assert_allclose(actions[20:40, 1], 0.33 * side, rtol=1e-6)
        self.assertTrue(unicycle.is_within_bounds(actions * 0.999, self.GUARDED))

    def test_fast_drives_are_untouched(self):
        history, future = drive(8.0, 0.5, 0.02)
        np.testing.assert_array_equal(
            inverse(*history, *future, cfg=self.GUARDED), inverse(*history, *future, cfg=PLAIN)
        )


class GradientTest(parameterized.TestCase):
    @parameterized.product(batch_dims=BATCH_DIMS, speed=(0.0, 8.0))
    def test_forward_gradients_are_finite(self, batch_dims, speed):
        history, _ = drive(speed, 0.0, 0.02, batch_dims)

        def loss(actions, xyz, rot):
            got = unicycle.action_to_trajectory(actions, xyz, rot, CFG)
            return (got.xyz**2).mean() + got.rot.sum()

        actions = jnp.zeros((*batch_dims, 64, 2))
        grads = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(actions, *history)
        for grad in grads:
            self.assertTrue(np.isfinite(grad).all())
        self.assertGreater(np.abs(grads[0]).max(), 0)

    def test_forward_gradient_equals_finite_differences(self):
        history, _ = drive(8.0, 0.0, 0.02)
        rng = np.random.default_rng(0)
        actions, way = rng.normal(size=(2, 64, 2)).astype(np.float32)
        end = lambda a: forward(a, *history, cfg=CFG).xyz[-1, :2].sum()  # noqa: E731
        step = 1e-2
        want = (end(actions + step * way) - end(actions - step * way)) / (2 * step)
        np.testing.assert_allclose((jax.grad(end)(actions) * way).sum(), want, rtol=2e-3)

    def test_inverse_gradients_are_finite(self):
        history, future = drive(8.0, 0.5, 0.02)
        loss = lambda xyz: inverse(*history, xyz, future[1], cfg=CFG).sum()  # noqa: E731
        self.assertTrue(np.isfinite(jax.grad(loss)(future[0])).all())


class WrongShapeTest(parameterized.TestCase):
    def test_another_number_of_waypoints(self):
        history, (xyz, rot) = drive(8.0, 0.5, 0.02)
        with self.assertRaises(AssertionError):
            unicycle.trajectory_to_action(*history, xyz[:-1], rot[:-1], CFG)
        with self.assertRaises(AssertionError):
            unicycle.action_to_trajectory(np.zeros((63, 2)), *history, CFG)

    def test_samples_do_not_broadcast_over_a_history(self):
        history, _ = drive(8.0, 0.5, 0.02)
        with self.assertRaises(AssertionError):
            unicycle.action_to_trajectory(np.zeros((6, 64, 2)), *history, CFG)

    def test_a_speed_per_trajectory(self):
        history, _ = drive(8.0, 0.5, 0.02, (2,))
        with self.assertRaises(AssertionError):
            unicycle.action_to_trajectory(np.zeros((2, 64, 2)), *history, CFG, np.ones(3))

    def test_other_lengths_follow_the_config(self):
        cfg = dataclasses.replace(CFG, n_waypoints=20)
        history, (xyz, rot) = drive(8.0, 0.5, 0.02)
        xyz, rot = xyz[:20], rot[:20]
        actions = inverse(*history, xyz, rot, cfg=cfg)
        self.assertEqual(actions.shape, (20, 2))
        back = forward(actions, *history, cfg=cfg)
        np.testing.assert_allclose(back.xyz, xyz, atol=0.01)
