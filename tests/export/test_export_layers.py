"""One layer of every tower: shapes at full width, values at a tiny one, engines where asked for."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.export import layers
from alpamayo_jax.export.stages import Sizes
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.presets import preset
from alpamayo_jax.quantise import Ranges, make_recipe
from alpamayo_jax.testing import tiny

SIZES = Sizes(length=8, images=2, patches=8, samples=2, new_tokens=4)


def test_every_kind_of_layer_at_full_width():
    stages = layers.layer_stages(preset("r1_10b"))
    assert tuple(stages) == layers.LAYERS
    weights = {name: set(stage.weights) for name, stage in stages.items()}
    up = "vlm.language_model.layers.0.mlp.up_proj.kernel"
    assert stages["language_prefill"].weights[up].shape == (4096, 12288)
    assert weights["language_prefill"] == weights["language_decode"]
    assert stages["expert_layer"].weights["expert.layers.0.self_attn.q_proj.kernel"].shape == (
        2048,
        2048,
    )
    assert {leaf.dtype for s in stages.values() for leaf in s.weights.values()} == {
        jnp.dtype("bfloat16")
    }
    shapes = {n: {k: v.shape for k, v in s.outputs.items()} for n, s in stages.items()}
    assert shapes["vision_block"]["y"] == (16, 720, 1152)
    assert shapes["merger"]["y"] == (16, 180, 4096)
    assert shapes["language_prefill"] == {
        "y": (1, 3072, 4096), "k": (1, 8, 3072, 128), "v": (1, 8, 3072, 128)
    }  # fmt: skip
    assert shapes["language_decode"]["y"] == (1, 6, 1, 4096)
    assert shapes["expert_layer"]["y"] == (1, 6, 64, 2048)
    assert shapes["action_in_proj"]["y"] == (1, 6, 64, 2048)
    assert shapes["action_out_proj"]["y"] == (1, 6, 64, 2)


def test_a_layer_is_the_model_s_own():
    """The action projections, of a whole policy and alone."""
    config = tiny.tiny_config()
    stage = layers.layer_stages(config, SIZES)["action_in_proj"]
    weights = layers.random_weights(stage)
    x = np.random.default_rng(0).standard_normal((1, 2, 8, 2)).astype(np.float32)
    t = np.full((1, 2), 0.3, np.float32)
    got = stage.function(weights, {"x": x, "t": t})["y"]
    params = jax.tree.map(np.asarray, tiny.random_params(config))
    encoder = params["action_in_proj"]["encoder"]
    for name in encoder:
        for leaf in encoder[name]:
            encoder[name][leaf] = weights[f"action_in_proj.encoder.{name}.{leaf}"]
    params["action_in_proj"]["norm"] = {
        leaf: weights[f"action_in_proj.norm.{leaf}"] for leaf in ("scale", "bias")
    }
    model = Alpamayo(config)
    want = model.apply(
        {"params": params}, x, t, method=lambda module, x, t: module.action_in_proj(x, t)
    )
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_random_weights_fit_and_repeat():
    stage = layers.layer_stages(tiny.tiny_config(), SIZES)["merger"]
    one, two = layers.random_weights(stage), layers.random_weights(stage)
    for name, spec in stage.weights.items():
        assert one[name].shape == spec.shape and one[name].dtype == spec.dtype
        np.testing.assert_array_equal(one[name], two[name])
    np.testing.assert_array_equal(one["vlm.visual.merger.norm.scale"], 1)
    assert 0.01 < one["vlm.visual.merger.linear_fc1.kernel"].std() < 0.03


class Fixed(Ranges):
    """Ranges that know every layer: what is built does not depend on them."""

    def at(self, path, percentile=100.0):
        stacked = "/layers/" in path or "/blocks/" in path
        return np.full((1,) if stacked else (), 8.0, np.float32)


@functools.cache
def to_build():
    """ALPAMAYO_JAX_LAYERS=tiny builds the same layers of preset tiny, in seconds."""
    if os.environ.get("ALPAMAYO_JAX_LAYERS") == "tiny":
        return layers.layer_stages(preset("tiny"), SIZES)
    return layers.layer_stages(preset("r1_10b"))


@functools.cache
def converted(name):
    from alpamayo_jax.export import onnx_file

    return onnx_file.convert(to_build()[name]).SerializeToString()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp8", "nvfp4"])
@pytest.mark.parametrize("name", layers.LAYERS)
def test_engines_of_layers_at_full_width(name, precision, tmp_path):
    """Prints what docs/quantisation.md tells of each."""
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("jax2onnx")
    import onnx

    from alpamayo_jax.export import onnx_file, qdq
    from alpamayo_jax.export.tensorrt import build_engine

    stage = to_build()[name]
    weights, model = layers.random_weights(stage), onnx.load_from_string(converted(name))
    quantised = ()
    if precision != "bf16":
        inserted = qdq.insert(model, weights, make_recipe(precision), Fixed({}, {}, 1))
        weights, quantised = inserted.weights, inserted.quantised
    onnx_file.add_weights(model, weights)
    onnx_file.write(model, tmp_path / "layer.onnx")
    report = build_engine(tmp_path / "layer.onnx", tmp_path / "layer.engine", "sm120")
    kinds = report.details()["layers"]
    print(
        f"{name} {precision}: engine {report.bytes / 2**20:.1f} MiB, onnx "
        f"{(tmp_path / 'layer.onnx').stat().st_size / 2**20:.1f} MiB, {report.seconds:.1f} s, "
        f"{len(report.layers)} layers, {len(quantised)} quantised, {len(report.warnings)} warnings"
    )
    assert report.bytes == (tmp_path / "layer.engine").stat().st_size
    assert bool(quantised) == bool(kinds.get("DEQUANTIZE"))
    assert bool(quantised) == (precision != "bf16" and name != "action_out_proj")
