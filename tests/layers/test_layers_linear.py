from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.layers.linear import INIT_STD, Linear, matmul


def _case(batch=()):
    rng = np.random.default_rng(0)
    return (rng.standard_normal(s).astype(np.float32) for s in ((*batch, 3, 5), (5, 4), (4,)))


class LinearTest(parameterized.TestCase):
    @parameterized.product(batch=((), (2, 1)), use_bias=(False, True))
    def test_value(self, batch, use_bias):
        x, kernel, bias = _case(batch)
        params = {"kernel": kernel} | ({"bias": bias} if use_bias else {})
        got = Linear(4, use_bias=use_bias).apply({"params": params}, x)
        np.testing.assert_allclose(got, x @ kernel + use_bias * bias, atol=1e-5)

    @parameterized.parameters(False, True)
    def test_parameters(self, use_bias):
        x, *_ = _case()
        params = Linear(4, use_bias=use_bias).init(jax.random.key(0), x)["params"]
        assert set(params) == {"kernel", *(["bias"] if use_bias else [])}
        assert params["kernel"].shape == (5, 4)
        wide = Linear(64).init(jax.random.key(0), np.zeros((1, 400)))["params"]["kernel"]
        np.testing.assert_allclose(wide.std(), INIT_STD, rtol=0.05)
        if use_bias:
            np.testing.assert_array_equal(params["bias"], 0)

    @parameterized.parameters(False, True)
    def test_columns_alone(self, adapted):
        x, kernel, bias = _case()
        params = {"kernel": kernel, "bias": bias}
        if adapted:
            rng = np.random.default_rng(1)
            low = {n: rng.standard_normal(s) for n, s in (("a", (5, 2)), ("b", (2, 4)))}
            params |= {"lora_a": low["a"], "lora_b": low["b"], "lora_scale": np.float32(0.5)}
        layer = Linear(4, use_bias=True)
        whole = layer.apply({"params": params}, x)
        part = layer.apply({"params": params}, x, slice(1, 3))
        np.testing.assert_allclose(part, whole[..., 1:3], rtol=1e-5, atol=1e-6)
        assert np.abs(whole - (x @ kernel + bias)).max() > 0.1 or not adapted

    def test_computes_in_its_type_whatever_the_parameters_are(self):
        x, kernel, bias = _case()
        params = {"kernel": kernel, "bias": bias}
        got = Linear(4, use_bias=True, dtype=jnp.bfloat16).apply({"params": params}, x)
        assert got.dtype == jnp.bfloat16
        np.testing.assert_allclose(got.astype(jnp.float32), x @ kernel + bias, atol=0.1)
        narrow = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), params)
        assert Linear(4, use_bias=True).apply({"params": narrow}, x).dtype == jnp.float32

    def test_float32_is_never_lowered(self):
        x, kernel, _ = _case()
        jaxpr = str(jax.make_jaxpr(lambda: matmul(x, kernel, jnp.float32))())
        assert "HIGHEST" in jaxpr
        jaxpr = str(jax.make_jaxpr(lambda: matmul(x, kernel, jnp.bfloat16))())
        assert "HIGHEST" not in jaxpr
