from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ActionProjConfig
from alpamayo_jax.models.action_proj import ActionEncoder, ActionInProj, fourier_features

_CONFIG = ActionProjConfig(hidden_size=8, num_enc_layers=3)
# The release's frequencies, as they are and as they become when the model is cast to bfloat16.
_FREQS = [1, 1.668101, 2.782559, 4.641589, 7.742637, 12.91550, 21.54435, 35.93814, 59.94843, 100]
_ROUNDED = [1, 1.671875, 2.78125, 4.65625, 7.75, 12.9375, 21.5, 36, 60, 100]


def _case(batch=(2,)):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((*batch, 5, 2)).astype(np.float32)
    return x, rng.uniform(0, 1, batch).astype(np.float32)


def _module(**options):
    module = ActionInProj(_CONFIG, features=7, **options)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *_case())["params"]
    rng = np.random.default_rng(1)
    draw = lambda s: jnp.asarray(0.5 * rng.standard_normal(s.shape), s.dtype)  # noqa: E731
    return module, jax.tree.map(draw, shapes)


class FourierTest(parameterized.TestCase):
    @parameterized.parameters(((),), ((2, 1),))
    def test_features(self, batch):
        u = np.random.default_rng(0).uniform(-2, 2, (*batch, 4)).astype(np.float32)
        freqs = np.array([1.0, 3.0], np.float32)
        angle = 2 * np.pi * u[..., None] * freqs
        want = np.sqrt(2) * np.concatenate([np.sin(angle), np.cos(angle)], -1)
        got = fourier_features(u, freqs)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, want, atol=1e-5)


class ActionInProjTest(parameterized.TestCase):
    @parameterized.parameters((False, _FREQS), (True, _ROUNDED))
    def test_equals_the_formula(self, bf16_buffers, freqs):
        module, p = _module(bf16_buffers=bf16_buffers)
        x, t = _case()
        freqs = np.float32(freqs)
        time = np.broadcast_to(t[:, None], x.shape[:2])
        h = np.concatenate([fourier_features(u, freqs) for u in (x[..., 0], x[..., 1], time)], -1)
        for i in range(3):
            layer = p["encoder"][f"trunk_{3 * i}"]
            h = h @ layer["kernel"] + layer["bias"]
            h = h / (1 + np.exp(-h))
            scale = p["encoder"][f"trunk_{3 * i + 2}"]["scale"]
            h = h / np.sqrt((h**2).mean(-1, keepdims=True) + 1e-5) * scale
        h = h @ p["encoder"]["trunk_9"]["kernel"] + p["encoder"]["trunk_9"]["bias"]
        h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)
        want = h * p["norm"]["scale"] + p["norm"]["bias"]
        # The last digit of a frequency of 100 turns the angle by 1e-4.
        np.testing.assert_allclose(jax.jit(module.apply)({"params": p}, x, t), want, atol=1e-3)

    def test_parameter_names_count_the_trunk(self):
        _, p = _module()
        names = {f"trunk_{i}" for i in (0, 2, 3, 5, 6, 8, 9)}
        assert set(p) == {"encoder", "norm"} and set(p["encoder"]) == names
        assert p["encoder"]["trunk_0"]["kernel"].shape == (60, 8)

    def test_waypoints_are_embedded_alike_and_alone(self):
        module, p = _module()
        x, t = _case((2, 3))
        apply = jax.jit(module.apply)
        got = apply({"params": p}, x, t)
        assert got.shape == (2, 3, 5, 7)
        turned = apply({"params": p}, x[..., ::-1, :], t)
        np.testing.assert_allclose(turned[..., ::-1, :], got, atol=1e-6)

    def test_narrow_network_wide_output(self):
        module, p = _module(dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
        out = jax.eval_shape(module.apply, {"params": p}, *_case())
        assert out.dtype == jnp.float32
        encoder = ActionEncoder(_CONFIG, 7, dtype=jnp.bfloat16)
        features = jnp.zeros((1, 60))
        inner = jax.eval_shape(encoder.apply, {"params": p["encoder"]}, features)
        assert inner.dtype == jnp.bfloat16
