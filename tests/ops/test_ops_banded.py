import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from alpamayo_jax.ops import banded

BATCH_DIMS = ((), (2, 1))


def random_band(batch_dims, n, bandwidth, seed=0):
    """A diagonally dominant matrix, so positive definite; junk outside the matrix."""
    band = np.random.default_rng(seed).normal(size=(*batch_dims, n, bandwidth + 1))
    band[..., 0] = np.abs(band[..., 0]) + 2 * bandwidth + 1
    band = np.where(np.abs(band) > 2 * bandwidth + 4, 1.0, band)
    return band.astype(np.float32)


class DifferencePenaltyTest(parameterized.TestCase):
    @parameterized.product(order=(1, 2, 3), n=(4, 5, 65))
    def test_band_is_the_dense_product(self, order, n):
        matrix = banded.difference_matrix(n, order)
        self.assertEqual(matrix.shape, (n - order, n))
        band = banded.difference_penalty(n, order, weight=0.25)
        self.assertEqual(band.shape, (n, order + 1))
        dense = banded.to_dense(band)
        np.testing.assert_allclose(dense, 0.25 * matrix.T @ matrix, atol=1e-6)

    def test_first_rows(self):
        np.testing.assert_array_equal(banded.difference_penalty(4, 1)[:, 0], [1, 2, 2, 1])
        np.testing.assert_array_equal(banded.difference_penalty(6, 2)[:3, 0], [1, 5, 6])
        np.testing.assert_array_equal(banded.difference_penalty(8, 3)[4], [20, -15, 6, -1])

    @parameterized.parameters(1, 2, 3)
    def test_polynomials_below_the_order_cost_nothing(self, order):
        dense = banded.to_dense(banded.difference_penalty(12, order))
        samples = np.arange(12.0) ** (order - 1)
        np.testing.assert_allclose(dense @ samples, 0, atol=1e-3)
        self.assertGreater(samples * np.arange(12.0) @ dense @ (samples * np.arange(12.0)), 0.5)

    @parameterized.parameters(1, 2, 3)
    def test_too_few_samples_cost_nothing(self, order):
        np.testing.assert_array_equal(banded.difference_penalty(order, order), 0)

    def test_order_zero_is_refused(self):
        with self.assertRaisesRegex(ValueError, "at least 1, got 0"):
            banded.difference_penalty(5, 0)
        with self.assertRaisesRegex(ValueError, "at least 1, got 0"):
            banded.difference_matrix(5, 0)


class BandTest(parameterized.TestCase):
    @parameterized.product(batch_dims=BATCH_DIMS, widths=((1, 3), (3, 1), (2, 2)))
    def test_add(self, batch_dims, widths):
        first, second = (random_band(batch_dims, 7, w, seed=w) for w in widths)
        total = banded.to_dense(banded.add(first, second))
        np.testing.assert_allclose(
            total, banded.to_dense(first) + banded.to_dense(second), atol=1e-6
        )

    def test_add_refuses_another_size(self):
        with self.assertRaisesRegex(ValueError, "7 and 8 rows"):
            banded.add(random_band((), 7, 1), random_band((), 8, 1))

    def test_ridge_per_matrix(self):
        band = jnp.asarray(random_band((2,), 4, 1))
        got = banded.to_dense(banded.add_ridge(band, jnp.float32([1.0, 2.0])))
        want = banded.to_dense(band) + np.float32([1, 2])[:, None, None] * np.eye(4)
        np.testing.assert_allclose(got, want, atol=1e-6)

    def test_dropping_rows_drops_the_first_unknowns(self):
        band = random_band((), 8, 3)
        dense = np.asarray(banded.to_dense(band))
        np.testing.assert_array_equal(banded.to_dense(band[2:]), dense[2:, 2:])


class SolveTest(parameterized.TestCase):
    @parameterized.product(batch_dims=BATCH_DIMS, size=((1, 2), (3, 4), (16, 0), (16, 1), (16, 3)))
    def test_factor_and_solution_equal_dense_float64(self, batch_dims, size):
        n, bandwidth = size
        band = random_band(batch_dims, n, bandwidth)
        rhs = np.random.default_rng(1).normal(size=(*batch_dims, n)).astype(np.float32)
        dense = np.asarray(banded.to_dense(band), np.float64)
        factor, solution = jax.jit(lambda b, r: (banded.cholesky(b), banded.solve(b, r)))(band, rhs)
        lower = np.tril(np.asarray(banded.to_dense(factor)))
        np.testing.assert_allclose(lower, np.linalg.cholesky(dense), atol=1e-5)
        want = np.linalg.solve(dense, rhs[..., None].astype(np.float64))[..., 0]
        np.testing.assert_allclose(solution, want, atol=1e-5)

    def test_jit_changes_nothing(self):
        band, rhs = random_band((), 9, 2), np.ones(9, np.float32)
        np.testing.assert_allclose(
            jax.jit(banded.solve)(band, rhs), banded.solve(band, rhs), atol=1e-6
        )

    def test_one_matrix_many_right_hand_sides(self):
        band = random_band((), 9, 2)
        rhs = np.random.default_rng(1).normal(size=(4, 5, 9)).astype(np.float32)
        many = np.broadcast_to(band, (4, 5, *band.shape))
        np.testing.assert_allclose(banded.solve(band, rhs), banded.solve(many, rhs), atol=1e-6)

    def test_a_batch_that_does_not_match_is_refused(self):
        with self.assertRaises(AssertionError):
            banded.solve(random_band((2,), 5, 1), np.ones((3, 5), np.float32))

    def test_not_positive_definite_is_nan(self):
        band = jnp.float32([[1.0, 0.0], [1.0, 2.0]])
        self.assertTrue(np.isnan(banded.solve(band, jnp.ones(2))).any())

    def test_gradient_of_the_solution(self):
        band = jnp.asarray(random_band((), 6, 2))
        rhs = jnp.arange(6.0)
        grad = jax.grad(lambda b: banded.solve(band, b).sum())(rhs)
        want = np.linalg.solve(np.asarray(banded.to_dense(band), np.float64), np.ones(6))
        np.testing.assert_allclose(grad, want, atol=1e-5)


class RidgeTest(parameterized.TestCase):
    # [[1, 1], [1, 1 - delta]] needs a ridge of about delta / 2.
    def singular(self, delta):
        return jnp.float32([[1.0, 0.0], [1.0 - delta, 1.0]])

    def test_first_ridge_suffices_for_a_definite_matrix(self):
        band = random_band((2, 1), 5, 2)
        np.testing.assert_array_equal(
            banded.sufficient_ridge(band, 1e-4), np.full((2, 1), 1e-4, np.float32)
        )

    @parameterized.parameters((0.01, 1e-2), (0.1, 1e-1), (1.2, 1.0))
    def test_ridge_grows_tenfold_until_it_suffices(self, delta, want):
        ridge = banded.sufficient_ridge(self.singular(delta), 1e-4)
        np.testing.assert_allclose(ridge, want, rtol=1e-5)

    def test_each_matrix_of_a_batch_has_its_own_ridge(self):
        bands = jnp.stack([self.singular(0.1), jnp.float32([[1.0, 0.0], [1.0, 0.5]])])
        np.testing.assert_allclose(
            banded.sufficient_ridge(bands, 1e-4), [1e-1, 1e-4], rtol=1e-5
        )
        rhs = jnp.ones((2, 2))
        both = jax.jit(banded.solve_ridge, static_argnums=2)(bands, rhs, 1e-4)
        for i in range(2):
            alone = banded.solve_ridge(bands[i], rhs[i], 1e-4)
            np.testing.assert_allclose(both[i], alone, rtol=1e-6)

    def test_solution_uses_the_grown_ridge(self):
        band, rhs = self.singular(0.1), jnp.float32([1.0, -1.0])
        dense = np.array([[1.1, 1.0], [1.0, 1.0]])
        np.testing.assert_allclose(
            banded.solve_ridge(band, rhs, 1e-3), np.linalg.solve(dense, rhs), rtol=1e-3
        )

    def test_search_ends(self):
        hopeless = jnp.full((4, 2), jnp.nan)
        ridge = banded.sufficient_ridge(hopeless, 1.0)
        np.testing.assert_allclose(
            ridge, banded.RIDGE_GROWTH**banded.MAX_RETRIES, rtol=1e-5
        )
        self.assertTrue(np.isnan(banded.solve_ridge(hopeless, jnp.ones(4), 1.0)).all())

    def test_gradient_passes_the_search(self):
        grad = jax.grad(lambda b: banded.solve_ridge(b, jnp.ones(2), 1e-4).sum())
        self.assertTrue(np.isfinite(grad(self.singular(0.1))).all())
