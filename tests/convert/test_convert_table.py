"""The parameter table: names, shapes, layouts, axes."""

import dataclasses
import json
import math

import numpy as np
import pytest

from alpamayo_jax import sharding
from alpamayo_jax.convert import hf_shapes, logical_axes, param_shapes, parameter_count
from alpamayo_jax.convert.table import flatten, nest, parameters
from alpamayo_jax.models import init
from alpamayo_jax.presets import PRESETS, preset


def test_released_names_and_shapes(reference_dir):
    recorded = json.loads((reference_dir / "alpamayo_r1_10b_params.json").read_text())["params"]
    wanted = {n: tuple(t["shape"]) for n, t in recorded.items() if t["kind"] == "param"}
    assert hf_shapes(preset("r1_10b")) == wanted


def test_released_counts():
    config = preset("r1_10b")
    assert len(hf_shapes(config)) == 1159
    assert parameter_count(config) == 11_078_526_194
    sizes = {name: math.prod(shape) for name, shape in hf_shapes(config).items()}

    def total(prefix):
        return sum(size for name, size in sizes.items() if name.startswith(prefix))

    assert total("vlm.") == 8_797_933_808
    assert total("vlm.model.visual.") == 576_388_336
    assert total("vlm.model.visual.blocks.3.") == 15_239_504
    assert total("vlm.model.language_model.layers.7.") == 192_946_432
    assert total("expert.") == 2_279_238_656
    assert total("expert.layers.0.") == 63_312_128
    assert total("action_in_proj.") == 1_349_632
    assert total("action_out_proj.") == 4_098


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_model_declares_the_same_tree(name):
    config = preset(name)
    ours, model = flatten(param_shapes(config)), flatten(init.param_shapes(config))
    assert ours.keys() == model.keys()
    for path, leaf in model.items():
        assert (ours[path].shape, ours[path].dtype) == (leaf.shape, leaf.dtype), path


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_axes_fit_shapes_and_rules(name):
    shapes = flatten(param_shapes(preset(name)))
    known = {field.name for field in dataclasses.fields(sharding.AxisRules)} | {None}
    for path, axes in flatten(logical_axes(preset(name))).items():
        assert len(axes) == len(shapes[path].shape), path
        assert set(axes) <= known, path
        named = [axis for axis in axes if axis is not None]
        assert len(named) == len(set(named)), path


def test_tied_and_bare_models_leave_tensors_out():
    tiny = preset("tiny")
    tied = dataclasses.replace(
        tiny, language=dataclasses.replace(tiny.language, tie_word_embeddings=True)
    )
    assert set(hf_shapes(tiny)) - set(hf_shapes(tied)) == {"vlm.lm_head.weight"}
    bare = dataclasses.replace(
        tiny, vision=dataclasses.replace(tiny.vision, deepstack_visual_indexes=())
    )
    assert not any("deepstack" in name for name in hf_shapes(bare))


@pytest.mark.parametrize("num_enc_layers", [1, 2, 4])
def test_action_projection_follows_its_depth(num_enc_layers):
    tiny = preset("tiny")
    proj = dataclasses.replace(tiny.action_proj, num_enc_layers=num_enc_layers)
    names = [n for n in hf_shapes(dataclasses.replace(tiny, action_proj=proj)) if ".trunk." in n]
    indices = {int(name.split(".")[3]) for name in names}
    wanted = {i for i in range(3 * num_enc_layers + 1) if i % 3 != 1}
    assert indices == wanted


def test_layouts_invert_and_keep_meaning():
    config = preset("tiny")
    for row in parameters(config):
        tensor = np.arange(math.prod(row.hf_shape)).reshape(row.hf_shape)
        ours = row.from_hf(tensor)
        assert ours.shape == row.shape, row.path
        np.testing.assert_array_equal(row.to_hf(ours), tensor, err_msg=str(row.path))


def test_patch_embedding_is_the_convolution():
    rows = {row.path: row for row in parameters(preset("tiny"))}
    row = rows["vlm", "visual", "patch_embed", "kernel"]
    rng = np.random.default_rng(0)
    weight = rng.standard_normal(row.hf_shape)
    patch = rng.standard_normal(row.hf_shape[1:])  # channels, time, height, width
    convolved = np.einsum("dcthw,cthw->d", weight, patch)
    np.testing.assert_allclose(patch.reshape(-1) @ row.from_hf(weight), convolved)


def test_nest_and_flatten_invert():
    flat = {("a", "b"): 1, ("a", "c", "d"): (2, 3), ("e",): None}
    assert flatten(nest(flat)) == flat
