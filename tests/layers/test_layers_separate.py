"""Layers in arrays of their own: the same parameters, the same results, no loop over layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.decode.generate import generate
from alpamayo_jax.decode.prefix import prefill
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.layers.stack import Layers, one_layer, run_stack, separate, stacked
from alpamayo_jax.ops.number_formats import dequantise, quantise
from alpamayo_jax.testing.tiny import quick_jit, random_inputs, random_params, tiny_config


def _layer(params, x, extra):
    return jnp.tanh(x @ params["w"] + extra), x.sum()


def _stack():
    w = jax.random.normal(jax.random.key(0), (3, 4, 4))
    return {"layers": {"w": w}}, jnp.ones((2, 4)), jnp.arange(3.0)


def test_there_and_back():
    params = random_params(tiny_config())
    apart = separate(params)
    assert isinstance(apart["expert"]["layers"]["mlp"]["up_proj"]["kernel"], Layers)
    assert isinstance(apart["vlm"]["visual"]["blocks"]["norm1"]["scale"], Layers)
    assert apart["vlm"]["lm_head"]["kernel"] is params["vlm"]["lm_head"]["kernel"]
    jax.tree.map(np.testing.assert_array_equal, stacked(apart), params)
    again = separate(apart)
    assert jax.tree.structure(again) == jax.tree.structure(apart)


def test_layers_look_like_a_stack():
    layers = Layers([jnp.zeros((2, 5)), jnp.ones((2, 5))])
    assert layers.shape == (2, 2, 5) and layers.ndim == 3 and layers.dtype == jnp.float32
    assert layers[1:].shape == (1, 2, 5)
    np.testing.assert_array_equal(layers[1], jnp.ones((2, 5)))
    np.testing.assert_array_equal(one_layer({"a": layers}, 1)["a"], jnp.ones((2, 5)))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, layers)
    assert isinstance(doubled, Layers) and float(doubled[1].sum()) == 20


@pytest.mark.parametrize("part", [None, (1, 3)])
def test_a_stack_of_separate_layers_computes_the_same(part):
    params, x, extra = _stack()
    extra = extra if part is None else extra[slice(*part)]
    run = lambda p: run_stack(_layer, p["layers"], x, extra, layers=part)  # noqa: E731
    program = jax.jit(run)
    carry, ys = program(params)
    carry_apart, ys_apart = program(separate(params))
    np.testing.assert_allclose(carry_apart, carry, rtol=1e-6)
    np.testing.assert_allclose(ys_apart, ys, rtol=1e-6)
    text = program.lower(separate(params)).as_text()
    assert "while" not in text and "while" in program.lower(params).as_text()


def test_a_policy_of_separate_layers_says_the_same():
    config = tiny_config()
    params, inputs = random_params(config), random_inputs(config)
    settings = SampleSettings(num_samples=2, max_new_tokens=3)

    def say(params, inputs, rng):
        return generate(params, prefill(params, inputs, config), config, settings, rng)

    program = quick_jit(say)
    ours, theirs = (program(p, inputs, jax.random.key(1)) for p in (separate(params), params))
    np.testing.assert_array_equal(ours.token_ids, theirs.token_ids)
    np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-4)
    np.testing.assert_allclose(ours.cache.k, theirs.cache.k, atol=1e-4)


@pytest.mark.parametrize("format", ["int8", "nvfp4"])
def test_quantised_matrices_come_apart_too(format):
    kernel = quantise(jax.random.normal(jax.random.key(0), (2, 16, 4)), format, axis=-2)
    params = {"layers": {"up": {"kernel": kernel}}}
    apart = separate(params)["layers"]["up"]["kernel"]
    assert isinstance(apart, Layers) and apart.shape == kernel.shape
    for index in range(2):
        assert apart[index].format == format
        np.testing.assert_array_equal(
            dequantise(apart[index], jnp.float32), dequantise(kernel, jnp.float32)[index]
        )
    again = stacked({"layers": {"up": {"kernel": apart}}})
    assert jax.tree.structure(again) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, again, params)
