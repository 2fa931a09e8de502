from absl.testing import parameterized
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.layers import stack

L, D = 5, 6


class _Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.normal(0.5), (D, D))
        return jnp.tanh(x @ kernel) + x


class _Owner(nn.Module):
    @nn.compact
    def __call__(self, x):
        block = _Block(parent=None)
        params = stack.stacked_params(self, "layers", block, L, x)
        return stack.run_stack(lambda p, x, _: (block.apply({"params": p}, x), None), params, x)[0]


def _case():
    rng = np.random.default_rng(0)
    params = {"kernel": 0.5 * rng.standard_normal((L, D, D)).astype(np.float32)}
    return params, rng.standard_normal((3, D)).astype(np.float32), np.arange(L, dtype=np.float32)


def _layer(params, x, add):
    y = jnp.tanh(x @ params["kernel"]) + add
    return x + y, y


def _run(**options):
    return jax.jit(lambda p, x, xs: stack.run_stack(_layer, p, x, xs, **options))


class StackTest(parameterized.TestCase):
    @parameterized.product(unroll=(False, True), remat=tuple(stack.REMAT_POLICIES))
    def test_applies_every_layer_in_order(self, unroll, remat):
        params, x, xs = _case()
        got, ys = _run(unroll=unroll, remat=remat)(params, x, xs)
        for index in range(L):
            y = np.tanh(x @ params["kernel"][index]) + xs[index]
            np.testing.assert_allclose(ys[index], y, atol=1e-4)
            x = x + y
        np.testing.assert_allclose(got, x, atol=1e-4)

    def test_scan_and_unrolled_twin_are_equal_bit_for_bit(self):
        results = [_run(unroll=unroll)(*_case()) for unroll in (False, True)]
        for scanned, unrolled in zip(*map(jax.tree.leaves, results)):
            np.testing.assert_array_equal(scanned, unrolled)

    @parameterized.parameters("full", "dots")
    def test_remat_changes_neither_values_nor_gradients(self, remat):
        def run(remat, unroll):
            def loss(p, x, xs):
                end, ys = stack.run_stack(_layer, p, x, xs, remat=remat, unroll=unroll)
                return jnp.sum(end**2) + jnp.sum(ys)

            return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(*_case())

        plain = run("none", False)
        for unroll in (False, True):
            for got, want in zip(*map(jax.tree.leaves, (run(remat, unroll), plain))):
                np.testing.assert_allclose(got, want, rtol=1e-5)

    @parameterized.parameters(("none", 3), ("full", 4), ("dots", 3))
    def test_remat_computes_again_what_it_did_not_keep(self, remat, products):
        # Of a layer: one forward (again when forgotten), and one for each operand backward.
        def loss(p, x, xs):
            return jnp.sum(stack.run_stack(_layer, p, x, xs, remat=remat)[0])

        jaxpr = str(jax.make_jaxpr(jax.grad(loss))(*_case()))
        assert jaxpr.count("dot_general") == products

    def test_unrolled_has_no_loop(self):
        def loops(unroll):
            jaxpr = jax.make_jaxpr(lambda *a: stack.run_stack(_layer, *a, unroll=unroll))(*_case())
            return {e.primitive.name for e in jaxpr.eqns} & {"scan", "while"}

        assert loops(False) == {"scan"} and not loops(True)

    @parameterized.parameters(False, True)
    def test_unknown_remat_is_refused(self, unroll):
        with pytest.raises(ConfigError, match="'some'.*none, full, dots"):
            stack.run_stack(_layer, *_case(), remat="some", unroll=unroll)


class StackedParamsTest(parameterized.TestCase):
    def test_layers_are_independent_copies(self):
        x = jnp.ones((2, D))
        params = _Owner().init(jax.random.key(0), x)["params"]
        kernels = np.asarray(params["layers"]["kernel"])
        assert kernels.shape == (L, D, D)
        assert len({k.tobytes() for k in kernels}) == L
        np.testing.assert_allclose(kernels.std((1, 2)), 0.5, rtol=0.5)
        want = x
        for kernel in kernels:
            want = jnp.tanh(want @ kernel) + want
        np.testing.assert_allclose(_Owner().apply({"params": params}, x), want, rtol=1e-5)
