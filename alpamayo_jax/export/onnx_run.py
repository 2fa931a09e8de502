"""ONNX models run on the CPU, in whatever number format they are."""

import pathlib
from typing import Any, Callable, Mapping

import numpy as np

from alpamayo_jax.errors import InputError

Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
# ONNX Runtime has no kernels for these on a CPU; the evaluator of the standard computes them.
EVALUATED = ("fp8", "nvfp4")


def open_model(path: pathlib.Path, precision: str) -> tuple[Run, str]:
    """A model ready to run, and what runs it.

    fp8 and nvfp4 are computed by the ONNX reference evaluator, the others by ONNX Runtime. What is
    bfloat16 is computed in float32, with the weights rounded as they are stored.

    Raises:
      InputError: what is needed is not installed, or it rejects the model.
    """
    if precision in EVALUATED:
        return _evaluator(path)
    if precision in ("bf16", "int8"):
        return _runtime(widened(path), path.name, " (bfloat16 computed as float32)", narrow=True)
    return _runtime(str(path), path.name)


def _missing(error: ImportError) -> InputError:
    return InputError(
        f"running ONNX needs onnx and onnxruntime ({error}); pip install 'alpamayo_jax[export]'"
    )


def _runtime(model: Any, name: str, note: str = "", narrow: bool = False) -> tuple[Run, str]:
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing(error) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base
        raise InputError(f"ONNX Runtime rejects {name}: {error}") from error
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        feeds = {key: _wide(array) if narrow else array for key, array in inputs.items()}
        return dict(zip(names, session.run(names, feeds)))

    return run, f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider{note}"


def _evaluator(path: pathlib.Path) -> tuple[Run, str]:
    try:
        import onnx
        from onnx.reference import ReferenceEvaluator
    except ImportError as error:
        raise _missing(error) from error
    evaluator = ReferenceEvaluator(onnx.load_from_string(widened(path)))
    names = list(evaluator.output_names)

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        feeds = {key: _wide(array) for key, array in inputs.items()}
        return dict(zip(names, evaluator.run(names, feeds)))

    return run, f"onnx {onnx.__version__} reference evaluator (bfloat16 computed as float32)"


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def widened(path: pathlib.Path) -> bytes:
    """The model with every bfloat16 tensor and type as float32."""
    try:
        import onnx
        from onnx import TensorProto, numpy_helper
    except ImportError as error:
        raise _missing(error) from error
    narrow, wide = TensorProto.BFLOAT16, TensorProto.FLOAT
    model = onnx.load(str(path))

    def visit(graph: Any) -> None:
        for tensor in graph.initializer:
            if tensor.data_type == narrow:
                array = numpy_helper.to_array(tensor).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == narrow:
                value.type.tensor_type.elem_type = wide
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in ("to", "dtype") and attribute.i == narrow:
                    attribute.i = wide
                if attribute.HasField("t") and attribute.t.data_type == narrow:
                    array = numpy_helper.to_array(attribute.t).astype(np.float32)
                    attribute.t.CopyFrom(numpy_helper.from_array(array))
                if attribute.HasField("g"):
                    visit(attribute.g)

    visit(model.graph)
    return model.SerializeToString()
