"""Parameters by name, stacked and layer by layer."""

import jax
import numpy as np
import pytest

from alpamayo_jax.export.stages import STAGES
from alpamayo_jax.export.weights import READS, Layers, named, nested, read_by
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.testing.tiny import random_params, tiny_config

CONFIG = tiny_config()


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(np.asarray, random_params(CONFIG))


def test_stacked_names_are_paths_and_come_back(params):
    weights = named(params, by_layer=False)
    kernel = weights["vlm.language_model.layers.self_attn.q_proj.kernel"]
    assert kernel.shape[0] == CONFIG.language.num_layers
    back = nested(weights)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    assert all(map(np.array_equal, jax.tree.leaves(back), jax.tree.leaves(params)))


def test_layers_have_names_of_their_own(params):
    weights = named(params, by_layer=True)
    for layer in range(CONFIG.language.num_layers):
        name = f"vlm.language_model.layers.{layer}.self_attn.q_proj.kernel"
        whole = params["vlm"]["language_model"]["layers"]["self_attn"]["q_proj"]["kernel"]
        assert np.array_equal(weights[name], whole[layer])
    assert "vlm.language_model.layers.self_attn.q_proj.kernel" not in weights
    assert "vlm.visual.blocks.0.attn.qkv.bias" in weights
    count = sum(np.size(leaf) for leaf in weights.values())
    assert count == sum(np.size(leaf) for leaf in jax.tree.leaves(params))


def test_numbered_layers_stand_in_for_stacked_arrays(params):
    whole = params["expert"]["layers"]["mlp"]["up_proj"]["kernel"]
    layers = nested(named(params, by_layer=True))["expert"]["layers"]["mlp"]["up_proj"]["kernel"]
    assert isinstance(layers, Layers)
    assert (layers.shape, layers.ndim, layers.dtype) == (whole.shape, whole.ndim, whole.dtype)
    assert np.array_equal(layers[1], whole[1])
    assert layers[1:].shape == whole[1:].shape and np.array_equal(layers[1:][0], whole[1])


def test_order_of_more_than_ten_layers():
    stacked = {"layers": {"scale": np.arange(24.0).reshape(12, 2)}}
    layers = nested(named(stacked, by_layer=True))["layers"]["scale"]
    assert [float(layers[i][0]) for i in range(12)] == list(np.arange(0.0, 24.0, 2.0))


def test_shapes_are_enough():
    weights = named(param_shapes(CONFIG), by_layer=True)
    shape = weights["expert.layers.0.mlp.down_proj.kernel"].shape
    assert shape == (CONFIG.expert.intermediate_size, CONFIG.expert.hidden_size)


def test_every_weight_has_a_stage_and_no_stage_more_than_it_reads(params):
    weights = named(params, by_layer=False)
    assert set(READS) == set(STAGES)
    parts = [read_by(name, weights) for name in ("vision", "prefill", "flow_step")]
    assert set().union(*parts) == set(weights) == set(read_by("policy", weights))
    assert sum(map(len, parts)) == len(weights)
    assert not read_by("trajectory", weights)


def test_pretraining_parameters_stay_at_home():
    weights = {"vlm.scene.decoder.mlp.kernel": 0, "vlm.scene.feature_proj.kernel": 0}
    assert list(read_by("vision", weights)) == ["vlm.scene.feature_proj.kernel"]
