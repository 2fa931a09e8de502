import dataclasses
import functools
import math
import time

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.layers.linear import INIT_STD
from alpamayo_jax.models.init import example_inputs, init_params, param_shapes
from alpamayo_jax.presets import PRESETS, preset
from alpamayo_jax.testing.tiny import quick_jit, tiny_config

_QWEN_VOCABULARY = 151_936


@functools.cache
def _init(seed):
    init = quick_jit(init_params.__wrapped__, static_argnums=0)
    return init(tiny_config(), jax.random.key(seed))


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


class ShapesTest(parameterized.TestCase):
    @parameterized.parameters("r1_10b", "r1_5_10b")
    def test_the_release_has_its_number_of_parameters(self, name):
        begin = time.perf_counter()
        shapes = param_shapes(preset(name))
        assert time.perf_counter() - begin < 10
        assert _count(shapes) == 11_078_526_194
        assert _count(shapes["vlm"]) == 8_797_933_808
        assert _count(shapes["vlm"]["visual"]) == 576_388_336
        assert _count(shapes["expert"]) == 2_279_238_656
        assert _count(shapes["action_in_proj"]) == 1_349_632
        assert _count(shapes["action_out_proj"]) == 4_098
        assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.bfloat16)}

    @parameterized.parameters(
        ("qwen3_vl_2b", 2_127_532_032),
        ("qwen3_vl_4b", 4_437_815_808),
        ("qwen3_vl_8b", 8_767_123_696),
        ("qwen3_vl_32b", 33_357_390_064),
    )
    def test_backbones_have_the_published_number_of_parameters(self, name, published):
        config = preset(name)
        language = dataclasses.replace(config.language, vocab_size=_QWEN_VOCABULARY)
        shapes = param_shapes(dataclasses.replace(config, language=language))
        assert _count(shapes["vlm"]) == published

    @parameterized.parameters(*sorted(PRESETS))
    def test_every_preset_evaluates(self, name):
        config = preset(name)
        shapes = param_shapes(config)
        layers = shapes["vlm"]["language_model"]["layers"]
        expert = shapes["expert"]["layers"]["self_attn"]
        language = config.language
        assert ("lm_head" in shapes["vlm"]) != language.tie_word_embeddings
        assert {leaf.shape[0] for leaf in jax.tree.leaves(layers)} == {language.num_layers}
        kv = language.num_kv_heads * language.head_dim
        # The expert reads the language model's cache: same layers, same key-value heads.
        for tower, width in ((layers["self_attn"], language.hidden_size),
                             (expert, config.expert.hidden_size)):
            assert tower["k_proj"]["kernel"].shape == (language.num_layers, width, kv)
        assert set(shapes["expert"]) == {"layers", "norm"}


class InitTest(parameterized.TestCase):
    def test_parameters_have_the_announced_shapes_and_sizes(self):
        config = tiny_config()
        params, shapes = _init(0), param_shapes(config)
        assert jax.tree.structure(params) == jax.tree.structure(shapes)
        got, want = ([(a.shape, a.dtype) for a in jax.tree.leaves(t)] for t in (params, shapes))
        assert got == want
        assert type(params) is dict and type(params["vlm"]["language_model"]["layers"]) is dict
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            name = path[-1].key
            if name in ("scale", "bias"):
                np.testing.assert_array_equal(leaf, float(name == "scale"))
            else:
                np.testing.assert_allclose(leaf.std(), INIT_STD, rtol=0.25, err_msg=str(path))
                assert abs(leaf.mean()) < 0.2 * INIT_STD
        # Layers differ.
        kernel = params["expert"]["layers"]["mlp"]["up_proj"]["kernel"]
        assert (kernel[0] != kernel[1]).mean() > 0.9

    def test_the_key_decides(self):
        for first, other in zip(jax.tree.leaves(_init(0)), jax.tree.leaves(_init(1))):
            constant = len(np.unique(first)) == 1  # biases and scales
            assert constant or (first != other).mean() > 0.9

    def test_example_inputs_are_one_image_of_one_token(self):
        config = tiny_config()
        inputs, x, t = example_inputs(config)
        vision = config.vision
        assert inputs.pixel_values.shape == (1, 1, vision.merge_unit, vision.patch_dim)
        assert (inputs.image_index >= 0).sum() == 1
        assert x.shape == (1, config.action.n_waypoints, 2) and t.shape == (1,)
