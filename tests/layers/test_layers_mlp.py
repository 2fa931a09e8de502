import math

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.layers.mlp import GeluMLP, SwiGLU

_erf = np.vectorize(math.erf)


def _params(module, x):
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)


def _x(batch=()):
    return np.random.default_rng(0).standard_normal((*batch, 3, 4)).astype(np.float32)


class MLPTest(parameterized.TestCase):
    @parameterized.parameters(((),), ((2, 1),))
    def test_swiglu(self, batch):
        x, module = _x(batch), SwiGLU(hidden_size=4, intermediate_size=6)
        p = _params(module, x)
        gate, up = x @ p["gate_proj"]["kernel"], x @ p["up_proj"]["kernel"]
        want = (gate / (1 + np.exp(-gate)) * up) @ p["down_proj"]["kernel"]
        np.testing.assert_allclose(module.apply({"params": p}, x), want, rtol=1e-4, atol=1e-4)
        assert all(set(part) == {"kernel"} for part in p.values())

    @parameterized.parameters(True, False)
    def test_gelu(self, approximate):
        x, module = _x(), GeluMLP(4, 6, approximate=approximate)
        p = _params(module, x)
        h = x @ p["linear_fc1"]["kernel"] + p["linear_fc1"]["bias"]
        tanh = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        exact = 0.5 * h * (1 + _erf(h / np.sqrt(2)))
        ends = [g @ p["linear_fc2"]["kernel"] + p["linear_fc2"]["bias"] for g in (tanh, exact)]
        want, other = ends if approximate else ends[::-1]
        got = module.apply({"params": p}, x)
        np.testing.assert_allclose(got, want, atol=2e-5)
        assert np.abs(got - other).max() > 1e-4

    @parameterized.parameters(SwiGLU, GeluMLP)
    def test_computes_in_its_type(self, cls):
        module = cls(4, 6, dtype=jnp.bfloat16)
        x = _x()
        got = module.apply({"params": _params(module, x)}, x)
        assert got.dtype == jnp.bfloat16
