"""A few rows times narrow values: every implementation against a product in float64."""

import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernel_chips import CHIPS

from alpamayo_jax.kernels import lowering
from alpamayo_jax.kernels.dispatch import Unsupported
from alpamayo_jax.kernels.quantised_matvec import pallas_gpu, pallas_tpu, quantised_matvec
from alpamayo_jax.kernels.quantised_matvec.shapes import cases
from alpamayo_jax.presets import preset

KINDS = {"int8": jnp.int8, "fp8": jnp.float8_e4m3fn}
# Of one rounding to the type of the rows, and for float32 of a sum.
TOLERANCE = {"float32": 1e-5, "bfloat16": 2**-8, "float16": 2**-10}
KERNELS = {"gpu": pallas_gpu.matvec, "tpu": pallas_tpu.matvec}


def _arguments(lead, depth, width, kind, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((*lead, depth)).astype(np.float32)
    if kind == "int8":
        values = rng.integers(-127, 128, (depth, width))
    else:  # all exponents, among them those that are subnormal in fp8
        values = rng.standard_normal((depth, width)) * np.exp2(rng.integers(-10, 7, (depth, width)))
    scale = rng.uniform(0.01, 0.02, width).astype(np.float32)
    values = jnp.asarray(values, jnp.float32).astype(KINDS[kind])
    return jnp.asarray(x, dtype), values, jnp.asarray(scale)


def _exact(x, values, scale):
    wide = [np.asarray(a.astype(jnp.float32), np.float64) for a in (x, values, scale)]
    return wide[0] @ (wide[1] * wide[2])


class MatvecTest(parameterized.TestCase):
    @parameterized.product(kind=tuple(KINDS), dtype=tuple(TOLERANCE))
    def test_every_implementation_is_the_product(self, kind, dtype):
        x, values, scale = _arguments((2, 3), 200, 150, kind, dtype)
        want = _exact(x, values, scale)
        largest = np.abs(want).max()
        runs = {"xla": quantised_matvec} | {
            name: functools.partial(kernel, interpret=True) for name, kernel in KERNELS.items()
        }
        for name, run in runs.items():
            got = jax.jit(run)(x, values, scale)
            self.assertEqual((got.shape, got.dtype), ((2, 3, 150), x.dtype), name)
            error = np.abs(np.asarray(got, np.float64) - want).max() / largest
            self.assertLess(error, TOLERANCE[dtype], name)

    @parameterized.parameters(((), 64, 128), ((1,), 1100, 7), ((16,), 65, 600), ((1, 4), 3, 129))
    def test_ragged_sizes(self, lead, depth, width):
        x, values, scale = _arguments(lead, depth, width, "int8", "float32")
        want = _exact(x, values, scale)
        for kernel in KERNELS.values():
            got = jax.jit(functools.partial(kernel, interpret=True))(x, values, scale)
            self.assertEqual(got.shape, want.shape)
            np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())

    def test_every_fp8_value_is_widened_exactly(self):
        bits = jnp.arange(256, dtype=jnp.uint8)
        want = np.asarray(jax.lax.bitcast_convert_type(bits, jnp.float8_e4m3fn).astype(jnp.float32))
        got = np.asarray(pallas_gpu.widen(bits, True, jnp.float32))
        number = np.isfinite(want)
        self.assertEqual(number.sum(), 254)
        np.testing.assert_array_equal(got[number], want[number])

    def test_too_many_rows_and_other_types_are_refused(self):
        x, values, scale = _arguments((17,), 32, 32, "int8", "float32")
        args = dict(implementation="pallas", interpret=True)
        with self.assertRaisesRegex(Unsupported, "17 rows are more than the 16"):
            quantised_matvec(x, values, scale, **args)
        with self.assertRaisesRegex(Unsupported, "values of float32"):
            quantised_matvec(x[:2], values.astype(jnp.float32), scale, **args)
        with self.assertRaisesRegex(Unsupported, "rows of int32"):
            quantised_matvec(x[:2].astype(jnp.int32), values, scale, **args)
        many = quantised_matvec(x, values, scale, implementation=("pallas", "xla"), interpret=True)
        np.testing.assert_array_equal(many, quantised_matvec(x, values, scale))

    def test_shapes_that_do_not_fit_are_refused(self):
        x, values, scale = _arguments((2,), 32, 48, "int8", "float32")
        for bad in ((x[:, 1:], values, scale), (x, values, scale[1:]), (x, values, scale[:, None])):
            with self.assertRaises(AssertionError):
                quantised_matvec(*bad)

    def test_triton_is_for_gpus(self):
        x, values, scale = _arguments((2,), 32, 48, "int8", "float32")
        with self.assertRaisesRegex(Unsupported, "triton: Triton is for GPUs, not for cpu"):
            quantised_matvec(x, values, scale, implementation="triton")
        with self.assertRaisesRegex(Unsupported, "TRITON_INTERPRET=1"):
            quantised_matvec(x, values, scale, implementation="triton", interpret=True)

    def test_gradient_of_xla(self):
        x, values, scale = _arguments((2,), 12, 9, "int8", "float32")
        dx, dscale = jax.grad(lambda x, s: quantised_matvec(x, values, s).sum(), (0, 1))(x, scale)
        wide = np.asarray(values, np.float64)
        np.testing.assert_allclose(dx, np.tile(wide @ np.asarray(scale), (2, 1)), rtol=1e-5)
        np.testing.assert_allclose(dscale, (np.asarray(x) @ wide).sum(0), rtol=1e-4, atol=1e-3)


CASES = {case.name: case for case in cases(preset("r1_10b"))}


def test_cases_are_the_matrices_of_a_token():
    assert len(CASES) == 6 * 2 * 2
    x, values, scale = CASES["lm_head/fp8/6"].specs()
    c = preset("r1_10b").language
    assert x.shape == (6, c.hidden_size) and values.shape == (c.hidden_size, c.vocab_size)
    assert (x.dtype, values.dtype) == (jnp.bfloat16, jnp.float8_e4m3fn)
    assert CASES["lm_head/fp8/6"].flops == 2 * 6 * values.size
    assert 1.0 < CASES["lm_head/fp8/6"].moved / values.size < 1.01  # the values, and little else


@pytest.mark.parametrize("name", ["gate_proj/int8/1", "lm_head/fp8/6"])
@pytest.mark.parametrize("chip", CHIPS)
def test_it_lowers_at_real_shapes(chip, name):
    run = functools.partial(quantised_matvec, implementation="pallas")
    assert lowering.kernels_in(lowering.lower(run, *CASES[name].specs(), target=chip)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("chip", lowering.TARGETS)
def test_it_compiles_at_real_shapes(chip):
    if not lowering.can_compile(chip):
        pytest.skip(f"the compiler for {chip} is not installed")
    run = functools.partial(quantised_matvec, implementation="pallas")
    for name in ("down_proj/int8/1", "gate_proj/fp8/6"):
        case = CASES[name]
        compiled = lowering.compile_ahead(run, *case.specs(), target=chip)
        assert compiled.memory_analysis().argument_size_in_bytes < 1.1 * case.moved
