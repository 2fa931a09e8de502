import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import COMPRESSORS, ConfigError, VisionConfig
from alpamayo_jax.models import scene
from alpamayo_jax.testing.tiny import tiny_config


def _tokens(*lead):
    return np.random.default_rng(0).standard_normal((*lead, 2, 3, 5, 4)).astype(np.float32)


def _cameras():
    zeros = jnp.zeros((2, 3), jnp.int32)
    return scene.Cameras(index=zeros, time=zeros.astype(float), grid=zeros[..., None].repeat(2, -1))


def test_every_image_token_is_a_scene_token_in_order():
    module = scene.make_compressor(tiny_config())
    tokens, deepstack = _tokens(), _tokens(2)
    assert not jax.tree.leaves(module.init(jax.random.key(0), tokens, deepstack, _cameras()))
    got = module.apply({}, tokens, deepstack, _cameras())
    for b in range(2):
        np.testing.assert_array_equal(got.tokens[b], np.concatenate(tokens[b]))
        for j in range(2):
            np.testing.assert_array_equal(got.deepstack[j, b], np.concatenate(deepstack[j, b]))


def test_no_deepstack():
    module = scene.make_compressor(tiny_config())
    got = module.apply({}, _tokens(), np.zeros((0, 2, 3, 5, 4), np.float32), _cameras())
    assert got.deepstack.shape == (0, 2, 15, 4)


def test_every_compressor_can_be_chosen_and_unknown_ones_are_refused():
    assert tuple(scene.COMPRESSORS) == COMPRESSORS
    for name in scene.COMPRESSORS:
        assert VisionConfig(compressor=name).compressor == name
    with pytest.raises(ConfigError, match="'flextoken'"):
        VisionConfig(compressor="flextoken")
