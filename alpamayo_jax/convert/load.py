"""Checkpoint directory -> parameter tree, leaf by leaf, straight onto its devices."""

import math
import pathlib
from typing import Any, Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.convert.check import check_tensors, raise_problems
from alpamayo_jax.convert.checkpoint_files import tensor_entries
from alpamayo_jax.convert.table import Parameter, flatten, nest, parameters
from alpamayo_jax.convert.tensor_file import FLOAT_DTYPES, TensorEntry

_STRIP = 128  # a transposed copy in narrow strips stays in the processor's cache
_ALIGNMENT = 64  # the CPU backend takes over host memory aligned like this without a copy


def load_params(
    directory: str | pathlib.Path,
    config: ModelConfig,
    *,
    shardings: Mapping | None = None,
    dtype: Any = None,
    check_finite: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Reads the parameters of a Hugging Face checkpoint directory.

    Strict: a missing, extra, misshaped or mistyped tensor is an error, and the error lists every
    one. Buffers may be present (then they must agree with `config`) or absent. Beside the
    parameters, host memory holds one leaf at a time, and of it only what the devices of this
    process need.

    Args:
      directory: has model.safetensors, or shards and model.safetensors.index.json.
      config: the model, see `read_config`.
      shardings: a `jax.sharding.Sharding` per parameter, as a tree like the parameters; None puts
        everything on the default device.
      dtype: type of every parameter; None keeps the checkpoint's.
      check_finite: NaN and infinite parameters are an error.
      progress: called after every leaf with (bytes read, bytes in all).

    Returns:
      Nested dict of `jax.Array`; layers are stacked on a leading axis, kernels are [in, out].

    Raises:
      InputError: the checkpoint is damaged or is not of this configuration.
      ValueError: `shardings` is not a tree like the parameters.
    """
    entries = tensor_entries(directory)
    check_tensors(directory, config, entries)
    rows = parameters(config)
    placed = _placements(rows, shardings)
    total = sum(entries[name].nbytes for row in rows for name, _ in row.tensors())
    leaves, bad, done = {}, set(), 0
    for row in rows:
        names = [name for name, _ in row.tensors()]
        stored = FLOAT_DTYPES[entries[names[0]].dtype]
        reader = _Reader(row, entries, stored if dtype is None else jnp.dtype(dtype), check_finite)
        leaves[row.path] = reader.to_device(placed[row.path])
        bad |= reader.not_finite
        done += sum(entries[name].nbytes for name in names)
        if progress is not None:
            progress(done, total)
    raise_problems(directory, [f"tensor {name} has NaN or infinite values" for name in sorted(bad)])
    return nest(leaves)


def _placements(rows: Sequence[Parameter], shardings: Mapping | None) -> Mapping:
    if shardings is None:
        return {row.path: None for row in rows}
    placed = flatten(shardings)
    differ = sorted("/".join(path) for path in {row.path for row in rows} ^ set(placed))
    if differ:
        raise ValueError(f"shardings and parameters differ in {', '.join(differ)}")
    return placed


class _Reader:
    """Reads slices of one leaf out of the released tensors that it is made of."""

    def __init__(
        self,
        row: Parameter,
        entries: Mapping[str, TensorEntry],
        dtype: np.dtype,
        check_finite: bool,
    ):
        self.row, self.entries, self.dtype, self.check_finite = row, entries, dtype, check_finite
        self.not_finite: set[str] = set()
        self._slices: dict[tuple, np.ndarray] = {}

    def to_device(self, sharding: jax.sharding.Sharding | None) -> jax.Array:
        shape = self.row.full_shape
        if sharding is None:
            return jax.device_put(self.read((slice(None),) * len(shape)))
        return jax.make_array_from_callback(shape, sharding, self.read)

    def read(self, index: Sequence[slice]) -> np.ndarray:
        """The slice `index` of the leaf; devices that hold the same slice share one copy."""
        row = self.row
        index = tuple(slice(*s.indices(n)) for s, n in zip(index, row.full_shape, strict=True))
        key = tuple((s.start, s.stop) for s in index)
        if key not in self._slices:
            out = _empty([s.stop - s.start for s in index], self.dtype)
            if row.num_layers is None:
                self._copy(row.hf_name, out, index)
            else:
                for slot, layer in enumerate(range(index[0].start, index[0].stop)):
                    self._copy(row.hf_name.format(layer), out[slot], index[1:])
            self._slices[key] = out
        return self._slices[key]

    def _copy(self, name: str, out: np.ndarray, index: tuple[slice, ...]) -> None:
        source = self.row.from_hf(self.entries[name].map())[index]
        for start in range(0, out.shape[-1], _STRIP):
            strip = np.s_[..., start : start + _STRIP]
            with np.errstate(over="ignore", invalid="ignore"):  # the next lines report it
                out[strip] = source[strip]
                if self.check_finite and not np.isfinite(out[strip]).all():
                    self.not_finite.add(name)


def _empty(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    count = math.prod(shape) * dtype.itemsize
    memory = np.empty(count + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + count].view(dtype).reshape(shape)
