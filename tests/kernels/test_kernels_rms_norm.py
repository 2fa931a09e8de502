"""RMS norm: kernels against the operation in XLA, forwards and backwards, and for chips not there."""

import contextlib

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.kernels import lowering
from alpamayo_jax.kernels.dispatch import Unsupported
from alpamayo_jax.kernels.rms_norm import rms_norm
from alpamayo_jax.kernels.rms_norm.shapes import CASES
from alpamayo_jax.testing.tiny import quick_jit

EPS = 1e-6
TOLERANCE = {jnp.float32: 3e-6, jnp.bfloat16: 0.04, jnp.float16: 5e-3}


def _normal(shape, seed, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def _tables(lead, width):
    angle = np.random.default_rng(3).uniform(-3, 3, (*lead, width // 2)).astype(np.float32)
    angle = np.concatenate([angle, angle], -1)
    return jnp.cos(angle), jnp.sin(angle)


def _run(implementation, chip, x, scale, residual, rotary):
    """Outputs and the gradients of a weighted sum of them."""

    def loss(x, scale, residual):
        out = rms_norm(
            x, scale, residual, rotary, eps=EPS, implementation=implementation, interpret=True
        )
        leaves = jax.tree.leaves(out)
        wide = [leaf.astype(jnp.float32) for leaf in leaves]
        return sum(jnp.vdot(_normal(a.shape, 7 + i), a) for i, a in enumerate(wide)), out

    wrt = (0, 1) if residual is None else (0, 1, 2)
    with lowering.abstract_device(chip) if chip else contextlib.nullcontext():
        run = quick_jit(jax.value_and_grad(loss, argnums=wrt, has_aux=True))
        (_, out), grads = run(x, scale, residual)
    return jax.tree.leaves((out, grads))


class RmsNormTest(parameterized.TestCase):
    def _compare(self, chip, x, scale, residual=None, rotary=None):
        got = _run("pallas", chip, x, scale, residual, rotary)
        want = _run("xla", None, x, scale, residual, rotary)
        assert [a.dtype for a in got] == [a.dtype for a in want]
        rows = x.size // x.shape[-1]
        for a, b in zip(got, want):
            a, b = (np.asarray(value, np.float32) for value in (a, b))
            # The gradient of the scale sums over rows.
            spread = rows**0.5 if a.shape == scale.shape else 1
            atol = TOLERANCE[x.dtype.type] * max(1.0, spread)
            np.testing.assert_allclose(a, b, atol=atol, rtol=TOLERANCE[x.dtype.type])

    @parameterized.product(chip=(None, "v5e"), dtype=(jnp.float32, jnp.bfloat16))
    def test_equals_xla_with_a_residual(self, chip, dtype):
        x, residual = _normal((37, 48), 0, dtype), _normal((37, 48), 1, dtype)
        self._compare(chip, x, 1 + _normal((48,), 2) / 4, residual)

    @parameterized.product(
        chip=(None, "v5e"),
        dtype=(jnp.float32, jnp.bfloat16, jnp.float16),
        shape=((2, 5, 64), (37, 48), (700, 40)),
        add=(False, True),
    )
    @pytest.mark.slow
    def test_shapes_and_types(self, chip, dtype, shape, add):
        residual = _normal(shape, 1, dtype) if add else None
        self._compare(chip, _normal(shape, 0, dtype), 1 + _normal(shape[-1:], 2) / 4, residual)

    @parameterized.parameters(None, "v5e")
    def test_rotated_heads_equal_xla(self, chip):
        x = _normal((2, 19, 3, 24), 0)
        self._compare(chip, x, 1 + _normal((24,), 2) / 4, None, _tables((2, 19), 24))

    @parameterized.product(
        chip=(None, "v5e"), dtype=(jnp.bfloat16, jnp.float16), heads=(1, 3), width=(32, 24)
    )
    @pytest.mark.slow
    def test_rotated_heads_of_narrow_types(self, chip, dtype, heads, width):
        x = _normal((2, 19, heads, width), 0, dtype)
        self._compare(chip, x, 1 + _normal((width,), 2) / 4, None, _tables((2, 19), width))

    @parameterized.parameters(None, "v5e")
    def test_a_narrow_residual_of_a_wide_stream(self, chip):
        x, residual = _normal((9, 32), 0), _normal((9, 32), 1, jnp.bfloat16)
        with lowering.abstract_device(chip) if chip else contextlib.nullcontext():
            out, total = rms_norm(
                x, jnp.ones(32), residual, eps=EPS, implementation="pallas", interpret=True
            )
        assert out.dtype == total.dtype == jnp.float32
        np.testing.assert_array_equal(total, x + residual)

    @parameterized.parameters("xla", "pallas")
    def test_the_rms_is_one_and_rows_of_zeros_stay_zero(self, implementation):
        x = _normal((6, 40), 0).at[2].set(0)
        run = lambda x: rms_norm(  # noqa: E731
            x, jnp.ones(40), eps=EPS, implementation=implementation, interpret=True
        )
        out = np.array(run(x))
        np.testing.assert_array_equal(out[2], 0)
        np.testing.assert_allclose(np.mean(np.delete(out, 2, 0) ** 2, -1), 1, rtol=1e-5)
        grads = jax.grad(lambda x: run(x).sum())(x)
        assert np.isfinite(grads).all()

    @parameterized.parameters("xla", "pallas")
    def test_shapes_that_do_not_belong_together(self, implementation):
        x = _normal((6, 40), 0)
        how = dict(eps=EPS, implementation=implementation, interpret=True)
        with self.assertRaises(AssertionError):
            rms_norm(x, jnp.ones(39), **how)
        with self.assertRaises(AssertionError):
            rms_norm(x, jnp.ones(40), x[:1], **how)
        with self.assertRaises(AssertionError):
            rms_norm(x[None], jnp.ones(40), None, _tables((2,), 40), **how)

    def test_heads_that_a_tpu_cannot_cut_are_left_to_xla(self):
        x, tables = _normal((8, 2, 72), 0), _tables((8,), 72)

        def run(implementation):
            return lowering.lower(
                lambda x: rms_norm(
                    x, jnp.ones(72), None, tables, eps=EPS, implementation=implementation
                ),
                x,
                target="v5e",
            )

        with self.assertRaisesRegex(Unsupported, "128s"):
            run("pallas")
        assert lowering.kernels_in(run(("pallas", "xla"))) == 0


def _real(case):
    """The call and its gradient at the shapes of the real model."""

    def call(*arguments):
        out, pull = jax.vjp(
            lambda x, scale, residual: rms_norm(
                x, scale, residual, *arguments[3:], implementation="pallas", **case.options
            ),
            *arguments[:3],
        )
        return out, pull(out)

    return call


class RealShapesTest(parameterized.TestCase):
    @parameterized.product(case=CASES, chip=("h100", "rtx_pro_6000", "v5e"))
    def test_lowers(self, case, chip):
        lowered = lowering.lower(_real(case), *case.specs(), target=chip)
        assert lowering.kernels_in(lowered) == 2

    @parameterized.product(case=CASES, chip=(*lowering.GPUS, *lowering.TPUS))
    @pytest.mark.slow
    def test_compiles(self, case, chip):
        if not lowering.can_compile(chip):
            self.skipTest(f"the compiler for {chip} is not installed")
        lowering.compile_ahead(_real(case), *case.specs(), target=chip)
