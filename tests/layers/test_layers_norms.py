from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.layers.norms import LayerNorm, RMSNorm


def _x(batch=(), dim=6):
    return (5 + 3 * np.random.default_rng(0).standard_normal((*batch, 4, dim))).astype(np.float32)


def _scale(dim=6):
    return np.linspace(0.5, 2, dim, dtype=np.float32)


class RMSNormTest(parameterized.TestCase):
    @parameterized.product(batch=((), (2, 1)), eps=(1e-6, 0.5))
    def test_value(self, batch, eps):
        x = _x(batch)
        got = RMSNorm(eps).apply({"params": {"scale": _scale()}}, x)
        want = x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * _scale()
        np.testing.assert_allclose(got, want, rtol=1e-5)

    def test_rounds_before_it_scales(self):
        x, scale = _x().astype(jnp.bfloat16), _scale().astype(jnp.bfloat16)
        got = RMSNorm().apply({"params": {"scale": scale}}, jnp.asarray(x))
        wide = np.float32(x)
        normed = (wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6)).astype(jnp.bfloat16)
        assert got.dtype == jnp.bfloat16
        np.testing.assert_array_equal(np.float32(got), np.float32(normed * scale))

    def test_wide_input_stays_wide_with_narrow_parameters(self):
        module = RMSNorm(param_dtype=jnp.bfloat16)
        params = module.init(jax.random.key(0), _x())
        assert params["params"]["scale"].dtype == jnp.bfloat16
        assert module.apply(params, _x()).dtype == jnp.float32


class LayerNormTest(parameterized.TestCase):
    @parameterized.product(batch=((), (2, 1)), eps=(1e-6, 0.5))
    def test_value(self, batch, eps):
        x, bias = _x(batch), np.arange(6, dtype=np.float32)
        got = LayerNorm(eps).apply({"params": {"scale": _scale(), "bias": bias}}, x)
        normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
        np.testing.assert_allclose(got, normed * _scale() + bias, rtol=1e-4, atol=1e-5)

    def test_a_far_mean_costs_no_digits(self):
        x = _x() + 1e4
        centred = np.float64(x) - np.float64(x).mean(-1, keepdims=True)
        want = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        params = {"scale": jnp.ones(6), "bias": jnp.zeros(6)}
        np.testing.assert_allclose(LayerNorm().apply({"params": params}, x), want, atol=2e-3)

    def test_narrow_in_narrow_out(self):
        x = jnp.asarray(_x(), jnp.bfloat16)
        module = LayerNorm()
        assert module.apply(module.init(jax.random.key(0), x), x).dtype == jnp.bfloat16
