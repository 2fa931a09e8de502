"""Packed lenses agree with the cameras that they were packed from."""

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.clip import FTheta, Pinhole
from alpamayo_jax.ops import camera
from alpamayo_jax.ops.lens import LENS_SIZE, absent_lens, pack_lens, project_lens, unproject_lens
from alpamayo_jax.types import InputError

PINHOLE = Pinhole(100.0, 110.0, 79.5, 39.5)
FTHETA = FTheta(80.0, 41.0, (0.0, 90.0, 0.5, -1.0, 0.2), 1.6)
WIDTH, HEIGHT = 160, 80
LENSES = np.stack([pack_lens(i, WIDTH, HEIGHT) for i in (PINHOLE, FTHETA)])


def _points(*lead):
    rng = np.random.default_rng(0)
    return rng.uniform((-4, -2, -2), (4, 2, 8), (*lead, 40, 3)).astype(np.float32)


class LensTest(parameterized.TestCase):
    @parameterized.parameters(((),), ((2, 1),))
    def test_projection_is_that_of_the_camera(self, batch):
        points = np.broadcast_to(_points(), (*batch, 2, 40, 3))
        lenses = np.broadcast_to(LENSES, (*batch, *LENSES.shape))
        uv, visible = project_lens(jnp.asarray(points), jnp.asarray(lenses))
        for k, intrinsics in enumerate((PINHOLE, FTHETA)):
            want, valid = camera.project(_points().astype(np.float64), intrinsics)
            want = (want + 0.5) / (WIDTH, HEIGHT)
            inside = valid & ((want >= 0) & (want <= 1)).all(-1)
            self.assertTrue(0 < inside.sum() < 40)
            np.testing.assert_array_equal(visible[..., k, :], np.broadcast_to(inside, (*batch, 40)))
            got = np.asarray(uv)[..., k, :, :][..., inside, :]
            np.testing.assert_allclose(got, np.broadcast_to(want[inside], got.shape), atol=1e-5)

    def test_unprojection_is_the_inverse(self):
        points = jnp.asarray(np.stack([_points()] * 2))
        uv, visible = project_lens(points, jnp.asarray(LENSES))
        rays, valid = unproject_lens(uv, jnp.asarray(LENSES))
        want = points / jnp.linalg.norm(points, axis=-1, keepdims=True)
        self.assertTrue(bool(valid[visible].all()))
        np.testing.assert_allclose(rays[visible], want[visible], atol=1e-5)

    def test_a_resized_image_has_the_same_places(self):
        """Fractions do not change when a camera's image is scaled with its intrinsics."""
        twice = Pinhole(200.0, 220.0, 2 * 79.5 + 0.5, 2 * 39.5 + 0.5)
        lens = pack_lens(twice, 2 * WIDTH, 2 * HEIGHT)
        points = jnp.asarray(_points())
        first, seen = project_lens(points, jnp.asarray(LENSES[0]))
        second, also = project_lens(points, jnp.asarray(lens))
        np.testing.assert_array_equal(seen, also)
        np.testing.assert_allclose(first[seen], second[seen], atol=1e-5)

    def test_gradients_are_finite_everywhere(self):
        points = jnp.asarray(np.concatenate([_points(), np.zeros((1, 3), np.float32)]))
        points = jnp.stack([points] * 3)
        lenses = jnp.asarray(np.concatenate([LENSES, absent_lens()[None]]))
        slope = jax.grad(lambda p: project_lens(p, lenses)[0].sum())(points)
        self.assertTrue(bool(jnp.isfinite(slope).all()))

    def test_wrong_shapes_are_refused(self):
        with self.assertRaises(AssertionError):
            project_lens(jnp.zeros((3, 5, 3)), jnp.zeros((2, LENS_SIZE)))
        with self.assertRaises(AssertionError):
            unproject_lens(jnp.zeros((5, 3)), jnp.zeros(LENS_SIZE))


def test_long_polynomials_are_refused():
    with pytest.raises(InputError, match="7 coefficients"):
        pack_lens(FTheta(1.0, 1.0, (0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.1), 1.0), 10, 10)
