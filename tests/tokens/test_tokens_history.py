import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from alpamayo_jax.config import TrajectoryTokenConfig
from alpamayo_jax.ops import so3
from alpamayo_jax.tokens import history

BATCH_DIMS = ((), (2, 1))
CFG = TrajectoryTokenConfig()
WITH_YAW = dataclasses.replace(CFG, history_predict_yaw=True)

encode = jax.jit(history.encode_history, static_argnames="cfg")
decode = jax.jit(history.decode_history, static_argnames="cfg")


def arc(times, speed=8.0, kappa=0.02, batch_dims=()):
    """Float32 poses on a circle through the origin, heading along x there."""
    yaw = kappa * speed * np.asarray(times)
    xyz = np.stack([np.sin(yaw) / kappa, (1 - np.cos(yaw)) / kappa, 0 * yaw], axis=-1)
    rot = np.asarray(so3.rot_from_yaw(yaw.astype(np.float32)))
    shape = lambda x: np.broadcast_to(x, (*batch_dims, *x.shape)).astype(np.float32)  # noqa: E731
    return shape(xyz), shape(rot)


def history_arc(**options):
    return arc(np.arange(-15, 1) * 0.1, **options)


def future_arc(**options):
    return arc(np.arange(1, 65) * 0.1, **options)


class QuantizeTest(parameterized.TestCase):
    @parameterized.parameters((0.5, 0), (1.5, 2), (2.5, 2), (3.4999, 3), (-9.0, 0), (99.0, 10))
    def test_half_to_even_and_clamped(self, value, want):
        got = jax.jit(lambda v: history.quantize(v, 0.0, 10.0, 11))(jnp.float32(value))
        self.assertEqual(got.dtype, jnp.int32)
        self.assertEqual(int(got), want)

    @parameterized.parameters((-4.0, 4.0), (-10.0, 10.0), (-np.pi, np.pi))
    def test_zero_is_the_upper_middle_bin(self, low, high):
        """Zero lies exactly between two bins; a stationary car must not depend on rounding."""
        low, high = np.float32(low), np.float32(high)
        got = jax.jit(lambda v: history.quantize(v, low, high, 1000))(jnp.float32(0))
        self.assertEqual(int(got), 500)

    def test_every_bin_survives(self):
        low, high = np.float32(-10), np.float32(10)
        bins = jnp.arange(3000)
        values = jax.jit(lambda b: history.dequantize(b, low, high, 3000))(bins)
        again = jax.jit(lambda v: history.quantize(v, low, high, 3000))(values)
        np.testing.assert_array_equal(again, bins)
        self.assertEqual(float(values[0]), -10.0)
        self.assertEqual(float(values[-1]), 10.0)


class EncodeTest(parameterized.TestCase):
    @parameterized.product(batch_dims=BATCH_DIMS)
    def test_golden_arc(self, batch_dims):
        """What the released model makes of 16 poses at 8 m/s on a curvature of 0.02 / m."""
        xyz, rot = history_arc(batch_dims=batch_dims)
        bins = encode(xyz, rot, cfg=CFG)
        self.assertEqual(bins.shape, (*batch_dims, 48))
        self.assertEqual(bins.dtype, jnp.int32)
        start = [0, 678, 500, 597, 477, 500, 597, 478, 500, 597, 480, 500, 598, 481, 500]
        np.testing.assert_array_equal(bins[..., :15], np.broadcast_to(start, (*batch_dims, 15)))
        end = [599, 499, 500]
        np.testing.assert_array_equal(bins[..., -3:], np.broadcast_to(end, (*batch_dims, 3)))

    def test_rotations_are_not_read_without_yaw(self):
        xyz, rot = history_arc()
        np.testing.assert_array_equal(encode(xyz, None, cfg=CFG), encode(xyz, rot, cfg=CFG))

    def test_yaw_is_the_clockwise_step(self):
        xyz, rot = history_arc(kappa=0.05)
        bins = np.asarray(encode(xyz, rot, cfg=WITH_YAW)).reshape(16, 4)
        np.testing.assert_array_equal(bins[:, :3].reshape(-1), encode(xyz, rot, cfg=CFG))
        step = -0.05 * 8.0 * 0.1
        want = np.full(16, np.round((step + np.pi) / (2 * np.pi) * 999))
        want[0] = np.round((0.05 * 8.0 * 1.5 + np.pi) / (2 * np.pi) * 999)
        np.testing.assert_array_equal(bins[:, 3], want)

    def test_a_turn_through_half_a_circle_wraps(self):
        yaw = np.float32([3.1, -3.1, 3.1])
        bins = encode(np.zeros((3, 3), np.float32), so3.rot_from_yaw(yaw), cfg=WITH_YAW)
        steps = np.asarray(bins).reshape(3, 4)[1:, 3] - 499.5
        np.testing.assert_allclose(np.abs(steps), 0.0832 / (2 * np.pi) * 999, atol=0.6)
        self.assertLess(steps[0] * steps[1], 0)

    def test_futures_have_three_bins_per_step(self):
        xyz, rot = future_arc()
        self.assertEqual(encode(xyz, rot, cfg=CFG).shape, (192,))
        self.assertEqual(encode(xyz, rot, cfg=WITH_YAW).shape, (256,))

    def test_wrong_shapes_are_refused(self):
        xyz, rot = history_arc()
        with self.assertRaises(AssertionError):
            history.encode_history(xyz[:, :2], rot, CFG)
        with self.assertRaises(AssertionError):
            history.encode_history(xyz, rot[:-1], WITH_YAW)


class DecodeTest(parameterized.TestCase):
    @parameterized.product(batch_dims=BATCH_DIMS, cfg=(CFG, WITH_YAW))
    def test_a_future_survives_within_half_a_bin_per_step(self, batch_dims, cfg):
        xyz, rot = future_arc(batch_dims=batch_dims)
        got = decode(encode(xyz, rot, cfg=cfg), cfg=cfg)
        self.assertEqual(got.xyz.shape, (*batch_dims, 64, 3))
        self.assertEqual(got.rot.shape, (*batch_dims, 64, 3, 3))
        span = np.subtract(cfg.history_max, cfg.history_min)
        allowed = (np.arange(1, 65)[:, None] * span / 999 / 2) + 1e-4
        self.assertTrue((np.abs(got.xyz - xyz) <= allowed).all())
        np.testing.assert_allclose(so3.yaw_from_rot(got.rot), so3.yaw_from_rot(rot), atol=0.21)

    def test_bins_survive(self):
        """Encoding what was decoded gives the same bins: the steps are bin centres."""
        xyz, rot = future_arc(speed=15.0)
        for cfg in (CFG, WITH_YAW):
            bins = encode(xyz, rot, cfg=cfg)
            again = decode(bins, cfg=cfg)
            np.testing.assert_array_equal(encode(again.xyz, again.rot, cfg=cfg), bins)

    def test_yaw_comes_back_with_its_sign(self):
        xyz, rot = future_arc(kappa=0.05)
        got = decode(encode(xyz, rot, cfg=WITH_YAW), cfg=WITH_YAW)
        yaw = so3.unwrap(so3.yaw_from_rot(got.rot))
        self.assertGreater(float(yaw[-1]), 2.0)  # a left turn

    def test_the_clamped_first_step_shifts_a_history(self):
        xyz, rot = history_arc()
        got = decode(encode(xyz, rot, cfg=CFG), cfg=CFG)
        self.assertEqual(float(got.xyz[0, 0]), -4.0)
        shift = got.xyz - xyz
        np.testing.assert_allclose(shift[:, 0], shift[0, 0], atol=0.07)

    def test_bins_of_another_layout_are_refused(self):
        with self.assertRaisesRegex(ValueError, "50 history bins .* 3 values"):
            history.decode_history(jnp.zeros(50, jnp.int32), CFG)
        with self.assertRaisesRegex(ValueError, "4 poses is too short"):
            history.decode_history(jnp.zeros(12, jnp.int32), CFG)


class PathHeadingTest(parameterized.TestCase):
    @parameterized.product(batch_dims=BATCH_DIMS, n=(10, 16, 64))
    def test_cubic_paths_are_exact(self, batch_dims, n):
        t = np.linspace(0, 1, n)
        x, y = 3 * t + t**3, t**2 - 2 * t**3
        xy = np.broadcast_to(np.stack([x, y], -1), (*batch_dims, n, 2)).astype(np.float32)
        want = np.broadcast_to(np.arctan2(2 * t - 6 * t**2, 3 + 3 * t**2), (*batch_dims, n))
        np.testing.assert_allclose(history.path_heading(xy), want, atol=1e-4)

    def test_equals_a_sliding_polynomial_fit(self):
        rng = np.random.default_rng(0)
        xy = (np.cumsum(rng.uniform(0, 2, (30, 2)), axis=0) + 100).astype(np.float32)
        want = []
        for i in range(30):
            first = min(max(i - 5, 0), 20)
            window, t = xy[first : first + 10].astype(np.float64), np.arange(first, first + 10)
            slope = [np.polyval(np.polyder(np.polyfit(t, window[:, d], 3)), i) for d in (0, 1)]
            want.append(np.arctan2(slope[1], slope[0]))
        np.testing.assert_allclose(history.path_heading(xy), want, atol=1e-5)
