"""Q/DQ graphs against the quantised model in JAX, layer by layer of a tiny policy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("jax2onnx")

from alpamayo_jax.config import ConfigError  # noqa: E402
from alpamayo_jax.export import onnx_file, qdq  # noqa: E402
from alpamayo_jax.export.layers import layer_stages, random_weights  # noqa: E402
from alpamayo_jax.export.onnx_graph import operators  # noqa: E402
from alpamayo_jax.export.onnx_run import open_model  # noqa: E402
from alpamayo_jax.export.stages import Sizes  # noqa: E402
from alpamayo_jax.ops.number_formats import quantise, scale_of  # noqa: E402
from alpamayo_jax.quantise import Ranges, make_recipe  # noqa: E402
from alpamayo_jax.quantise.ranges import NUM_BINS  # noqa: E402
from alpamayo_jax.testing import tiny  # noqa: E402
from alpamayo_jax.types import InputError  # noqa: E402

SIZES = Sizes(length=8, images=2, patches=8, samples=2, new_tokens=4)
LAYER = "expert_layer"
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@functools.cache
def stage():
    config = tiny.tiny_config()
    wide = dataclasses.replace(config.expert, hidden_size=32, intermediate_size=48)
    return layer_stages(dataclasses.replace(config, expert=wide), SIZES)[LAYER]


@functools.cache
def weights():
    return {n: a * (1 if n.endswith("scale") else 10) for n, a in random_weights(stage()).items()}


@functools.cache
def converted() -> bytes:
    return onnx_file.convert(stage()).SerializeToString()


@functools.cache
def inputs():
    rng = np.random.default_rng(1)
    made = {}
    for name, spec in stage().inputs.items():
        values = rng.standard_normal(spec.shape)
        made[name] = values > -1 if spec.dtype == bool else values.astype(spec.dtype)
        if name == "mask":
            made[name] = np.ones(spec.shape, bool)
    return made


def ranges(largest: float = 3.0) -> Ranges:
    paths = {qdq.layer_of(n)[0] for n in weights() if n.endswith("kernel")}
    counts = np.ones((1, NUM_BINS), np.int64)
    return Ranges({p: np.full(1, largest) for p in paths}, {p: counts for p in paths}, 1)


def quantised_weights(recipe, ranges=None):
    """What the model in JAX gets."""
    made = {}
    for name, array in weights().items():
        made[name] = jnp.asarray(array)
        if name in qdq.kernels_taken(weights(), recipe):
            made[name] = quantise(made[name], recipe.format, recipe.axis)
            if recipe.activations:
                path, layer = qdq.layer_of(name)
                scale = scale_of(ranges.at(path, recipe.percentile)[layer], recipe.format)
                made[name.replace("kernel", "input_scale")] = scale
    return made


def written(tmp_path, recipe, ranges=None):
    model = onnx.load_from_string(converted())
    inserted = qdq.insert(model, weights(), recipe, ranges)
    onnx_file.add_weights(model, inserted.weights)
    onnx_file.write(model, tmp_path / "layer.onnx")
    return model, inserted


@pytest.mark.parametrize(
    "name, per_channel",
    [("int8", True), ("int8", False), ("fp8", True), ("fp8", False), ("nvfp4", True),
     ("int8_weights", True)],
)  # fmt: skip
def test_the_graph_computes_what_the_quantised_model_does(tmp_path, name, per_channel):
    recipe = make_recipe(name, per_channel=per_channel)
    made = ranges()
    _, inserted = written(tmp_path, recipe, made)
    want = jax.jit(stage().function)(quantised_weights(recipe, made), inputs())
    # ONNX Runtime rounds activations of its own accord where weights alone are int8.
    runner = recipe.format if recipe.activations else "fp8"
    run, _ = open_model(tmp_path / "layer.onnx", runner)
    got = run(inputs())
    plain = jax.jit(stage().function)(weights(), inputs())
    for key in want:
        # A value on the edge of two steps of fp8 may fall on either side in another order of sums.
        off = np.abs(got[key] - np.asarray(want[key]))
        assert np.quantile(off, 0.98) < 2e-4 and off.mean() < 2e-3, key
    difference = np.abs(np.asarray(want["y"]) - np.asarray(plain["y"])).mean()
    assert difference > 20 * np.abs(got["y"] - np.asarray(want["y"])).mean()
    assert {n.split(".")[-2] for n in inserted.quantised} == set(PROJECTIONS)


def test_nodes_are_where_they_belong(tmp_path):
    model, inserted = written(tmp_path, make_recipe("fp8"), ranges())
    counts = operators(model)
    # Queries, keys and values read one rounded input, and so do gate and up.
    assert counts["QuantizeLinear"] == 4
    assert counts["DequantizeLinear"] == 4 + len(PROJECTIONS)
    names = {node.name for node in model.graph.node}
    assert "expert/layers.0/mlp/up_proj/kernel/DequantizeLinear" in names
    assert not {v.name for v in model.graph.input} & set(inserted.quantised)
    kept = [n for n in weights() if n not in inserted.weights]
    assert set(kept) == set(inserted.quantised)
    assert inserted.values == sum(weights()[n].size for n in kept)
    assert inserted.packed_bytes < sum(weights()[n].nbytes for n in kept) / 3


def test_scales_have_the_type_that_the_graph_computes_in():
    model = onnx.load_from_string(converted())
    narrow = {n: a.astype(ml_dtypes.bfloat16) for n, a in weights().items()}
    qdq.insert(model, narrow, make_recipe("nvfp4"))
    constants = {t.name: t for t in model.graph.initializer}
    up = "expert.layers.0.mlp.up_proj.kernel"
    assert constants[f"{up}.values"].data_type == onnx.TensorProto.FLOAT4E2M1
    assert constants[f"{up}.block_scale"].data_type == onnx.TensorProto.FLOAT8E4M3FN
    assert list(constants[f"{up}.block_scale"].dims) == [2, 48]
    assert constants[f"{up}.scale"].data_type == onnx.TensorProto.BFLOAT16
    assert model.ir_version >= 11


def test_four_bit_values_are_packed_two_to_a_byte():
    values = np.array([[0.5, -6.0, 1.5]], ml_dtypes.float4_e2m1fn)
    packed = qdq.tensor("x", values)
    assert list(packed.dims) == [1, 3]
    assert packed.raw_data == bytes([0x1 | 0xF << 4, 0x3])
    back = onnx.numpy_helper.to_array(packed)
    np.testing.assert_array_equal(back.astype(np.float32), values.astype(np.float32))


def test_names_of_layers():
    name = "vlm.language_model.layers.3.self_attn.q_proj.kernel"
    assert qdq.layer_of(name) == ("vlm/language_model/layers/self_attn/q_proj", 3)
    assert qdq.layer_of("vlm.lm_head.kernel") == ("vlm/lm_head", None)
    assert qdq.layer_of("action_in_proj.encoder.trunk_3.bias") is None


def test_large_constants_move_to_a_file_and_come_back(tmp_path):
    recipe = make_recipe("int8_weights")
    model, _ = written(tmp_path, recipe)
    run, _ = open_model(tmp_path / "layer.onnx", "int8")
    want = run(inputs())
    assert qdq.move_constants(model, tmp_path / "layer.constants", least=64)
    onnx_file.write(model, tmp_path / "moved.onnx")
    assert (tmp_path / "moved.onnx").stat().st_size < (tmp_path / "layer.onnx").stat().st_size
    run, _ = open_model(tmp_path / "moved.onnx", "int8")
    np.testing.assert_array_equal(run(inputs())["y"], want["y"])
    assert not qdq.move_constants(model, tmp_path / "none.constants", least=64)
    assert not (tmp_path / "none.constants").exists()


def test_what_cannot_be_is_refused():
    model = onnx.load_from_string(converted())
    with pytest.raises(ConfigError, match="fp8 activations need calibrated ranges"):
        qdq.insert(model, weights(), make_recipe("fp8"))
    with pytest.raises(InputError, match="no input of layer expert/layers/.* was recorded"):
        qdq.insert(model, weights(), make_recipe("fp8"), Ranges({}, {}, 1))
    other = {**weights(), "expert.layers.0.mlp.other.kernel": np.zeros((16, 16), np.float32)}
    with pytest.raises(ConfigError, match="other.kernel is not the kernel of a matrix product"):
        qdq.insert(model, other, make_recipe("int8_weights"))
