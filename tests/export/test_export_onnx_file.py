"""Stages converted to ONNX: the numbers of JAX, names to follow, weights inside or beside."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("jax2onnx")
pytest.importorskip("onnxruntime")

from alpamayo_jax.convert.tensor_file import read_header  # noqa: E402
from alpamayo_jax.decode.policy import Policy  # noqa: E402
from alpamayo_jax.export import load, onnx_file  # noqa: E402
from alpamayo_jax.export.parity import Reference, noises  # noqa: E402
from alpamayo_jax.export.run import ExportSettings, export, make_windows  # noqa: E402
from alpamayo_jax.export.stages import STAGES, make_stages, sizes_of  # noqa: E402
from alpamayo_jax.testing.tiny import random_observation, random_params, tiny_config  # noqa: E402
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer  # noqa: E402

CONFIG = tiny_config()

pytestmark = pytest.mark.slow  # the converter takes half a minute to load


@pytest.fixture(scope="module")
def policy():
    return Policy(CONFIG, random_params(CONFIG), tiny_tokenizer(CONFIG))


@pytest.fixture(scope="module")
def exported(policy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    settings = ExportSettings("onnx", samples=2, new_tokens=5)
    export(policy, [random_observation(CONFIG, seed) for seed in (0, 1)], folder, settings)
    return load(folder)


def test_every_stage_agrees(exported):
    assert exported.stages == STAGES
    for artefact in exported.manifest.artefacts:
        assert artefact.valid, (artefact.stage, artefact.note)
        assert artefact.parity.windows == 2 and "onnxruntime" in artefact.parity.runner
    assert exported.manifest.artefact("policy").parity.tokens_identical is True


def test_the_converter_leaves_nothing_in_jax(exported):
    """It replaces jnp.cumsum by one that takes a single positional argument."""
    del exported
    assert jnp.cumsum.__module__.startswith("jax")
    assert not [name for name, value in vars(jnp).items()
                if getattr(value, "__module__", None) and "jax2onnx" in value.__module__
                and not name.endswith("_p")]  # fmt: skip
    np.testing.assert_array_equal(jnp.cumsum(jnp.ones((2, 2)), -1), [[1, 2], [1, 2]])


def test_operators_and_opset_are_listed(exported):
    details = exported.manifest.artefact("decode_step").details
    assert details["opset"] == onnx_file.OPSET
    assert details["operators"]["MatMul"] >= 7 * CONFIG.language.num_layers
    for stage in STAGES:
        operators = exported.manifest.artefact(stage).details["operators"]
        assert not {"NonZero", "ScatterND", "ScatterElements", "Scan"} & set(operators), stage
        loops = {"flow_loop": 1, "policy": 2}.get(stage, 0)
        assert operators.get("Loop", 0) == loops, stage


def test_graphs_can_be_followed(exported):
    graph = onnx.load(exported.folder / "decode_step.onnx").graph
    weights = {tensor.name for tensor in graph.initializer}
    assert "vlm.language_model.layers.1.mlp.up_proj.kernel" in weights
    nodes = [node.name for node in graph.node]
    assert "vlm/language_model/layers.1/mlp/up_proj/MatMul" in nodes
    assert len(set(nodes)) == len(nodes)
    assert [v.name for v in graph.input] == [
        port.name for port in exported.manifest.artefact("decode_step").inputs
    ]


def test_weights_of_loops_are_constants(exported):
    graph = onnx.load(exported.folder / "flow_loop.onnx").graph
    (loop,) = [node for node in graph.node if node.op_type == "Loop"]
    assert len(loop.input) <= 4  # trips, condition, step, actions
    assert any(tensor.name.startswith("expert.layers.0.") for tensor in graph.initializer)


def test_weights_beside_the_model(policy, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "EMBEDDED_BYTES", 0)
    settings = ExportSettings("onnx", stages=("flow_step",), samples=2, new_tokens=5)
    export(policy, [random_observation(CONFIG)], tmp_path, settings)
    beside = load(tmp_path)
    artefact = beside.manifest.artefact("flow_step")
    assert artefact.valid and "weights.safetensors" in artefact.files
    small = (tmp_path / "flow_step.onnx").stat().st_size
    entries = read_header(tmp_path / "weights.safetensors").values()
    weights = sum(4 * int(np.prod(entry.shape)) for entry in entries)
    names = 100 * len(entries)  # references to a file take as many bytes as they have letters
    assert (exported.folder / "flow_step.onnx").stat().st_size - small > weights - names > 0


def test_bfloat16_agrees_with_bfloat16(policy, tmp_path):
    settings = ExportSettings("onnx", "bf16", stages=("vision", "flow_step"), new_tokens=5)
    manifest = export(policy, [random_observation(CONFIG)], tmp_path, settings)
    assert manifest.valid and "bfloat16" in manifest.artefact("vision").parity.reference
    model = onnx.load(tmp_path / "vision.onnx")
    kinds = {tensor.data_type for tensor in model.graph.initializer if "kernel" in tensor.name}
    assert kinds == {onnx.TensorProto.BFLOAT16}


def test_flex_tokens_too(tmp_path):
    from alpamayo_jax.testing.tiny import compressed

    config = compressed(CONFIG, "flex")
    policy = Policy(config, random_params(config), tiny_tokenizer(config))
    settings = ExportSettings("onnx", stages=("vision", "prefill"), new_tokens=5)
    manifest = export(policy, [random_observation(config)], tmp_path, settings)
    assert manifest.valid


def test_each_step_of_the_flow_is_as_exact_as_float32(policy, exported):
    """The whole loop amplifies last bits; one step does not."""
    (window,) = make_windows(policy, [random_observation(CONFIG)])
    reference = Reference(CONFIG, policy.params, sizes_of(window, samples=2, new_tokens=5))
    noise = noises(1, reference.sizes, CONFIG.action.n_waypoints)[0]
    steps = [call for call in reference.calls(window, noise) if call[0] == "flow_step"]
    for stage, values, want in steps:
        got = exported.run(stage, values)
        np.testing.assert_allclose(got["velocity"], want["velocity"], atol=2e-5)


def test_an_operation_without_a_rule_is_one_sentence(policy):
    (window,) = make_windows(policy, [random_observation(CONFIG)])
    sizes = sizes_of(window, samples=1, new_tokens=4)
    stage = make_stages(CONFIG, policy.params, sizes, unroll=True, names=["trajectory"])["trajectory"]

    def odd(weights, inputs):
        return {"xyz": jax.random.normal(jax.random.key(inputs["actions"].size), (2,)), "rot":
                jax.pure_callback(np.asarray, inputs["actions"], inputs["actions"])}  # fmt: skip

    with pytest.raises(Exception, match="trajectory cannot be written as ONNX"):
        onnx_file.convert(dataclasses.replace(stage, function=odd))
