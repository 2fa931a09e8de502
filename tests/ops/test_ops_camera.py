"""Projection and its inverse, for both lenses, in both array namespaces."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from alpamayo_jax import clip
from alpamayo_jax.ops import camera

PINHOLE = clip.Pinhole(fx=360.8, fy=361.7, cx=304.8, cy=86.7)
# A 120-degree lens of 1920 x 1080: about 940 px/rad, with the mild bend of a real calibration.
FTHETA = clip.FTheta(
    cx=960.2, cy=541.3, forward_poly=(0.0, 938.7, 4.1, -28.3, 3.9), max_angle=math.radians(72)
)
FISHEYE = clip.FTheta(cx=500.0, cy=500.0, forward_poly=(0.0, 250.0), max_angle=1.8)
LENSES = (("pinhole", PINHOLE), ("ftheta", FTHETA), ("fisheye", FISHEYE))


def _points(shape, seed=0, max_angle=1.0):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0.0, max_angle, shape)
    turn = rng.uniform(0.0, 2 * np.pi, shape)
    rays = np.stack([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)], -1)
    return rays * rng.uniform(1.0, 60.0, (*shape, 1))


class CameraTest(parameterized.TestCase):
    @parameterized.product(lens=LENSES, batch_dims=((), (2, 1), (7,)))
    def test_unproject_inverts_project(self, lens, batch_dims):
        _, intrinsics = lens
        points = _points((*batch_dims, 5))
        uv, valid = camera.project(points, intrinsics)
        rays, seen = camera.unproject(uv, intrinsics)
        self.assertTrue(valid.all() and seen.all())
        chex.assert_shape(rays, points.shape)
        unit = points / np.linalg.norm(points, axis=-1, keepdims=True)
        np.testing.assert_allclose(rays, unit, atol=1e-9)

    @parameterized.parameters(*LENSES)
    def test_project_inverts_unproject_on_every_pixel(self, _, intrinsics):
        rays, valid = camera.pixel_rays(96, 64, intrinsics)
        self.assertEqual(rays.shape, (64, 96, 3))
        uv, seen = camera.project(12.5 * rays, intrinsics)
        self.assertTrue(seen[valid].all())
        want = np.stack(np.meshgrid(np.arange(96.0), np.arange(64.0)), -1)
        np.testing.assert_allclose(uv[valid], want[valid], atol=1e-7)

    def test_pinhole_known_point(self):
        uv, valid = camera.project_pinhole(np.array([2.0, 1.0, 4.0]), 100.0, 200.0, 320.0, 240.0)
        np.testing.assert_allclose(uv, [370.0, 290.0])
        self.assertTrue(valid)

    def test_ftheta_radius_is_the_polynomial_of_the_angle(self):
        angle = math.radians(40)
        point = 7.0 * np.array([math.sin(angle), 0.0, math.cos(angle)])
        uv, valid = camera.project(point, FTHETA)
        radius = sum(k * angle**i for i, k in enumerate(FTHETA.forward_poly))
        np.testing.assert_allclose(uv, [FTHETA.cx + radius, FTHETA.cy], rtol=1e-12)
        self.assertTrue(valid)

    @parameterized.parameters(*LENSES)
    def test_image_axes_follow_camera_axes(self, _, intrinsics):
        centre, right, below = camera.project(
            np.array([[0.0, 0.0, 5.0], [1.0, 0.0, 5.0], [0.0, 1.0, 5.0]]), intrinsics
        )[0]
        np.testing.assert_allclose(centre, [intrinsics.cx, intrinsics.cy])
        self.assertGreater(right[0], centre[0])
        self.assertGreater(below[1], centre[1])

    @parameterized.parameters(*LENSES)
    def test_points_not_seen_are_invalid_and_finite(self, name, intrinsics):
        points = np.array([[0.0, 0, -5], [0.3, 0.1, -5], [0, 0, 0], [np.nan, 0, 5], [0, 0, np.nan]])
        uv, valid = camera.project(points, intrinsics)
        self.assertFalse(valid.any(), name)
        self.assertTrue(np.isfinite(uv).all(), name)

    def test_fisheye_sees_behind_its_own_plane_up_to_max_angle(self):
        angles = np.array([1.7, 1.79, 1.81, 2.5])
        points = np.stack([np.sin(angles), 0 * angles, np.cos(angles)], -1)
        uv, valid = camera.project(points, FISHEYE)
        np.testing.assert_array_equal(valid, [True, True, False, False])
        np.testing.assert_allclose(uv[:2, 0], 500 + 250 * angles[:2])

    def test_unproject_beyond_max_angle_is_invalid_and_clamped(self):
        rays, valid = camera.unproject(np.array([[500 + 250 * 1.9, 500.0]]), FISHEYE)
        self.assertFalse(valid.any())
        np.testing.assert_allclose(np.arccos(rays[..., 2]), FISHEYE.max_angle)

    @parameterized.parameters(*LENSES)
    def test_jax_equals_numpy_and_jits(self, _, intrinsics):
        points = _points((3, 4)).astype(np.float32)
        project = jax.jit(lambda p: camera.project(p, intrinsics))
        uv, valid = project(points)
        self.assertIsInstance(uv, jax.Array)
        want, want_valid = camera.project(points, intrinsics)
        self.assertIsInstance(want, np.ndarray)
        self.assertEqual(want.dtype, np.float32)
        np.testing.assert_allclose(uv, want, rtol=1e-5, atol=1e-3)
        np.testing.assert_array_equal(valid, want_valid)
        rays, _ = jax.jit(lambda u: camera.unproject(u, intrinsics))(uv)
        np.testing.assert_allclose(rays, camera.unproject(want, intrinsics)[0], atol=2e-6)

    @parameterized.parameters(*LENSES)
    def test_gradients_equal_finite_differences(self, _, intrinsics):
        point = np.array([1.5, -0.7, 6.0])
        uv = camera.project(point, intrinsics)[0]
        for function, at, step in (
            (lambda x: camera.project(x, intrinsics)[0], point, 1e-6),
            (lambda x: camera.unproject(x, intrinsics)[0], uv, 1e-4),
        ):
            got = jax.jacobian(function)(jnp.asarray(at))
            steps = step * np.eye(len(at))
            want = np.stack([(function(at + d) - function(at - d)) / (2 * step) for d in steps], -1)
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())

    @parameterized.parameters(*LENSES)
    def test_gradients_are_finite_on_the_axis_and_behind(self, _, intrinsics):
        points = jnp.array([[0.0, 0.0, 5.0], [0.0, 0.0, -5.0], [0.0, 0.0, 0.0], [1.0, 0.0, -3.0]])
        grad = jax.grad(lambda p: camera.project(p, intrinsics)[0].sum())(points)
        self.assertTrue(jnp.isfinite(grad).all())
        self.assertTrue((grad[0, :2] > 0).all())
        centre = jnp.array([intrinsics.cx, intrinsics.cy])
        grad = jax.jacobian(lambda u: camera.unproject(u, intrinsics)[0])(centre)
        self.assertTrue(jnp.isfinite(grad).all())

    def test_lens_parameters_have_gradients(self):
        uv = jnp.array([1500.0, 700.0])

        def sine(poly):
            return camera.unproject_ftheta(uv, FTHETA.cx, FTHETA.cy, poly, FTHETA.max_angle)[0][0]

        grad = jax.grad(sine)(jnp.array(FTHETA.forward_poly))
        self.assertTrue((grad < 0).all())  # a longer lens sees the same pixel nearer the axis

    def test_check_ftheta(self):
        camera.check_ftheta(FTHETA.forward_poly, FTHETA.max_angle)
        with self.assertRaisesRegex(ValueError, "lower max_angle"):
            camera.check_ftheta((0.0, 100.0, 0.0, -50.0), 1.5)

    @parameterized.parameters((), (2,), (2, 1))
    def test_transform_and_inverse(self, *batch_dims):
        angle = 0.7
        matrix = np.eye(4)
        matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        matrix[:3, 3] = [1.0, -2.0, 0.5]
        matrices = np.broadcast_to(matrix, (*batch_dims, 4, 4))
        points = _points((*batch_dims, 6))
        moved = camera.transform(matrices, points)
        back = camera.transform(camera.invert_rigid(jnp.asarray(matrices)), moved)
        np.testing.assert_allclose(back, points, atol=1e-4)
        np.testing.assert_allclose(camera.transform(matrix, points[..., 0, :]), moved[..., 0, :])

    def test_camera_from_ego_of_a_forward_camera(self):
        ego_from_camera = np.eye(4)
        ego_from_camera[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
        ego_from_camera[:3, 3] = [1.5, 0.0, 1.4]
        ahead_left_on_road = np.array([[11.5, 2.0, 0.0]])
        got = camera.camera_from_ego(ahead_left_on_road, ego_from_camera)
        np.testing.assert_allclose(got, [[-2.0, 1.4, 10.0]])

    def test_wrong_shapes_are_errors(self):
        with self.assertRaises(AssertionError):
            camera.project(np.zeros((3, 2)), PINHOLE)
        with self.assertRaises(AssertionError):
            camera.transform(np.zeros((2, 4, 4)), np.zeros((3, 5, 3)))


if __name__ == "__main__":
    absltest.main()
