"""Stages as ONNX files: conversion, clean-up, weights inside or beside."""

import contextlib
import logging
import pathlib
import warnings
from typing import Any, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ConfigError
from alpamayo_jax.errors import InputError
from alpamayo_jax.export.stages import Stage

OPSET = 23
EMBEDDED_BYTES = 64 * 2**20  # weights of larger stages stand in a file of their own


def convert(stage: Stage) -> Any:
    """An `onnx.ModelProto` of a stage made with `unroll=True`, its weights still inputs.

    Inputs are the weights by name and then the stage's inputs; outputs are the stage's.

    Raises:
      ConfigError: the converter is not installed, or has no rule for an operation.
    """
    try:
        import jax2onnx
    except ImportError as error:
        raise ConfigError(
            f"writing ONNX needs jax2onnx and onnx ({error}); pip install 'alpamayo_jax[export]'"
        ) from error
    from alpamayo_jax.export import onnx_graph

    weights, inputs, outputs = list(stage.weights), list(stage.inputs), list(stage.outputs)

    def positional(*args):
        values = dict(zip(inputs, args[len(weights) :]))
        results = stage.function(dict(zip(weights, args)), values)
        return tuple(results[name] for name in outputs)

    shapes = (*stage.weight_shapes.values(), *stage.inputs.values())
    with _quiet(), _no_platform(), _typed_products(), _unpatched():
        try:
            model = jax2onnx.to_onnx(
                positional, inputs=shapes, model_name=stage.name, opset=OPSET, return_mode="proto"
            )
        except (NotImplementedError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"stage {stage.name} cannot be written as ONNX: {error}; use --format=stablehlo"
            ) from error
    graph = model.graph
    if len(graph.input) != len(shapes):
        raise ConfigError(f"stage {stage.name}: the converter dropped inputs that are not used")
    for passed in (
        onnx_graph.unique_values,
        onnx_graph.hoist_invariants,
        onnx_graph.drop_identities,
        onnx_graph.hoist_computations,
        onnx_graph.fold_constants,
        onnx_graph.plain_matmuls,
        onnx_graph.prune,
    ):
        passed(graph)
    onnx_graph.name_ports(graph, [*weights, *inputs], outputs)
    onnx_graph.name_nodes(graph, weights)
    model.producer_name, model.producer_version = "alpamayo_jax", ""
    graph.doc_string = f"Stage {stage.name}; weights are named as the parameters they hold."
    return model


@contextlib.contextmanager
def _unpatched() -> Iterator[None]:
    """The converter leaves functions of its own in jax.numpy, with other signatures; whoever computes on
    in this process wants JAX's."""
    before = dict(vars(jnp))
    try:
        yield
    finally:
        for name, value in before.items():
            if getattr(jnp, name, None) is not value:
                setattr(jnp, name, value)


@contextlib.contextmanager
def _no_platform() -> Iterator[None]:
    """What depends on the platform takes its default branch: a graph is for none that JAX knows, and
    the branches for one of them need not have the types that the converter gives the others."""
    with _replaced("platform_dependent", lambda *args, default, **platforms: default(*args)):
        yield


@contextlib.contextmanager
def _typed_products() -> Iterator[None]:
    """A product of narrow operands with a wider result is a narrow product and a cast: `MatMul` has the
    type of its operands, and the converter does not say so to what reads it."""
    original = jax.lax.dot_general

    def product(a: Any, b: Any, *args: Any, preferred_element_type: Any = None, **how: Any) -> Any:
        out = original(a, b, *args, **how)
        return out if preferred_element_type is None else out.astype(preferred_element_type)

    with _replaced("dot_general", product):
        yield


@contextlib.contextmanager
def _replaced(name: str, function: Any) -> Iterator[None]:
    """`jax.lax` with another function of that name."""
    original = getattr(jax.lax, name)
    setattr(jax.lax, name, function)
    try:
        yield
    finally:
        setattr(jax.lax, name, original)


def add_weights(model: Any, weights: Mapping[str, Any], *, external: Mapping[str, Any] = {}) -> None:
    """Makes constants of the inputs of a converted model that are weights.

    Args:
      model: from `convert`.
      weights: name -> array.
      external: name -> `tensor_file.TensorEntry` of weights that stand in a file in the folder of
        the model; the others are embedded.
    """
    from onnx import TensorProto, external_data_helper, numpy_helper

    graph = model.graph
    kept = [value for value in graph.input if value.name not in weights]
    names = [value.name for value in graph.input if value.name in weights]
    del graph.input[:]
    graph.input.extend(kept)
    for name in names:
        if name not in external:
            graph.initializer.append(numpy_helper.from_array(np.asarray(weights[name]), name))
            continue
        entry = external[name]
        tensor = TensorProto(name=name, dims=entry.shape, data_type=_onnx_dtype(entry.dtype))
        tensor.raw_data = b""
        external_data_helper.set_external_data(
            tensor, entry.path.name, offset=entry.offset, length=entry.nbytes
        )
        tensor.ClearField("raw_data")
        graph.initializer.append(tensor)


def _onnx_dtype(name: str) -> int:
    from onnx import TensorProto

    return {"F32": TensorProto.FLOAT, "BF16": TensorProto.BFLOAT16, "F16": TensorProto.FLOAT16}[name]


def write(model: Any, path: pathlib.Path) -> None:
    """Checks a model and writes it.

    Raises:
      InputError: it is no valid ONNX, or too large for a file with embedded weights.
    """
    import onnx

    try:
        data = model.SerializeToString()
        path.write_bytes(data)
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError) as error:
        raise InputError(f"{path.name} is no valid ONNX model: {error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, and no log lines below errors: the converter lists every shape."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
