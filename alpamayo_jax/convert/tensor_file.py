"""The safetensors format: 8 bytes of header length, a JSON header, the tensors' bytes.

Read and written here rather than through the `safetensors` package for two reasons: every tensor is
mapped alone, so that host memory holds what was asked for and not the file, and an error names the
file and the tensor. bfloat16 is NumPy's through ml_dtypes.
"""

import dataclasses
import json
import math
import os
import pathlib
from typing import Any, Iterable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from alpamayo_jax.errors import InputError

FLOAT_DTYPES = {
    "BF16": np.dtype(jnp.bfloat16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
}
DTYPE_NAMES = {dtype: name for name, dtype in FLOAT_DTYPES.items()}
_ITEM_BYTES = {"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "BF16": 2,
               "F16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1,
               "F8_E5M2": 1}  # fmt: skip
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit


@dataclasses.dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies.

    Attributes:
      path: the file.
      name: the tensor.
      dtype: name in the file, e.g. "BF16".
      shape: sizes.
      offset: first byte in the file.
    """

    path: pathlib.Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]

    def map(self) -> np.ndarray:
        """The tensor [shape], read-only, its bytes read as they are touched."""
        dtype = FLOAT_DTYPES[self.dtype]
        if not self.nbytes:
            return np.zeros(self.shape, dtype)
        flat = np.memmap(self.path, np.uint8, "r", self.offset, (self.nbytes,))
        return flat.view(np.ndarray).view(dtype).reshape(self.shape)


def read_header(path: pathlib.Path) -> dict[str, TensorEntry]:
    """Name -> place of every tensor of a safetensors file.

    Raises:
      InputError: the file is cut off, its header is not the format's, or the tensors overlap, leave
        gaps or do not end where the file does.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
                raise InputError(
                    f"{path}: not a safetensors file, or cut off: {size} bytes, and the first 8 "
                    f"announce a header of {length}; fetch or save the file again"
                )
            header = _parse_json(path, file.read(length))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    header.pop("__metadata__", None)
    entries = {n: _entry(path, n, fields, 8 + length) for n, fields in header.items()}
    end = 8 + length
    for entry in sorted(entries.values(), key=lambda e: (e.offset, e.nbytes)):
        if entry.offset != end:
            what = (
                "overlaps the tensor before it" if entry.offset < end else "leaves a gap before it"
            )
            raise InputError(
                f"{path}: tensor {entry.name} {what}: starts at byte {entry.offset}, expected {end}"
            )
        end += entry.nbytes
    if end != size:
        raise InputError(
            f"{path}: the header describes {end} bytes, the file has {size}"
            + (" (cut off in the middle); fetch or save it again" if size < end else "")
        )
    return entries


def _parse_json(path: pathlib.Path, text: bytes) -> dict[str, Any]:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            names = [key for key, _ in items]
            twice = sorted({key for key in names if names.count(key) > 1})
            raise InputError(f"{path}: the header lists {', '.join(twice)} more than once")
        return found

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=pairs)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: the safetensors header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise InputError(f"{path}: the safetensors header is not a JSON object")
    return header


def _entry(path: pathlib.Path, name: str, fields: Any, start: int) -> TensorEntry:
    def whole(values: Any) -> bool:
        return isinstance(values, list) and all(
            isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values
        )

    fields = fields if isinstance(fields, dict) else {}
    dtype, shape, span = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or not whole(shape) or not whole(span) or len(span) != 2:
        raise InputError(
            f"{path}: the header must give dtype, shape and data_offsets of {name}, has {fields}"
        )
    if dtype not in _ITEM_BYTES:
        raise InputError(
            f"{path}: tensor {name} has the unknown type {dtype}, expected one of "
            f"{', '.join(FLOAT_DTYPES)}"
        )
    entry = TensorEntry(path, name, dtype, tuple(shape), start + span[0])
    if entry.nbytes != span[1] - span[0]:
        raise InputError(
            f"{path}: tensor {name} has data_offsets {span}, but {dtype} {shape} takes "
            f"{entry.nbytes} bytes"
        )
    return entry


def write_file(
    path: pathlib.Path,
    specs: Sequence[tuple[str, np.dtype, tuple[int, ...]]],
    arrays: Iterable[np.ndarray],
    metadata: Mapping[str, str],
) -> None:
    """Writes a safetensors file, one array at a time.

    Args:
      path: the file.
      specs: (name, dtype, shape) of every tensor.
      arrays: the tensors in the same order; each is written before the next is asked for.
      metadata: text fields of the header.

    Raises:
      ValueError: an array is not what `specs` says.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, dtype, shape in specs:
        end = offset + math.prod(shape) * dtype.itemsize
        header[name] = dict(dtype=DTYPE_NAMES[dtype], shape=list(shape), data_offsets=[offset, end])
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for (name, dtype, shape), array in zip(specs, arrays, strict=True):
            if (array.dtype, array.shape) != (dtype, shape):
                raise ValueError(
                    f"{name}: expected {dtype} {shape}, got {array.dtype} {array.shape}"
                )
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())
