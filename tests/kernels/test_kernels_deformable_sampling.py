"""Deformable sampling: implementations against bilinear interpolation in NumPy, and gradients."""

import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernel_chips import CHIPS

from alpamayo_jax.kernels import lowering
from alpamayo_jax.kernels.deformable_sampling import deformable_sampling
from alpamayo_jax.kernels.deformable_sampling import pallas_gpu, pallas_tpu
from alpamayo_jax.kernels.deformable_sampling.reference import hats
from alpamayo_jax.kernels.deformable_sampling.shapes import cases
from alpamayo_jax.presets import preset

# images (rows, columns), tokens with padding, queries, heads, points, width
SHAPES = {
    "two images": (((3, 4), (2, 3)), 14, 70, 2, 3, 5),
    "more tokens than a block": (((15, 20),), 300, 33, 1, 2, 24),
    "one token": (((1, 1),), 1, 4, 1, 1, 16),
}
TOLERANCE = {"float32": 2e-6, "bfloat16": 2**-7, "float16": 2**-9}
PALLAS = functools.partial(deformable_sampling, implementation="pallas", interpret=True)


def _arguments(shape, dtype="float32", seed=0):
    grids, tokens, queries, heads, points, size = shape
    rng = np.random.default_rng(seed)
    rows, columns = (np.asarray(a)[:, None, None, None] for a in zip(*grids))
    spread = (len(grids), queries, heads, points)
    values = rng.standard_normal((len(grids), tokens, heads, size))
    return (
        jnp.asarray(values, dtype),
        jnp.asarray(columns.ravel(), jnp.int32),
        jnp.asarray(rng.uniform(0, 1, spread) * (columns - 1), jnp.float32),
        jnp.asarray(rng.uniform(0, 1, spread) * (rows - 1), jnp.float32),
        jnp.asarray(rng.uniform(0, 1, spread), jnp.float32),
    )


def _read(values, columns, x, y, weights):
    """One place after the other, in float64."""
    values = np.asarray(values.astype(jnp.float32), np.float64)
    x, y, weights = (np.asarray(a, np.float64) for a in (x, y, weights))
    out = np.zeros((*x.shape[:3], values.shape[-1]))
    for m, n, h, k in np.ndindex(*x.shape):
        wide, (i, j) = int(columns[m]), (int(y[m, n, h, k]), int(x[m, n, h, k]))
        a, b = x[m, n, h, k] - j, y[m, n, h, k] - i
        for token, share in (
            (i * wide + j, (1 - a) * (1 - b)),
            (i * wide + j + 1, a * (1 - b)),
            ((i + 1) * wide + j, (1 - a) * b),
            ((i + 1) * wide + j + 1, a * b),
        ):
            if share > 0:
                out[m, n, h] += weights[m, n, h, k] * share * values[m, token, h]
    return out


def _on(device, arguments):
    """The body for GPUs or TPUs, interpreted."""
    module = {"gpu": pallas_gpu, "tpu": pallas_tpu}[device]
    return module.forward(*arguments, interpret=True)


class ForwardTest(parameterized.TestCase):
    @parameterized.product(shape=tuple(SHAPES), device=("gpu", "tpu"))
    def test_kernels_are_bilinear_interpolation(self, shape, device):
        arguments = _arguments(SHAPES[shape])
        want = _read(*arguments)
        got = jax.jit(functools.partial(_on, device))(arguments)
        np.testing.assert_allclose(got, want, atol=2e-5)
        np.testing.assert_allclose(deformable_sampling(*arguments), want, atol=2e-5)

    @parameterized.product(dtype=("bfloat16", "float16"), device=("gpu", "tpu"))
    def test_narrow_values(self, dtype, device):
        arguments = _arguments(SHAPES["two images"], dtype)
        want = _read(*arguments)
        got = jax.jit(functools.partial(_on, device))(arguments)
        self.assertEqual(got.dtype, jnp.dtype(dtype))
        error = np.abs(np.asarray(got, np.float64) - want).max() / np.abs(want).max()
        self.assertLess(error, TOLERANCE[dtype])

    def test_at_the_border_only_what_is_inside_counts(self):
        values = jnp.arange(6.0).reshape(1, 6, 1, 1).at[0, 4:].set(1e6)  # 2 x 2
        at = lambda *v: jnp.asarray(v, jnp.float32).reshape(1, -1, 1, 1)  # noqa: E731
        x, y = at(0, 1, 0, 1, 0.5), at(0, 0, 1, 1, 0)
        for sample in (jax.jit(PALLAS), deformable_sampling):
            got = sample(values, jnp.asarray([2]), x, y, jnp.ones_like(x))
            np.testing.assert_allclose(got[0, :, 0, 0], [0, 1, 2, 3, 0.5])

    def test_hats_sum_to_one(self):
        x, y = jnp.asarray([0.0, 1.3, 3.0]), jnp.asarray([0.2, 1.0, 2.0])
        weights = hats(jnp.asarray(4), x, y, 15)
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
        np.testing.assert_allclose(weights[2, 11], 1)

    def test_shapes_that_do_not_fit_are_refused(self):
        arguments = _arguments(SHAPES["two images"])
        for at, bad in ((1, arguments[1][:1]), (2, arguments[2][:, 1:]), (0, arguments[0][0])):
            with self.assertRaises(AssertionError):
                deformable_sampling(*arguments[:at], bad, *arguments[at + 1 :])


class BackwardTest(parameterized.TestCase):
    def _slopes(self, sample, arguments, slope):
        values, columns, *rest = arguments

        def total(values, x, y, weights):
            read = sample(values, columns, x, y, weights)
            return (read.astype(jnp.float32) * slope).sum()

        return jax.grad(total, (0, 1, 2, 3))(values, *rest)

    # On a token exactly a reading has a corner, so no slope there to compare.
    @parameterized.product(
        shape=("two images", "more tokens than a block"),
        dtype=("float32", "bfloat16"),
        device=("gpu", "tpu"),
    )
    def test_kernels_equal_the_reference(self, shape, dtype, device):
        arguments = _arguments(SHAPES[shape], dtype)
        read = jax.eval_shape(lambda: deformable_sampling(*arguments))
        slope = np.random.default_rng(1).standard_normal(read.shape).astype(np.float32)
        slope = jnp.asarray(slope).astype(dtype).astype(jnp.float32)
        module = {"gpu": pallas_gpu, "tpu": pallas_tpu}[device]
        got = jax.jit(functools.partial(module.backward, interpret=True))(
            *arguments, slope.astype(dtype)
        )
        # XLA on a CPU adds narrow products up in their own type, so the reference is computed wide.
        values, *rest = arguments
        wide = (values.astype(jnp.float32), *rest)
        want = jax.jit(functools.partial(self._slopes, deformable_sampling))(wide, slope)
        self.assertEqual([a.dtype for a in got], [values.dtype] + 3 * [jnp.dtype("float32")])
        for name, a, b in zip(("values", "x", "y", "weights"), got, want):
            self.assertEqual(a.shape, b.shape, name)
            a, b = (np.asarray(array.astype(jnp.float32), np.float64) for array in (a, b))
            largest = max(np.abs(b).max(), 1.0)
            np.testing.assert_allclose(a, b, atol=TOLERANCE[dtype] * largest, err_msg=name)

    @parameterized.parameters(pallas_gpu, pallas_tpu)
    def test_an_image_of_one_token(self, module):
        arguments = _arguments(SHAPES["one token"])
        values, *_, weights = arguments
        slope = jnp.asarray(np.random.default_rng(1).standard_normal((1, 4, 1, 16)), jnp.float32)
        got = jax.jit(functools.partial(module.backward, interpret=True))(*arguments, slope)
        np.testing.assert_allclose(
            got[0][0, 0, 0], weights[0, :, 0, 0] @ slope[0, :, 0], atol=1e-5
        )
        np.testing.assert_array_equal(got[1], 0)
        np.testing.assert_array_equal(got[2], 0)
        np.testing.assert_allclose(got[3][0, :, 0, 0], slope[0, :, 0] @ values[0, 0, 0], atol=1e-5)

    def test_a_kernel_is_differentiated_by_kernels(self):
        arguments = _arguments(SHAPES["two images"])
        slope = jnp.ones((2, 70, 2, 5))
        run = jax.jit(functools.partial(self._slopes, PALLAS))
        for a, b in zip(run(arguments, slope), self._slopes(deformable_sampling, arguments, slope)):
            np.testing.assert_allclose(a, b, atol=1e-4)


CASES = {case.name: case for case in cases(preset("r1_10b"))}
REAL = CASES["442368_cells/1"]


def test_cases_are_the_cells_of_a_triplane():
    values, columns, x, _, weights = REAL.specs()
    c = preset("r1_10b").scene.triplane
    assert x.shape == weights.shape == (1, 96 * 96 * 48, c.num_heads, c.num_points)
    assert values.shape == (1, 160, c.num_heads, c.hidden_size // c.num_heads)
    assert columns.shape == (1,) and REAL.wrt == (0, 2, 3, 4)


def _gradient(sample):
    def total(values, columns, x, y, weights):
        return sample(values, columns, x, y, weights).astype(jnp.float32).sum()

    return jax.value_and_grad(total, (0, 2, 3, 4))


@pytest.mark.parametrize("chip", CHIPS)
def test_it_lowers_at_real_shapes(chip):
    run = functools.partial(deformable_sampling, implementation="pallas")
    lowered = lowering.lower(_gradient(run), *REAL.specs(), target=chip)
    assert lowering.kernels_in(lowered) == (3 if chip in lowering.GPUS else 2)


@pytest.mark.slow
@pytest.mark.parametrize("chip", lowering.TARGETS)
def test_it_compiles_at_real_shapes(chip):
    if not lowering.can_compile(chip):
        pytest.skip(f"the compiler for {chip} is not installed")
    run = functools.partial(deformable_sampling, implementation="pallas")
    compiled = lowering.compile_ahead(_gradient(run), *REAL.specs(), target=chip)
    if chip in lowering.TPUS:
        return  # see docs/kernels.md: rows of 4 places are laid out as 128 there
    # No weights of all tokens [N, H, P] in memory.
    assert compiled.memory_analysis().temp_size_in_bytes < 442368 * 6 * 160 * 4
