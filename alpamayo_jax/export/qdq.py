"""Quantised ONNX graphs: Q/DQ nodes around the matrix products that a recipe chooses.

    int8, fp8   kernel: int8 / e4m3 constant, DequantizeLinear with one scale per output channel;
                inputs: QuantizeLinear, DequantizeLinear with one calibrated scale
    nvfp4       kernel: e2m1 constant in blocks of 16 along the inputs; its e4m3 block scales are
                dequantised by one scale, and are then the scales of the kernel's DequantizeLinear

Values and scales are those that `quantise.quantise_params` computes with in JAX.
"""

import dataclasses
import itertools
import pathlib
from typing import Any, Iterator, Mapping

import jax.numpy as jnp
import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data

from alpamayo_jax.config import ConfigError
from alpamayo_jax.export.onnx_graph import all_nodes, module_of, subgraphs
from alpamayo_jax.export.weights import STACKED
from alpamayo_jax.ops.number_formats import BLOCK, Quantised, quantise, scale_of
from alpamayo_jax.quantise import Ranges, Recipe

_IR_VERSION = 11  # the first with four-bit floats
_TYPES = {
    "int8": TensorProto.INT8,
    "float8_e4m3fn": TensorProto.FLOAT8E4M3FN,
    "float4_e2m1fn": TensorProto.FLOAT4E2M1,
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}


@dataclasses.dataclass(frozen=True)
class Inserted:
    """What became of a graph's weights.

    Attributes:
      weights: those that are not quantised, and still inputs of the graph.
      quantised: names of the kernels that are constants in narrow values now.
      values: how many values these hold.
      packed_bytes: what they take with their scales.
    """

    weights: Mapping[str, Any]
    quantised: tuple[str, ...]
    values: int
    packed_bytes: int


def insert(
    model: onnx.ModelProto,
    weights: Mapping[str, Any],
    recipe: Recipe,
    ranges: Ranges | None = None,
) -> Inserted:
    """Quantises the kernels of a converted model in place, and the inputs of their products.

    Args:
      model: from `onnx_file.convert`: weights are inputs of the graph, by name.
      weights: name -> array of every weight.
      recipe: which become what.
      ranges: of the activations; needed where the recipe quantises them.

    Raises:
      ConfigError: activations without ranges, or a chosen kernel that is no matrix product here.
      InputError: a layer that was not calibrated.
    """
    if recipe.activations and ranges is None:
        raise ConfigError(
            f"{recipe.format} activations need calibrated ranges; calibrate on clips first"
        )
    chosen = kernels_taken(weights, recipe)
    read = {node.input[1] for node in all_nodes(model.graph) if _is_product(node)}
    if missing := [name for name in chosen if name not in read]:
        raise ConfigError(
            f"{missing[0]} is not the kernel of a matrix product of this graph; keep its layer out of "
            f"the recipe ({chosen[missing[0]][0]})"
        )
    scales = {}
    if recipe.activations:
        for name, (path, layer) in chosen.items():
            largest = ranges.at(path, recipe.percentile)
            largest = largest if layer is None else largest[layer]
            scale = scale_of(largest, recipe.format, weights[name].dtype)
            scales[name] = np.asarray(scale).astype(weights[name].dtype)
        _quantise_inputs(model.graph, model.graph, scales, recipe.format, itertools.count())
    nodes, values, packed = [], 0, 0
    for name in chosen:
        q = quantise(jnp.asarray(weights[name]), recipe.format, recipe.axis)
        nodes += _dequantised(model.graph, name, q, weights[name].dtype)
        values, packed = values + q.values.size, packed + q.bits // 8
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    kept = [value for value in model.graph.input if value.name not in chosen]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, _IR_VERSION)
    left = {name: array for name, array in weights.items() if name not in chosen}
    return Inserted(left, tuple(chosen), values, packed)


def kernels_taken(
    weights: Mapping[str, Any], recipe: Recipe
) -> dict[str, tuple[str, int | None]]:
    """Name of every kernel that a recipe quantises -> its layer, see `layer_of`."""
    places = {name: layer_of(name) for name in weights}
    return {
        name: place
        for name, place in places.items()
        if place is not None and recipe.takes(place[0], weights[name].shape[-2])
    }


def move_constants(model: onnx.ModelProto, path: pathlib.Path, least: int = 4096) -> bool:
    """Moves the values of large constants into a file beside the model, which would grow past what
    one message may hold.

    Args:
      model: about to be written into the same folder.
      path: the file.
      least: bytes; smaller constants stay, as do those that are in a file already.

    Returns:
      Whether there was anything to move.
    """
    offset = 0
    with open(path, "wb") as file:
        for constant in model.graph.initializer:
            data = constant.raw_data
            if len(data) < least or constant.data_location == TensorProto.EXTERNAL:
                continue
            file.write(data)
            set_external_data(constant, path.name, offset=offset, length=len(data))
            constant.ClearField("raw_data")
            offset += len(data)
    if not offset:
        path.unlink()
    return offset > 0


def layer_of(weight: str) -> tuple[str, int | None] | None:
    """The layer whose kernel a weight is: its path as the recipe names it, and its number.

    `vlm.language_model.layers.3.self_attn.q_proj.kernel` is that of layer 3 at
    "vlm/language_model/layers/self_attn/q_proj"; None for what is no kernel.
    """
    *parts, last = weight.split(".")
    if last != "kernel":
        return None
    for i in range(1, len(parts)):
        if parts[i - 1] in STACKED and parts[i].isdecimal():
            return "/".join((*parts[:i], *parts[i + 1 :])), int(parts[i])
    return "/".join(parts), None


def tensor(name: str, array: np.ndarray) -> TensorProto:
    """An ONNX constant; four-bit values are packed, two to a byte, the first in the low half."""
    array = np.ascontiguousarray(array)
    data = array.tobytes()
    if array.dtype.name == "float4_e2m1fn":
        codes = array.view(np.uint8).reshape(-1) & 0xF
        codes = np.append(codes, np.zeros(codes.size % 2, np.uint8))
        data = (codes[0::2] | codes[1::2] << 4).tobytes()
    return helper.make_tensor(name, _TYPES[array.dtype.name], array.shape, data, raw=True)


def _is_product(node: onnx.NodeProto) -> bool:
    return node.op_type == "MatMul" and len(node.input) == 2


def _dequantised(
    graph: onnx.GraphProto, name: str, q: Quantised, dtype: Any
) -> list[onnx.NodeProto]:
    """Constants of a quantised kernel, and the nodes that make `name` of them in type `dtype`."""
    scale = np.asarray(q.scale).astype(dtype).reshape(-1)
    constants = {f"{name}.values": np.asarray(q.values)}
    where = module_of(name)
    if q.block_scale is not None:
        constants[f"{name}.block_scale"] = np.asarray(q.block_scale)
        constants[f"{name}.scale"] = scale[0].reshape(())
        inputs = [f"{name}.values", f"{name}.block_scale.dequantised"]
        nodes = [
            helper.make_node(
                "DequantizeLinear", [f"{name}.block_scale", f"{name}.scale"], inputs[1:],
                name=f"{where}/block_scale/DequantizeLinear",
            ),
            helper.make_node(
                "DequantizeLinear", inputs, [name], name=f"{where}/kernel/DequantizeLinear",
                axis=0, block_size=BLOCK,
            ),
        ]  # fmt: skip
    else:
        per_channel = scale.size > 1 or q.scale.shape[-1] == q.shape[-1]
        scale = scale if per_channel else scale.reshape(())
        constants[f"{name}.scale"] = scale
        constants[f"{name}.zero"] = np.zeros(scale.shape, constants[f"{name}.values"].dtype)
        nodes = [
            helper.make_node(
                "DequantizeLinear", list(constants), [name],
                name=f"{where}/kernel/DequantizeLinear", **({"axis": 1} if per_channel else {}),
            )
        ]  # fmt: skip
    graph.initializer.extend(tensor(key, value) for key, value in constants.items())
    return nodes


def _quantise_inputs(
    top: onnx.GraphProto,
    graph: onnx.GraphProto,
    scales: Mapping[str, np.ndarray],
    format: str,
    numbers: Iterator[int],
) -> None:
    """Q/DQ on the first input of every product with a scaled kernel, in a graph and its bodies.

    Products that read the same value by the same scale share the two nodes.
    """
    nodes, done = [], {}
    zero = np.zeros((), np.int8 if format == "int8" else jnp.float8_e4m3fn)
    for node in graph.node:
        for body in subgraphs(node):
            _quantise_inputs(top, body, scales, format, numbers)
        if _is_product(node) and node.input[1] in scales:
            kernel, value = node.input[1], node.input[0]
            scale = scales[kernel]
            key = value, scale.tobytes()
            if key not in done:
                layer = kernel.removesuffix(".kernel")
                constants = f"{layer}.input_scale", f"{layer}.input_zero"
                have = {t.name for t in top.initializer}
                if constants[0] not in have:
                    top.initializer.append(tensor(constants[0], scale))
                    top.initializer.append(tensor(constants[1], zero))
                number = next(numbers)
                names = [f"{layer}.input.{number}.{kind}" for kind in ("narrow", "rounded")]
                where = f"{module_of(kernel)}/input.{number}"
                nodes.append(
                    helper.make_node(
                        "QuantizeLinear", [value, *constants], names[:1],
                        name=f"{where}/QuantizeLinear",
                    )
                )  # fmt: skip
                nodes.append(
                    helper.make_node(
                        "DequantizeLinear", [names[0], *constants], names[1:],
                        name=f"{where}/DequantizeLinear",
                    )
                )  # fmt: skip
                done[key] = names[1]
            node.input[0] = done[key]
        nodes.append(node)
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
