"""Band systems: implementations against dense float64, and the gradient of the solution."""

import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernel_chips import CHIPS

from alpamayo_jax.kernels import lowering
from alpamayo_jax.kernels.banded_solve import banded_solve, pallas_gpu, pallas_tpu
from alpamayo_jax.kernels.banded_solve.reference import solve_reference
from alpamayo_jax.kernels.banded_solve.shapes import cases
from alpamayo_jax.kernels.dispatch import Unsupported
from alpamayo_jax.presets import preset

KERNELS = {"gpu": pallas_gpu.solve, "tpu": pallas_tpu.solve}


def _system(batch, n, width, seed=0):
    """Diagonally dominant; what is left of the matrix is junk, as in sums of bands."""
    rng = np.random.default_rng(seed)
    band = rng.standard_normal((*batch, n, width)).astype(np.float32)
    band[..., 0] = np.abs(band[..., 0]) + 2 * width
    outside = np.arange(n)[:, None] < np.arange(width)
    band = np.where(outside, 1e3, band).astype(np.float32)
    return jnp.asarray(band), jnp.asarray(rng.standard_normal((*batch, n)), jnp.float32)


def _dense(band):
    band = np.asarray(band, np.float64)
    n, width = band.shape[-2:]
    dense = np.zeros((*band.shape[:-1], n))
    for d in range(min(width, n)):
        rows = np.arange(d, n)
        dense[..., rows, rows - d] = dense[..., rows - d, rows] = band[..., d:, d]
    return dense


def _jit(kernel):
    return jax.jit(functools.partial(kernel, interpret=True))


class SolveTest(parameterized.TestCase):
    @parameterized.parameters(
        ((), 1, 2), ((3,), 5, 1), ((2, 3), 3, 4), ((40,), 9, 3), ((129,), 17, 4), ((2,), 64, 4)
    )
    def test_kernels_equal_dense_float64(self, batch, n, width):
        band, rhs = _system(batch, n, width)
        want = np.linalg.solve(_dense(band), np.asarray(rhs, np.float64)[..., None])[..., 0]
        lower = np.linalg.cholesky(_dense(band))
        _, reference = solve_reference(band, rhs)
        for name, kernel in KERNELS.items():
            solution, factor = _jit(kernel)(band, rhs)
            np.testing.assert_allclose(solution, want, atol=1e-5, err_msg=name)
            self.assertEqual(factor.shape, band.shape)
            for d in range(min(width, n)):
                diagonal = np.diagonal(lower, -d, -2, -1)
                np.testing.assert_allclose(factor[..., d:, d], diagonal, atol=1e-5, err_msg=name)
                np.testing.assert_allclose(
                    factor[..., d:, d], reference[..., d:, d], atol=1e-6, err_msg=name
                )

    def test_one_matrix_for_many_right_hand_sides(self):
        band, _ = _system((), 11, 3)
        rhs = jnp.asarray(np.random.default_rng(1).standard_normal((2, 7, 11)), jnp.float32)
        want = np.linalg.solve(_dense(band), np.asarray(rhs, np.float64)[..., None])[..., 0]
        for kernel in KERNELS.values():
            solution, factor = _jit(kernel)(band, rhs)
            np.testing.assert_allclose(solution, want, atol=1e-5)
            self.assertEqual(factor.shape, band.shape)

    def test_an_indefinite_matrix_is_nan_and_its_neighbours_are_not(self):
        band, rhs = _system((40,), 6, 3)
        band = band.at[7, 2, 0].set(-1.0)
        for kernel in (*(_jit(k) for k in KERNELS.values()), solve_reference):
            solution, factor = kernel(band, rhs)
            broken = np.isnan(np.asarray(solution)).any(-1)
            np.testing.assert_array_equal(np.flatnonzero(broken), [7])
            self.assertTrue(np.isfinite(np.asarray(factor[7, :2, 0])).all())

    def test_what_kernels_do_not_know_goes_to_xla(self):
        wide = _system((2,), 8, 5)
        with self.assertRaisesRegex(Unsupported, "5 diagonals are more than 4"):
            banded_solve(*wide, implementation="pallas", interpret=True)
        got = banded_solve(*wide, implementation=("pallas", "xla"), interpret=True)
        np.testing.assert_array_equal(got, banded_solve(*wide))
        halves = (a.astype(jnp.bfloat16) for a in _system((2,), 8, 3))
        with self.assertRaisesRegex(Unsupported, "bfloat16"):
            banded_solve(*halves, implementation="pallas", interpret=True)


class GradientTest(parameterized.TestCase):
    def _gradients(self, solve, band, rhs, slope):
        return jax.grad(lambda b, r: (solve(b, r) * slope).sum(), (0, 1))(band, rhs)

    @parameterized.parameters(((3,), 6, 3), ((), 2, 4), ((2, 2), 9, 1))
    def test_it_is_that_of_the_way_there(self, batch, n, width):
        band, rhs = _system(batch, n, width)
        slope = jnp.asarray(np.random.default_rng(3).standard_normal(rhs.shape), jnp.float32)
        plain = self._gradients(lambda b, r: solve_reference(b, r)[0], band, rhs, slope)
        kernel = functools.partial(banded_solve, implementation="pallas", interpret=True)
        for solve in (banded_solve, kernel):
            got = jax.jit(functools.partial(self._gradients, solve))(band, rhs, slope)
            for a, b in zip(got, plain):
                np.testing.assert_allclose(a, b, atol=2e-6)

    def test_of_a_shared_matrix(self):
        band, _ = _system((), 5, 2)
        rhs = jnp.asarray(np.random.default_rng(1).standard_normal((4, 5)), jnp.float32)
        many = jnp.broadcast_to(band, (4, *band.shape))
        one = self._gradients(banded_solve, band, rhs, rhs)
        each = self._gradients(banded_solve, many, rhs, rhs)
        np.testing.assert_allclose(one[0], each[0].sum(0), atol=1e-6)
        np.testing.assert_allclose(one[1], each[1], atol=1e-6)

    def test_it_is_the_slope(self):
        band, rhs = _system((), 7, 3)
        total = jax.jit(lambda b, r: (banded_solve(b, r) ** 2).sum())
        slope = jax.grad(total)(band, rhs)
        for i, d in ((0, 0), (3, 1), (6, 2)):
            step = 1e-2
            moved = [float(total(band.at[i, d].add(s), rhs)) for s in (step, -step)]
            self.assertAlmostEqual((moved[0] - moved[1]) / (2 * step), float(slope[i, d]), 3)
        np.testing.assert_array_equal(slope[0, 1:], 0)  # left of the matrix


CASES = {case.name: case for case in cases(preset("r1_10b"))}


def test_cases_are_the_systems_of_a_trajectory():
    assert set(CASES) == {"64x3/1", "64x3/1024", "64x4/1", "64x4/1024"}
    band, rhs = CASES["64x4/1024"].specs()
    assert (band.shape, rhs.shape) == ((1024, 64, 4), (1024, 64))
    assert CASES["64x4/1024"].moved == 4 * (band.size + 2 * rhs.size)
    factor = solve_reference(*CASES["64x4/1"].arguments())[1]
    assert np.isfinite(np.asarray(factor)).all()


@pytest.mark.parametrize("chip", CHIPS)
def test_it_lowers_at_real_shapes(chip):
    run = functools.partial(banded_solve, implementation="pallas")
    for case in CASES.values():
        assert lowering.kernels_in(lowering.lower(run, *case.specs(), target=chip)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("chip", lowering.TARGETS)
def test_it_compiles_with_its_gradient(chip):
    if not lowering.can_compile(chip):
        pytest.skip(f"the compiler for {chip} is not installed")
    run = functools.partial(banded_solve, implementation="pallas")
    gradient = jax.grad(lambda band, rhs: run(band, rhs).sum(), (0, 1))
    compiled = lowering.compile_ahead(gradient, *CASES["64x4/1024"].specs(), target=chip)
    assert compiled.memory_analysis().output_size_in_bytes >= 4 * 1024 * 64 * 5
