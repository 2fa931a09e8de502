"""The network with kernels in place of XLA: the same results, and a say in which of both runs."""

import dataclasses
import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError, KernelConfig, ModelConfig
from alpamayo_jax.kernels.attention import causal_range
from alpamayo_jax.kernels.rotary import mrope_table
from alpamayo_jax.layers.block import TextBlock
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.testing.tiny import GRIDS, quick_jit, random_inputs, random_params, tiny_config

_CONFIG = tiny_config()
_PALLAS = tiny_config(kernels=KernelConfig("pallas", interpret=True))
SAMPLES, TOKENS = 2, 1


@functools.cache
def _arguments():
    rng = np.random.default_rng(0)
    inputs = random_inputs(_CONFIG, GRIDS[::-1])  # rows of different lengths and images
    ids = rng.integers(0, _CONFIG.language.vocab_size, (2, SAMPLES, TOKENS)).astype(np.int32)
    x = rng.standard_normal((2, SAMPLES, _CONFIG.action.n_waypoints, 2)).astype(np.float32)
    return random_params(_CONFIG), inputs, ids, x, jnp.full((2, SAMPLES), 0.3)


def _everything(config):
    """Prefill, a further token of each sample, and the velocity after it."""
    model = Alpamayo(config)

    def run(params, inputs, ids, x, t):
        params = {"params": params}
        hidden, cache = model.apply(params, inputs, inputs.input_ids, method="prefill")
        batch, length = inputs.input_ids.shape

        def positions(start, count):
            offset = (start + inputs.rope_delta)[:, None, None] + jnp.arange(count)
            return jnp.broadcast_to(offset, (3, batch, SAMPLES, count))

        context = [(cache, inputs.attention_mask[:, None, None, :])]
        own = jnp.ones((1, 1, TOKENS, TOKENS), bool)
        # An empty slot, as the loop's cache has them.
        slots = jax.tree.map(
            lambda a: jnp.zeros((a.shape[0], batch, SAMPLES, a.shape[2], 3, a.shape[-1])), cache
        )
        empty = (slots, jnp.zeros((1, 1, 1, 3), bool))
        extended, more = model.apply(
            params, ids, positions(length, TOKENS), own, [*context, empty], method="extend"
        )
        context.append((more, jnp.ones((1, 1, 1, TOKENS), bool)))
        waypoints = positions(length + TOKENS, x.shape[-2])
        velocity = model.apply(params, x, t, waypoints, context, method="velocity")
        return hidden, cache, extended, velocity

    return run


class KernelsTest(parameterized.TestCase):
    def test_the_network_computes_the_same(self):
        want = quick_jit(_everything(_CONFIG))(*_arguments())
        got = quick_jit(_everything(_PALLAS))(*_arguments())
        for ours, theirs in zip(*map(jax.tree.leaves, (got, want))):
            np.testing.assert_allclose(ours, theirs, atol=2e-5)

    def test_kernels_run_only_where_they_are_asked_for(self):
        text = str(jax.make_jaxpr(_everything(_PALLAS))(*_arguments()))
        for name in ("prefill_attention", "decode_attention_prefix", "rms_norm", "swiglu"):
            assert f"name={name}\n" in text or f"name={name} " in text, name
        for how in ("auto", "xla"):
            config = tiny_config(kernels=KernelConfig(how))
            assert "pallas_call" not in str(jax.make_jaxpr(_everything(config))(*_arguments()))

    @pytest.mark.slow
    def test_gradients_of_a_block_are_the_same(self):
        c = _CONFIG.language
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.standard_normal((2, 5, c.hidden_size)), jnp.float32)
        rope = mrope_table(jnp.arange(30).reshape(3, 2, 5), c.head_dim, c.mrope_section, 1e4)
        keys = causal_range(jnp.asarray([[False] + [True] * 4, [True] * 5]))
        layers = _arguments()[0]["vlm"]["language_model"]["layers"]
        params = jax.tree.map(lambda a: a[0], layers)

        def gradient(config):
            def loss(params, x):
                block = TextBlock(c, kernels=config.kernels)
                return jnp.sum(jnp.sin(3 * block.apply({"params": params}, x, rope, keys)[0]))

            return quick_jit(jax.grad(loss, argnums=(0, 1)))(params, x)

        got, want = gradient(_PALLAS), gradient(_CONFIG)
        paths = jax.tree_util.tree_leaves_with_path(want)
        for (path, theirs), ours in zip(paths, jax.tree.leaves(got)):
            atol = 2e-5 * max(1.0, float(jnp.abs(theirs).max()))
            np.testing.assert_allclose(ours, theirs, atol=atol, err_msg=jax.tree_util.keystr(path))

    @pytest.mark.slow
    def test_an_adapter_keeps_its_own_path(self):
        params, inputs = _arguments()[:2]
        layers = params["vlm"]["language_model"]["layers"]
        gate = layers["mlp"]["gate_proj"]["kernel"]
        rng = np.random.default_rng(1)
        adapter = {
            "kernel": gate,
            "lora_a": jnp.asarray(rng.standard_normal((*gate.shape[:2], 2)), jnp.float32),
            "lora_b": jnp.asarray(rng.standard_normal((len(gate), 2, gate.shape[2])), jnp.float32),
            "lora_scale": jnp.full(gate.shape[0], 0.5),
        }  # fmt: skip
        changed = jax.tree.map(lambda a: a, params)
        changed["vlm"]["language_model"]["layers"]["mlp"]["gate_proj"] = adapter

        def prefill(config, params):
            @quick_jit
            def run(params):
                return Alpamayo(config).apply(
                    {"params": params}, inputs, inputs.input_ids, method="prefill"
                )[0]

            return run(params)

        got, want = prefill(_PALLAS, changed), prefill(_CONFIG, changed)
        np.testing.assert_allclose(got, want, atol=2e-5)
        assert np.abs(np.asarray(want - prefill(_CONFIG, params))).max() > 1e-3


class KernelConfigTest(parameterized.TestCase):
    def test_order(self):
        assert KernelConfig().order == ("auto", "xla")
        assert KernelConfig("pallas").order == ("pallas", "xla")
        assert KernelConfig("xla").order == ("xla",)
        assert [KernelConfig(name).wanted for name in ("auto", "xla", "pallas", "triton")] == [
            False, False, True, True,
        ]  # fmt: skip

    def test_an_unknown_name(self):
        with pytest.raises(ConfigError, match="'cudnn' is unknown; known: auto, xla, pallas"):
            KernelConfig("cudnn")
        with pytest.raises(ConfigError, match="kernels.implementation"):
            ModelConfig.from_dict({"kernels": {"implementation": "Pallas"}})

    def test_it_is_part_of_the_configuration(self):
        assert ModelConfig.from_dict(_PALLAS.to_dict()) == _PALLAS
        assert hash(_PALLAS) != hash(_CONFIG)
        assert dataclasses.replace(_PALLAS, kernels=KernelConfig()) == _CONFIG

    def test_not_over_several_devices(self):
        params, inputs = _arguments()[:2]
        with pytest.raises(ConfigError, match="runs on one device"):
            Alpamayo(_PALLAS, layout=object()).apply(
                {"params": params}, inputs, inputs.input_ids, method="prefill"
            )
