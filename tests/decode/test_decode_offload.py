"""Layers that wait in host memory: where they are, and that they compute the same."""

import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.convert.table import flatten
from alpamayo_jax.decode import offload
from alpamayo_jax.decode.prefix import prefill
from alpamayo_jax.decode.sample import sample_program
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.layers.stack import run_stack
from alpamayo_jax.quantise import make_recipe, quantise_params
from alpamayo_jax.testing.tiny import GRIDS, quick_jit, random_inputs, random_params, tiny_config

_CONFIG = tiny_config()
_SETTINGS = SampleSettings(num_samples=2, max_new_tokens=4)

pytestmark = pytest.mark.skipif(
    offload.HOST not in [memory.kind for memory in jax.devices()[0].addressable_memories()],
    reason="this device has no pinned host memory",
)


@functools.cache
def _params():
    return random_params(_CONFIG)


def test_the_matrices_of_the_towers_wait():
    params = offload.offloaded(_params())
    waiting = {
        "/".join(path): leaf for path, leaf in flatten(params).items()
        if leaf.sharding.memory_kind == offload.HOST
    }  # fmt: skip
    assert "vlm/language_model/layers/mlp/up_proj/kernel" in waiting
    assert "vlm/visual/blocks/attn/qkv/kernel" in waiting
    assert "expert/layers/self_attn/q_proj/kernel" in waiting
    assert all(any(name.startswith(tower) for tower in offload.TOWERS) for name in waiting)
    assert all(leaf.ndim > 2 for leaf in waiting.values())
    assert "vlm/language_model/layers/input_layernorm/scale" not in waiting
    found = offload.device_bytes(params)
    assert found["host"] == sum(leaf.nbytes for leaf in waiting.values())
    assert found["host"] + found["device"] == sum(x.nbytes for x in jax.tree.leaves(_params()))
    own = [leaf.nbytes // len(leaf) for name, leaf in waiting.items() if "language" in name]
    assert found["layer"] == sum(own)  # the language model's are the largest
    assert offload.device_bytes(_params())["host"] == 0


def test_a_policy_samples_the_same():
    program = quick_jit(sample_program, static_argnums=(3, 4))
    inputs = random_inputs(_CONFIG, GRIDS[:1])
    want, got = (
        program(params, inputs, jax.random.key(0), _CONFIG, _SETTINGS)
        for params in (_params(), offload.offloaded(_params()))
    )
    np.testing.assert_array_equal(got.generation.token_ids, want.generation.token_ids)
    np.testing.assert_allclose(got.generation.logprobs, want.generation.logprobs, atol=1e-5)
    np.testing.assert_allclose(got.actions, want.actions, atol=1e-4)


def test_a_quantised_policy_too():
    params = quantise_params(_params(), make_recipe("int8_weights"))
    program, inputs = quick_jit(prefill, static_argnums=2), random_inputs(_CONFIG, GRIDS[:1])
    want, got = (program(p, inputs, _CONFIG) for p in (params, offload.offloaded(params)))
    np.testing.assert_allclose(got.last_hidden, want.last_hidden, atol=1e-5)


class StackTest(parameterized.TestCase):
    @parameterized.parameters((None,), ((1, 3),), ((3, 4),))
    def test_layers_from_the_host(self, layers):
        rng = np.random.default_rng(0)
        params = {"w": rng.normal(size=(4, 6, 6)), "b": rng.normal(size=(4, 6))}
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
        place = offload.SingleDeviceSharding(jax.devices()[0], memory_kind=offload.HOST)
        hosted = params | {"w": jax.device_put(params["w"], place)}
        start, stop = layers or (0, 4)
        xs = jnp.arange(float(stop - start))

        def layer(own, x, extra):
            x = jnp.tanh(x @ own["w"] + own["b"] + extra)
            return x, x.sum()

        @quick_jit
        def run(params):
            return run_stack(layer, params, jnp.ones((2, 6)), xs, layers=layers)

        want, got = run(params), run(hosted)
        np.testing.assert_allclose(got[0], want[0], atol=1e-6)
        np.testing.assert_allclose(got[1], want[1], atol=1e-5)
        assert want[1].shape == (stop - start,)
        by_hand = jnp.ones((2, 6))
        for index in range(start, stop):
            by_hand, _ = layer({k: v[index] for k, v in params.items()}, by_hand, xs[index - start])
        np.testing.assert_allclose(want[0], by_hand, atol=1e-5)


def test_a_device_without_host_memory_is_refused():
    class Device:
        def addressable_memories(self):
            return []

    with pytest.raises(ConfigError, match="none is pinned_host"):
        offload.offloaded(_params(), Device())
