"""Models in any number format run on a CPU."""

import ml_dtypes
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402

from alpamayo_jax.errors import InputError  # noqa: E402
from alpamayo_jax.export.onnx_run import open_model  # noqa: E402

X = np.array([[1.0, 2.0, 3.0]], np.float32)
W = np.array([[0.1], [0.2], [0.3]], np.float32)


def save(path, kind, dtype):
    """y = x W in one type; x is cast on the way in and y on the way out."""
    values = [helper.make_tensor_value_info(name, kind, shape) for name, shape in
              (("x", [1, 3]), ("y", [1, 1]))]  # fmt: skip
    raw = W.astype(dtype).tobytes()
    weights = helper.make_tensor("w", kind, W.shape, raw, raw=True)
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["wide"], ["narrow"], to=kind),
        helper.make_node("MatMul", ["narrow", "w"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path.write_bytes(made.SerializeToString())
    return path


def test_float32(tmp_path):
    run, runner = open_model(save(tmp_path / "m.onnx", TensorProto.FLOAT, np.float32), "fp32")
    np.testing.assert_allclose(run({"x": X})["y"], X @ W, rtol=1e-6)
    assert runner.startswith("onnxruntime") and "float32" not in runner


def test_bfloat16_weights_are_rounded_and_computed_in_float32(tmp_path):
    path = save(tmp_path / "m.onnx", TensorProto.BFLOAT16, ml_dtypes.bfloat16)
    run, runner = open_model(path, "bf16")
    rounded = W.astype(ml_dtypes.bfloat16).astype(np.float32)
    for x in (X, X.astype(ml_dtypes.bfloat16)):
        np.testing.assert_allclose(run({"x": x})["y"], X @ rounded, rtol=1e-6)
    assert np.abs(X @ rounded - X @ W).max() > 1e-4
    assert "bfloat16 computed as float32" in runner


def test_the_evaluator_of_the_standard_runs_what_runtimes_lack(tmp_path):
    run, runner = open_model(save(tmp_path / "m.onnx", TensorProto.FLOAT, np.float32), "nvfp4")
    np.testing.assert_allclose(run({"x": X})["y"], X @ W, rtol=1e-6)
    assert "reference evaluator" in runner


def test_no_model_is_one_sentence(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="ONNX Runtime rejects m.onnx"):
        open_model(tmp_path / "m.onnx", "fp32")
