import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from alpamayo_jax.ops import so3

BATCH_DIMS = ((), (2, 1))


class So3Test(parameterized.TestCase):
    @parameterized.product(batch_dims=BATCH_DIMS)
    def test_yaw_survives_the_matrix(self, batch_dims):
        yaw = np.random.default_rng(0).uniform(-np.pi, np.pi, (*batch_dims, 5))
        rot = so3.rot_from_yaw(yaw.astype(np.float32))
        self.assertEqual(rot.shape, (*batch_dims, 5, 3, 3))
        np.testing.assert_allclose(so3.yaw_from_rot(rot), yaw, atol=1e-6)

    @parameterized.product(batch_dims=BATCH_DIMS)
    def test_matrices_are_rotations_about_z(self, batch_dims):
        rot = so3.rot_from_yaw(np.full(batch_dims, 0.7, np.float32))
        eye = np.broadcast_to(np.eye(3), rot.shape)
        np.testing.assert_allclose(rot @ jnp.swapaxes(rot, -1, -2), eye, atol=1e-6)
        np.testing.assert_allclose(np.linalg.det(rot), 1.0, atol=1e-6)
        np.testing.assert_array_equal(rot[..., 2, :], eye[..., 2, :])

    def test_a_quarter_turn_left_points_along_y(self):
        forward = so3.rot_from_yaw(jnp.pi / 2) @ jnp.asarray([1.0, 0.0, 0.0])
        np.testing.assert_allclose(forward, [0.0, 1.0, 0.0], atol=1e-6)

    def test_yaw_ignores_pitch(self):
        pitch = 0.2
        tilt = np.array(
            [[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]]
        )
        rot = np.asarray(so3.rot_from_yaw(0.5)) @ tilt
        np.testing.assert_allclose(so3.yaw_from_rot(rot.astype(np.float32)), 0.5, atol=1e-6)

    @parameterized.parameters(0.1, -3.0, 3.0, 3.5, -3.5, 12.0, -100.0)
    def test_wrap_angle_removes_whole_turns(self, angle):
        wrapped = float(so3.wrap_angle(jnp.float32(angle)))
        self.assertLessEqual(abs(wrapped), np.pi + 1e-6)
        turns = (angle - wrapped) / (2 * np.pi)
        self.assertAlmostEqual(turns, round(turns), places=4)

    @parameterized.product(batch_dims=BATCH_DIMS, axis=(-1, 0))
    def test_unwrap_restores_a_spin(self, batch_dims, axis):
        spin = np.linspace(-2.0, 15.0, 40) + np.zeros((*batch_dims, 1))
        wrapped = np.moveaxis(np.angle(np.exp(1j * spin)), -1, axis).astype(np.float32)
        got = np.moveaxis(so3.unwrap(wrapped, axis=axis), axis, -1)
        np.testing.assert_allclose(got, spin, atol=2e-5)

    def test_unwrap_keeps_the_first_angle_and_smooth_ones(self):
        angles = np.float32([3.0, 3.1, 3.14, -3.13, -3.0])
        got = so3.unwrap(angles)
        np.testing.assert_allclose(got, np.unwrap(angles), atol=1e-6)
        self.assertEqual(float(got[0]), 3.0)

    def test_unwrap_of_one_angle(self):
        np.testing.assert_array_equal(so3.unwrap(jnp.float32([2.5])), np.float32([2.5]))

    def test_gradients_are_finite_everywhere(self):
        def total(yaw):
            return so3.unwrap(so3.yaw_from_rot(so3.rot_from_yaw(yaw))).sum()

        grad = jax.grad(total)(jnp.float32([0.0, np.pi / 2, 3.1, -3.1]))
        np.testing.assert_allclose(grad, np.ones(4), atol=1e-5)

    def test_a_wrong_shape_is_refused(self):
        with self.assertRaises(AssertionError):
            so3.yaw_from_rot(jnp.zeros((4, 3)))
