"""Bilinear reading of images of any size."""

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.ops.deformable import bilinear_weights, deformable_read


def _dense(image, uv):
    """Bilinear interpolation written out, one place at a time; borders are repeated."""
    rows, columns = image.shape[:2]
    x, y = np.clip(uv * (columns, rows) - 0.5, 0, (columns - 1, rows - 1))
    i, j = int(y), int(x)
    i2, j2 = min(i + 1, rows - 1), min(j + 1, columns - 1)
    a, b = y - i, x - j
    top = image[i, j] * (1 - b) + image[i, j2] * b
    return top * (1 - a) + (image[i2, j] * (1 - b) + image[i2, j2] * b) * a


class BilinearTest(parameterized.TestCase):
    @parameterized.parameters(((3, 4), 12), ((3, 4), 20), ((1, 5), 6), ((1, 1), 4))
    def test_it_is_bilinear_interpolation(self, grid, padded):
        rng = np.random.default_rng(0)
        image = rng.standard_normal((*grid, 2))
        flat = np.full((padded, 2), 1e6)  # padding must not leak
        flat[: grid[0] * grid[1]] = image.reshape(-1, 2)
        places = rng.uniform(0, 1, (30, 2))
        weights = bilinear_weights(jnp.asarray(places), jnp.asarray(grid), padded)
        want = np.stack([_dense(image, uv) for uv in places])
        np.testing.assert_allclose(np.asarray(weights) @ flat, want, atol=1e-4)

    def test_inside_weights_sum_to_one_and_outside_to_zero(self):
        uv = jnp.asarray([[0.0, 0.0], [1.0, 1.0], [0.4, 0.9], [1.01, 0.5], [0.5, -0.01]])
        total = bilinear_weights(uv, jnp.asarray([2, 3]), 8).sum(-1)
        np.testing.assert_allclose(total, [1, 1, 1, 0, 0], atol=1e-6)

    def test_an_absent_image_has_no_weight(self):
        weights = bilinear_weights(jnp.full((4, 2), 0.5), jnp.zeros(2, jnp.int32), 6)
        np.testing.assert_array_equal(weights, np.zeros((4, 6)))


class ReadTest(parameterized.TestCase):
    def test_points_and_heads(self):
        rng = np.random.default_rng(1)
        rows, columns, heads, points, size = 3, 4, 2, 3, 5
        values = rng.standard_normal((rows * columns, heads, size))
        reference = rng.uniform(0.3, 0.7, (6, 2))
        offsets = rng.uniform(-0.8, 0.8, (6, heads, points, 2))
        weights = rng.uniform(0, 1, (6, heads, points))
        got = deformable_read(
            jnp.asarray(values, jnp.float32)[None],
            jnp.asarray([[rows, columns]]),
            *(jnp.asarray(a, jnp.float32)[None] for a in (reference, offsets, weights)),
        )[0]
        for n in range(6):
            for h in range(heads):
                image = values[:, h].reshape(rows, columns, size)
                want = sum(
                    weights[n, h, k] * _dense(image, reference[n] + offsets[n, h, k] / (columns, rows))
                    for k in range(points)
                )
                np.testing.assert_allclose(got[n, h], want, atol=1e-5)

    def test_images_of_different_sizes_and_absent_ones(self):
        rng = np.random.default_rng(2)
        values = jnp.asarray(rng.standard_normal((3, 12, 1, 2)), jnp.float32)
        grid = jnp.asarray([[3, 4], [2, 3], [0, 0]])
        reference = jnp.asarray(rng.uniform(0.2, 0.8, (3, 5, 2)), jnp.float32)
        got = deformable_read(
            values, grid, reference, jnp.zeros((3, 5, 1, 1, 2)), jnp.ones((3, 5, 1, 1))
        )
        for m in range(2):
            rows, columns = np.asarray(grid[m])
            image = np.asarray(values[m, : rows * columns, 0]).reshape(rows, columns, 2)
            want = np.stack([_dense(image, np.asarray(uv)) for uv in reference[m]])
            np.testing.assert_allclose(got[m, :, 0], want, atol=1e-5)
        np.testing.assert_array_equal(got[2], np.zeros((5, 1, 2)))

    def test_gradient_moves_a_point_towards_what_it_looks_for(self):
        values = jnp.zeros((9, 1, 1)).at[4].set(1.0)  # bright in the middle of 3 x 3

        def brightness(offset):
            args = jnp.asarray([[3, 3]]), jnp.full((1, 1, 2), 0.4), offset[None, None, None, None]
            return deformable_read(values[None], *args, jnp.ones((1, 1, 1, 1)))[0, 0, 0, 0]

        slope = jax.grad(brightness)(jnp.zeros(2))
        self.assertTrue(bool((slope > 0).all()))
        step = 1e-3
        for axis in range(2):
            moved = [brightness(jnp.zeros(2).at[axis].set(s)) for s in (step, -step)]
            self.assertAlmostEqual(float(moved[0] - moved[1]) / (2 * step), float(slope[axis]), 2)
