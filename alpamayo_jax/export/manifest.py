"""What an export folder says about itself: every artefact, its ports, checksum, parity, validity.

`manifest.json` is written last, so a folder without one is no export. Only the standard library is
needed to read it.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any, Mapping

from alpamayo_jax.errors import InputError
from alpamayo_jax.files import write_bytes

FILE = "manifest.json"
VERSION = 1


@dataclasses.dataclass(frozen=True)
class Port:
    """One input or output of an artefact.

    Attributes:
      name: as the stage, the graph and the loader call it.
      shape: sizes; a string is a size chosen at run time, such as "batch".
      dtype: NumPy name of the type, e.g. "float32", "bfloat16", "bool".
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far an artefact's outputs are from those of the model in JAX on the same inputs.

    Attributes:
      windows: moments of drives that were compared.
      runner: what ran the artefact, e.g. "onnxruntime 1.32.0 CPUExecutionProvider".
      reference: what it was compared with, e.g. "jax 0.10.2 cpu, float32".
      errors: output -> largest absolute difference over all windows; integer outputs count the
        elements that differ.
      tolerance: what `errors` of float outputs may reach.
      tokens_identical: of stages that write tokens: whether all of them are the same; else None.
      passed: all errors within tolerance or floor, and tokens identical.
      floors: of what starts from noise: output -> how far the model in JAX is from itself when the
        noise moves by four units in the last place of float32. An artefact may be as far off.
    """

    windows: int
    runner: str
    reference: str
    errors: Mapping[str, float]
    tolerance: float
    passed: bool
    tokens_identical: bool | None = None
    floors: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Artefact:
    """One program in the folder.

    Attributes:
      stage: name of the stage, see `stages.STAGES`.
      format: "stablehlo", "onnx" or "tensorrt".
      file: path of the program inside the folder.
      precision: "fp32", "bf16", "fp8", "int8" or "nvfp4".
      inputs: in the order of the program.
      outputs: in the order of the program.
      files: every file that belongs to the artefact (the program, external weights, caches),
        path inside the folder -> SHA-256.
      sizes: static sizes (the length bucket), see `stages.Sizes`.
      parity: None until it has been run.
      valid: it has been run and is within tolerance.
      note: why it is not valid, or what else must be known; "" for nothing.
      details: what is particular to the format: platforms, opset, operators with their counts,
        target, build times.
    """

    stage: str
    format: str
    file: str
    precision: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    files: Mapping[str, str]
    sizes: Mapping[str, int]
    parity: Parity | None = None
    valid: bool = False
    note: str = ""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """All of one export.

    Attributes:
      format: "stablehlo", "onnx" or "tensorrt".
      precision: as of the artefacts.
      target: compute capability such as "sm120", "" where the format has none.
      artefacts: one per stage.
      versions: of what made it: python, alpamayo_jax, jax, numpy, onnx, ...
      model: what the host needs to drive the stages: sizes and token ids, see `stages.host_facts`.
      valid: every artefact is.
      version: of this file's layout.
    """

    format: str
    precision: str
    target: str
    artefacts: tuple[Artefact, ...]
    versions: Mapping[str, str]
    model: Mapping[str, Any]
    valid: bool = False
    version: int = VERSION

    def artefact(self, stage: str) -> Artefact:
        """The artefact of a stage.

        Raises:
          InputError: there is none.
        """
        for artefact in self.artefacts:
            if artefact.stage == stage:
                return artefact
        known = ", ".join(a.stage for a in self.artefacts)
        raise InputError(f"the export has no stage {stage!r}; it has {known}")


def sha256(path: pathlib.Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(folder: pathlib.Path, manifest: Manifest) -> None:
    """Writes `manifest.json`, whole or not at all."""
    text = json.dumps(dataclasses.asdict(manifest), indent=1, allow_nan=False)
    write_bytes(folder / FILE, text.encode())


def read(folder: pathlib.Path) -> Manifest:
    """The manifest of an export folder; files are not looked at.

    Raises:
      InputError: there is none (an export that was not finished has none), or it is not one.
    """
    path = folder / FILE
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} has no {FILE}: no export, or one that was not finished; run it again"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict) or values.get("version") != VERSION:
        found = values.get("version") if isinstance(values, dict) else type(values).__name__
        raise InputError(f"{path} has version {found}, expected {VERSION}; export again")
    try:
        artefacts = tuple(_artefact(fields) for fields in values.pop("artefacts"))
        return Manifest(artefacts=artefacts, **values)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no manifest: {error}; export again") from error


def check_files(folder: pathlib.Path, artefact: Artefact) -> None:
    """Compares the files of an artefact with their checksums.

    Raises:
      InputError: a file is missing, outside of the folder, or has other bytes.
    """
    for name, expected in artefact.files.items():
        path = inside(folder, name)
        if not path.is_file():
            raise InputError(f"{path} is missing; export again")
        if sha256(path) != expected:
            raise InputError(f"{path} is not the file that was exported (its checksum differs)")


def inside(folder: pathlib.Path, name: str) -> pathlib.Path:
    """A file of an export folder.

    Raises:
      InputError: the name leads out of the folder.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InputError(f"{folder / FILE} names {name!r}, which is outside of the folder")
    return path


def _artefact(fields: dict[str, Any]) -> Artefact:
    ports = {
        kind: tuple(Port(p["name"], tuple(p["shape"]), p["dtype"]) for p in fields.pop(kind))
        for kind in ("inputs", "outputs")
    }
    parity = fields.pop("parity")
    return Artefact(**fields, **ports, parity=None if parity is None else Parity(**parity))
