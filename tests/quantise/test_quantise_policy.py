"""Quantised parameters in the model: recipe, weights, calibration, from one tiny policy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.convert.table import flatten
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.sample import sample
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.models.action_proj import ActionInProj
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.ops.number_formats import Quantised, dequantise, fake_quantise, quantised_bytes
from alpamayo_jax.quantise import (
    RECIPES,
    Ranges,
    calibrate,
    cast_policy,
    make_recipe,
    quantise_params,
    quantise_policy,
)
from alpamayo_jax.quantise.ranges import NUM_BINS
from alpamayo_jax.quantise.recipe import KEPT, chosen_layers, linear_layers
from alpamayo_jax.testing import tiny
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.types import InputError

SETTINGS = SampleSettings(num_samples=1, max_new_tokens=1)  # no reasoning that could differ


@pytest.fixture(scope="module")
def policy():
    config = tiny.tiny_config()
    params = jax.tree.map(jnp.asarray, tiny.random_params(config))
    return Policy(config=config, params=params, tokenizer=tiny_tokenizer(config))


@pytest.fixture(scope="module")
def observations(policy):
    return [tiny.random_observation(policy.config, seed) for seed in range(2)]


@pytest.fixture(scope="module")
def ranges(policy, observations):
    return calibrate(policy, observations, settings=SETTINGS, jit=tiny.quick_jit)


def velocity(policy, params):
    model = Alpamayo(policy.config)
    x = jax.random.normal(jax.random.key(1), (1, 8, 2))
    positions = jnp.zeros((3, 1, 8), jnp.int32)
    run = tiny.quick_jit(
        lambda p: model.apply({"params": p}, x, jnp.ones(1), positions, (), method="velocity")
    )
    return run(params)


def test_every_linear_layer_is_chosen_or_kept(policy):
    layers = linear_layers(policy.params)
    chosen = chosen_layers(policy.params, RECIPES["int8"])
    kept = set(layers) - set(chosen)
    assert kept == {
        "vlm/visual/patch_embed", "vlm/lm_head", "action_in_proj/encoder/trunk_0", "action_out_proj"
    }  # fmt: skip
    assert layers["vlm/language_model/layers/self_attn/q_proj"] == (2, 32, 64)


def test_nvfp4_keeps_layers_without_whole_blocks(policy):
    chosen = chosen_layers(policy.params, RECIPES["nvfp4"])
    assert "vlm/language_model/layers/mlp/down_proj" in chosen  # 48 inputs
    assert "vlm/visual/blocks/mlp/linear_fc2" not in chosen  # 24 inputs
    assert "expert/layers/self_attn/q_proj" not in chosen


@pytest.mark.parametrize(
    "name, per_channel",
    [
        pytest.param("int8_weights", True, marks=pytest.mark.slow),
        ("fp8_weights", False),
        pytest.param("nvfp4", True, marks=pytest.mark.slow),
    ],
)
def test_weight_only_equals_the_dequantised_policy(policy, name, per_channel):
    quantised = quantise_params(policy.params, make_recipe(name, per_channel=per_channel))
    plain = jax.tree.map(
        lambda leaf: dequantise(leaf) if isinstance(leaf, Quantised) else leaf,
        quantised,
        is_leaf=lambda leaf: isinstance(leaf, Quantised),
    )
    got, want = velocity(policy, quantised), velocity(policy, plain)
    np.testing.assert_allclose(got, want, atol=2e-6)
    assert np.abs(np.asarray(want) - velocity(policy, policy.params)).max() > 1e-5


def test_bytes_shrink(policy):
    def kernels(params):
        flat = flatten(params)
        chosen = chosen_layers(policy.params, RECIPES["int8"])
        return [flat[(*path.split("/"), "kernel")] for path in chosen]

    whole = quantised_bytes(kernels(policy.params))
    narrow = quantised_bytes(kernels(quantise_params(policy.params, RECIPES["int8_weights"])))
    assert whole / 4 < narrow < whole / 3


def test_calibration_sees_what_layers_read(policy, ranges, observations):
    """The first vision layer reads pixels; what they are is known from the processor."""
    assert ranges.windows == 2
    inputs = [policy.processor.inputs([o], pad_to="bucket") for o in observations]
    largest = max(np.abs(i.pixel_values).max() for i in inputs)
    assert float(ranges.at("vlm/visual/patch_embed")) == pytest.approx(largest)
    values = np.concatenate([np.abs(i.pixel_values).ravel() for i in inputs])
    edge = float(ranges.at("vlm/visual/patch_embed", 75.0))
    assert np.quantile(values, 0.75) <= edge <= np.quantile(values, 0.75) * 2 ** (1 / 16) + 1e-6


def test_calibration_reaches_every_layer_of_scans_loops_and_vmaps(policy, ranges):
    for path, shape in linear_layers(policy.params).items():
        at = ranges.at(path)
        assert at.shape == shape[:-2]
        assert (at > 0).all(), path
    language = ranges.at("vlm/language_model/layers/self_attn/q_proj")
    assert language[0] != language[1]
    # query, key and value projections read the same.
    np.testing.assert_array_equal(language, ranges.at("vlm/language_model/layers/self_attn/k_proj"))


def test_calibration_leaves_the_policy_alone(policy, ranges):
    assert not [path for path in flatten(policy.params) if "calibration" in path[-1]]
    assert set(ranges.largest) == set(linear_layers(policy.params))


def test_ranges_survive_a_file(ranges, tmp_path):
    ranges.save(tmp_path / "ranges.json")
    back = Ranges.load(tmp_path / "ranges.json")
    assert back.windows == ranges.windows
    for path in ranges.largest:
        np.testing.assert_array_equal(back.at(path, 99.0), ranges.at(path, 99.0))


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"version": 2}', b'{"version": 1, "largest": {"a": 1}, "counts": {}}']
)
def test_a_file_that_is_no_ranges_is_refused(content, tmp_path):
    path = tmp_path / "ranges.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="ranges.json is not what calibration writes"):
        Ranges.load(path)
    with pytest.raises(InputError, match="absent.json cannot be read"):
        Ranges.load(tmp_path / "absent.json")


@pytest.mark.parametrize("name", ["int8", "fp8"])
def test_activations_are_rounded_by_their_scale(policy, ranges, name):
    params = quantise_params(policy.params, RECIPES[name], ranges)
    scale = params["action_in_proj"]["encoder"]["trunk_3"]["input_scale"]
    assert scale.shape == ()
    assert params["expert"]["layers"]["mlp"]["up_proj"]["input_scale"].shape == (2,)
    seen = []

    def watch(call, args, kwargs, context):
        if context.module.name == "trunk_3" and context.method_name == "__call__":
            seen.append((args[0], call(*args, **kwargs)))
            return seen[-1][1]
        return call(*args, **kwargs)

    project = ActionInProj(policy.config.action_proj, features=24)
    with nn.intercept_methods(watch):
        project.apply(
            {"params": params["action_in_proj"]}, jnp.ones((1, 8, 2)) / 3, jnp.full(1, 0.4)
        )
    (x, y), layer = seen[0], params["action_in_proj"]["encoder"]["trunk_3"]
    rounded = fake_quantise(x, name, scale=scale)
    assert np.abs(rounded - x).max() > 1e-5
    want = rounded @ dequantise(layer["kernel"]) + layer["bias"]
    np.testing.assert_allclose(y, want, atol=1e-5)


@pytest.mark.parametrize("name, most", [("int8", 0.2), ("fp8", 0.2), ("nvfp4", 0.3)])
def test_a_quantised_policy_stays_near(policy, name, most):
    """Calibrated ranges are those of another task than this one, so wide ones stand in."""
    paths = linear_layers(policy.params).items()
    wide = Ranges(
        {path: np.full(shape[:-2], 12.0) for path, shape in paths},
        {path: np.ones((*shape[:-2], NUM_BINS), np.int64) for path, shape in paths},
        windows=1,
    )
    narrow = quantise_params(policy.params, RECIPES[name], wide)
    want, got = velocity(policy, policy.params), velocity(policy, narrow)
    assert 0 < np.abs(got - want).mean() < most * np.abs(want).mean()


def test_a_quantised_policy_drives(policy, ranges, observations):
    narrow = quantise_policy(policy, RECIPES["int8"], ranges)
    got = sample(narrow, observations[0], settings=SETTINGS)
    assert np.isfinite(got.xyz).all()


def test_a_policy_in_bfloat16(policy):
    narrow = cast_policy(policy, "bfloat16")
    assert narrow.config.precision.compute == "bfloat16"
    assert {leaf.dtype for leaf in jax.tree.leaves(narrow.params)} == {jnp.dtype("bfloat16")}
    kernel = quantise_params(narrow.params, RECIPES["fp8_weights"])["expert"]["layers"]["mlp"]
    scale = kernel["up_proj"]["kernel"].scale
    np.testing.assert_array_equal(scale, scale.astype(jnp.bfloat16).astype(jnp.float32))


def test_what_cannot_be_is_refused(policy, ranges):
    with pytest.raises(ConfigError, match="int8 activations need calibrated ranges.*int8_weights"):
        quantise_params(policy.params, RECIPES["int8"])
    with pytest.raises(ConfigError, match="quantisation 'int4' is unknown; known: fp8, int8, nvfp4"):
        make_recipe("int4")
    with pytest.raises(ConfigError, match="nvfp4 is for weights alone"):
        make_recipe("nvfp4", activations=True)
    with pytest.raises(ConfigError, match=r"percentile 10 must be in \(50, 100\]"):
        make_recipe("fp8", percentile=10)
    once = quantise_params(policy.params, RECIPES["int8_weights"])
    with pytest.raises(ConfigError, match="is quantised already"):
        quantise_params(once, RECIPES["int8_weights"])
    with pytest.raises(InputError, match="no window"):
        calibrate(policy, [])
    with pytest.raises(InputError, match="no input of layer expert/x was recorded"):
        ranges.at("expert/x")


def test_kept_layers_are_the_ends_of_the_towers():
    assert set(KEPT) >= {"vlm/visual/patch_embed", "action_out_proj", "vlm/lm_head"}
    assert make_recipe("fp8", keep=()).keep == ()
