"""Where a run's numbers go: a JSON-lines file, TensorBoard event files, Weights & Biases.

A writer is told the step that a run starts from, so that what a stopped run wrote beyond its last
checkpoint is not there twice.
"""

import json
import pathlib
import struct
import time
import zlib
from typing import Mapping, Protocol

from alpamayo_jax import files
from alpamayo_jax.config import ConfigError


class Writer(Protocol):
    """Takes named numbers."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of one step."""

    def close(self) -> None:
        """Nothing follows."""


class JsonLines:
    """One line per step in a file: {"step": 10, "loss": 1.5, ...}."""

    def __init__(self, path: str | pathlib.Path, start: int = 0):
        """Opens the file; lines of steps after `start`, and a cut-off last line, are dropped."""
        kept = [line for line in read_json_lines(path) if line["step"] <= start]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        self._file = files.write_bytes(path, text.encode()).open("a")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_json_lines(path: str | pathlib.Path) -> list[dict]:
    """The whole lines of such a file; none if it is not there."""
    path, lines = pathlib.Path(path), []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:  # the line that a killed run was writing
            break
    return lines


class TensorBoard:
    """Event files as TensorBoard reads them, written here: its own writer needs TensorFlow.

    An event is a protocol buffer (`Event` in tensorboard/compat/proto/event.proto) in a record of
    length, checksum of the length, bytes and checksum of the bytes.
    """

    def __init__(self, folder: str | pathlib.Path, start: int = 0):
        """Begins a new file; TensorBoard forgets what older ones hold for steps after `start`."""
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"events.out.tfevents.{time.time_ns():020d}").open("ab")
        self._record(_field(3, b"brain.Event:2"))
        session_start = _field(7, _field(1, 1))
        self._record(_field(2, start + 1) + session_start)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        summary = b"".join(
            _field(1, _field(1, name.encode()) + _field(2, float(value)))
            for name, value in values.items()
        )
        self._record(_field(2, step) + _field(5, summary))

    def close(self) -> None:
        self._file.close()

    def _record(self, event: bytes) -> None:
        data = struct.pack("<Bd", 1 << 3 | 1, time.time()) + event  # field 1: wall time
        length = struct.pack("<Q", len(data))
        self._file.write(length + _masked_crc(length) + data + _masked_crc(data))
        self._file.flush()


class WeightsAndBiases:
    """A run on Weights & Biases, which goes on when training does."""

    def __init__(self, project: str, folder: str | pathlib.Path, config: Mapping, start: int = 0):
        """Starts the run, or resumes the one that `folder` is of.

        Raises:
          ConfigError: the package is not installed.
        """
        try:
            import wandb
        except ImportError:
            raise ConfigError(
                "wandb_project is set, but the package wandb is not installed: pip install wandb, "
                "or leave it empty"
            ) from None
        del start  # the service keeps the first value of a step
        identity = f"{zlib.crc32(str(pathlib.Path(folder).absolute()).encode()):08x}"
        self._run = wandb.init(
            project=project, dir=str(folder), id=identity, resume="allow", config=dict(config)
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | float | bytes) -> bytes:
    """A protocol-buffer field: a varint, a 32-bit float or bytes."""
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    return _varint(number << 3) + _varint(value)


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC_TABLE = _crc_table()


def _masked_crc(data: bytes) -> bytes:
    """CRC-32C, rotated and shifted as records have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
