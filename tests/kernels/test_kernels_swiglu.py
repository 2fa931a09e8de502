"""The gated unit: kernels against XLA, forwards and backwards, and for chips not there."""

import contextlib

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.kernels import lowering
from alpamayo_jax.kernels.swiglu import swiglu
from alpamayo_jax.kernels.swiglu.shapes import CASES
from alpamayo_jax.testing.tiny import quick_jit

# Relative to the largest value: "xla" rounds both products to the narrow type, the kernels do not.
TOLERANCE = {jnp.float32: 2e-6, jnp.bfloat16: 0.03, jnp.float16: 4e-3}
SHAPES = (((2, 5), 32, 48), ((1,), 17, 130), ((300,), 40, 260))


def _normal(shape, seed, dtype):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape) / 3, dtype)


def _arguments(shape, dtype):
    lead, width, features = shape
    return (
        _normal((*lead, width), 0, dtype),
        _normal((width, features), 1, dtype),
        _normal((width, features), 2, dtype),
    )


def _run(implementation, chip, arguments):
    def loss(x, gate, up):
        out = swiglu(x, gate, up, implementation=implementation, interpret=True)
        return jnp.vdot(_normal(out.shape, 7, jnp.float32), out.astype(jnp.float32)), out

    with lowering.abstract_device(chip) if chip else contextlib.nullcontext():
        run = quick_jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
        (_, out), grads = run(*arguments)
    return out, *grads


class SwigluTest(parameterized.TestCase):
    @parameterized.product(chip=(None, "v5e"), dtype=(jnp.float32, jnp.bfloat16))
    def test_equals_xla(self, chip, dtype):
        self._compare(chip, dtype, ((70,), 100, 24))

    @parameterized.product(
        chip=(None, "v5e"), dtype=(jnp.float32, jnp.bfloat16, jnp.float16), shape=SHAPES
    )
    @pytest.mark.slow
    def test_shapes_and_types(self, chip, dtype, shape):
        self._compare(chip, dtype, shape)

    def _compare(self, chip, dtype, shape):
        arguments = _arguments(shape, dtype)
        got, want = _run("pallas", chip, arguments), _run("xla", None, arguments)
        for a, b in zip(got, want):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            a, b = (np.asarray(value, np.float32) for value in (a, b))
            np.testing.assert_allclose(a, b, atol=TOLERANCE[dtype] * np.abs(b).max())

    @parameterized.parameters("xla", "pallas")
    def test_a_closed_gate_and_an_open_one(self, implementation):
        x = jnp.ones((1, 16), jnp.float32)
        gate = jnp.stack([jnp.full(16, -9.0), jnp.zeros(16), jnp.full(16, 9.0)], 1)
        up = jnp.full((16, 3), 0.5)
        out = swiglu(x, gate, up, implementation=implementation, interpret=True)
        np.testing.assert_allclose(out[0], [0, 0, 144 * 8], atol=1e-4)

    @parameterized.parameters("xla", "pallas")
    def test_shapes_that_do_not_belong_together(self, implementation):
        how = dict(implementation=implementation, interpret=True)
        x, weight = jnp.ones((2, 16)), jnp.ones((16, 8))
        with self.assertRaises(AssertionError):
            swiglu(x, weight, jnp.ones((16, 9)), **how)
        with self.assertRaises(AssertionError):
            swiglu(x, jnp.ones((15, 8)), jnp.ones((15, 8)), **how)
        with self.assertRaises(AssertionError):
            swiglu(x, weight.astype(jnp.bfloat16), weight, **how)


def _real(*arguments):
    """The call and its gradient."""
    out, pull = jax.vjp(lambda *a: swiglu(*a, implementation="pallas"), *arguments)
    return out, pull(out)


class RealShapesTest(parameterized.TestCase):
    @parameterized.product(case=CASES, chip=("h100", "rtx_pro_6000", "v5e"))
    def test_lowers(self, case, chip):
        assert lowering.kernels_in(lowering.lower(_real, *case.specs(), target=chip)) == 2

    @parameterized.product(case=CASES, chip=(*lowering.GPUS, *lowering.TPUS))
    @pytest.mark.slow
    def test_compiles(self, case, chip):
        if not lowering.can_compile(chip):
            self.skipTest(f"the compiler for {chip} is not installed")
        lowering.compile_ahead(_real, *case.specs(), target=chip)
