"""Arrays of any placement -> safetensors files, one leaf at a time."""

import dataclasses
import itertools
import json
import math
import pathlib
from typing import Any, Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.convert import buffers
from alpamayo_jax.convert.checkpoint_files import INDEX, SINGLE
from alpamayo_jax.convert.table import Parameter
from alpamayo_jax.convert.tensor_file import write_file
from alpamayo_jax.errors import InputError


def write_weights(
    directory: pathlib.Path,
    config: ModelConfig,
    leaves: Mapping[Parameter, Any],
    buffer_names: Sequence[str],
    max_shard_bytes: int,
) -> None:
    """Writes model.safetensors, or shards and their index.

    Args:
      directory: must exist.
      config: the model.
      leaves: every row of the table and its array.
      buffer_names: constants to write after the parameters.
      max_shard_bytes: above this the weights are split.

    Raises:
      InputError: a parameter has NaN or infinite values.
    """
    parts = [_Part.of_leaf(row, leaf) for row, leaf in leaves.items()]
    # The release casts its constants together with the projection that uses them.
    dtype = parts[-1].dtype
    constants = buffers.stored_values(config, dtype)
    parts += [_Part([(n, constants[n].shape)], dtype, [constants[n]]) for n in buffer_names]
    # Wide types first keeps every tensor of a file aligned to its item size.
    parts.sort(key=lambda part: -part.dtype.itemsize)
    specs = [(name, part.dtype, shape) for part in parts for name, shape in part.tensors]
    stream = itertools.chain.from_iterable(part.arrays for part in parts)
    shards = _split(specs, max_shard_bytes)
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        single = len(shards) == 1
        file = SINGLE if single else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_file(directory / file, shard, itertools.islice(stream, len(shard)), {"format": "pt"})
        weight_map |= {name: file for name, _, _ in shard}
    if len(shards) > 1:
        metadata = {
            "total_parameters": sum(math.prod(shape) for _, _, shape in specs),
            "total_size": sum(_nbytes(spec) for spec in specs),
        }
        text = json.dumps(
            {"metadata": metadata, "weight_map": weight_map}, indent=2, sort_keys=True
        )
        (directory / INDEX).write_text(text + "\n", encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class _Part:
    """Tensors of one type: (name, shape) of each, and their values when asked for."""

    tensors: list[tuple[str, tuple[int, ...]]]
    dtype: np.dtype
    arrays: Iterable[np.ndarray]

    @classmethod
    def of_leaf(cls, row: Parameter, leaf: Any) -> "_Part":
        tensors = [(name, row.hf_shape) for name, _ in row.tensors()]
        return cls(tensors, np.dtype(leaf.dtype), _leaf_tensors(row, leaf))


def _leaf_tensors(row: Parameter, leaf: Any) -> Iterator[np.ndarray]:
    blocks = _host_blocks(leaf)
    for name, layer in row.tensors():
        tensor = row.to_hf(_assemble(row, blocks, layer))
        with np.errstate(invalid="ignore"):
            finite = np.isfinite(tensor).all()
        if not finite:
            raise InputError(f"parameter {'/'.join(row.path)} ({name}) has NaN or infinite values")
        yield tensor


def _host_blocks(leaf: Any) -> list[tuple[tuple[slice, ...], np.ndarray]]:
    """(index, values) of the distinct pieces of an array, on the host."""
    if not isinstance(leaf, jax.Array):
        return [((slice(None),) * np.ndim(leaf), np.asarray(leaf))]
    return [(s.index, np.asarray(s.data)) for s in leaf.addressable_shards if s.replica_id == 0]


def _assemble(row: Parameter, blocks: list, layer: int | None) -> np.ndarray:
    if len(blocks) == 1:
        values = blocks[0][1]
        return values if layer is None else values[layer]
    out = np.empty(row.shape, blocks[0][1].dtype)
    for index, values in blocks:
        if layer is None:
            out[index] = values
        elif layer in (held := range(*index[0].indices(row.num_layers))):
            out[index[1:]] = values[layer - held.start]
    return out


def _split(specs: list, max_bytes: int) -> list[list]:
    """Consecutive groups of at most `max_bytes`; a larger tensor is a group of its own."""
    groups: list[list] = [[]]
    size = 0
    for spec in specs:
        if groups[-1] and size + _nbytes(spec) > max_bytes:
            groups.append([])
            size = 0
        groups[-1].append(spec)
        size += _nbytes(spec)
    return groups


def _nbytes(spec: tuple[str, np.dtype, tuple[int, ...]]) -> int:
    return math.prod(spec[2]) * spec[1].itemsize
