"""Exported programs, loaded and run. StableHLO needs jax and NumPy alone, ONNX its runtime."""

import logging
import os
import pathlib
from typing import Any, Callable, Mapping

import numpy as np

from alpamayo_jax.errors import InputError
from alpamayo_jax.export import manifest as manifests
from alpamayo_jax.export.manifest import Artefact, Manifest

Outputs = dict[str, np.ndarray]
_Runner = Callable[[Mapping[str, np.ndarray]], Outputs]


class Program:
    """One stage, ready to run: `program(name=array, ...)` returns its outputs by name.

    Attributes:
      artefact: its entry in the manifest; `artefact.inputs` says what to pass.
    """

    def __init__(self, artefact: Artefact, run: _Runner):
        self.artefact = artefact
        self._run = run

    def __call__(self, **inputs: Any) -> Outputs:
        """Runs the stage.

        Raises:
          InputError: an input is missing, unknown, or has another shape or type.
        """
        return self._run(self._checked(inputs))

    def _checked(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        stage, ports = self.artefact.stage, {port.name: port for port in self.artefact.inputs}
        for what, names in (
            ("misses", set(ports) - set(inputs)),
            ("has no", set(inputs) - set(ports)),
        ):
            if names:
                raise InputError(f"stage {stage} {what} input {', '.join(sorted(names))}")
        arrays, chosen = {}, {}
        for name, port in ports.items():
            array = np.asarray(inputs[name])
            expected = tuple(
                chosen.setdefault(size, found) if isinstance(size, str) else size
                for size, found in zip(port.shape, array.shape)
            )
            if array.dtype.name != port.dtype or len(expected) != len(port.shape) or (
                array.shape != expected
            ):
                raise InputError(
                    f"input {name} of stage {stage} must be {port.dtype} {list(port.shape)}, got "
                    f"{array.dtype.name} {list(array.shape)}"
                )
            arrays[name] = array
        return arrays


class Exported:
    """An export folder: `exported["vision"]` is a `Program`, made when it is first asked for.

    Attributes:
      folder: where it lies.
      manifest: what it holds.
    """

    def __init__(self, folder: pathlib.Path, manifest: Manifest):
        self.folder = folder
        self.manifest = manifest
        self._programs: dict[str, Program] = {}
        self._weights: dict[str, Any] | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages."""
        return tuple(artefact.stage for artefact in self.manifest.artefacts)

    def __contains__(self, stage: str) -> bool:
        return stage in self.stages

    def __getitem__(self, stage: str) -> Program:
        """The program of a stage.

        Raises:
          InputError: there is no such stage, or one of its files is missing or damaged.
        """
        if stage not in self._programs:
            artefact = self.manifest.artefact(stage)
            manifests.check_files(self.folder, artefact)
            path = manifests.inside(self.folder, artefact.file)
            make = {"stablehlo": self._stablehlo, "onnx": _onnx, "tensorrt": _tensorrt}
            self._programs[stage] = Program(artefact, make[artefact.format](path, artefact))
        return self._programs[stage]

    def run(self, stage: str, values: Mapping[str, Any]) -> Outputs:
        """Runs a stage on those of `values` that are its inputs, see `driving.drive`.

        Raises:
          InputError: an input is missing, or has another shape or type.
        """
        program = self[stage]
        wanted = [port.name for port in program.artefact.inputs]
        return program(**{name: values[name] for name in wanted if name in values})

    def _stablehlo(self, path: pathlib.Path, artefact: Artefact) -> _Runner:
        import jax
        import jax.export

        from alpamayo_jax.convert.tensor_file import read_header

        program = jax.export.deserialize(bytearray(path.read_bytes()))
        names = artefact.details["weights"]
        if self._weights is None:
            self._weights = {}
        if missing := set(names) - set(self._weights):
            header = read_header(manifests.inside(self.folder, artefact.details["weights_file"]))
            self._weights |= {name: jax.numpy.asarray(header[name].map()) for name in missing}
        weights = {name: self._weights[name] for name in names}
        call = jax.jit(program.call)

        def run(inputs: Mapping[str, np.ndarray]) -> Outputs:
            return {name: np.asarray(a) for name, a in call(weights, dict(inputs)).items()}

        return run


def _onnx(path: pathlib.Path, artefact: Artefact) -> _Runner:
    from alpamayo_jax.export.onnx_run import open_model

    return open_model(path, artefact.precision)[0]


def _tensorrt(path: pathlib.Path, artefact: Artefact) -> _Runner:
    """The engine, or the ONNX file it was built from where it cannot run."""
    from alpamayo_jax.export import tensorrt

    kernels = path.with_suffix(".kernels")
    try:
        return tensorrt.Engine(path, artefact.details["target"], runtime_cache=kernels)
    except tensorrt.EngineUnavailable as error:
        logging.getLogger(__name__).warning("%s; running it instead", error)
        return _onnx(manifests.inside(path.parent, artefact.details["onnx"]), artefact)


def load(folder: str | os.PathLike) -> Exported:
    """Opens an export folder; programs are loaded as they are asked for.

    Stages that were not compared with JAX, or differ too much, are named in a warning.

    Raises:
      InputError: it is no finished export.
    """
    folder = pathlib.Path(folder)
    manifest = manifests.read(folder)
    invalid = [a.stage for a in manifest.artefacts if not a.valid]
    if invalid:
        logging.getLogger(__name__).warning("%s: not valid: %s", folder, ", ".join(invalid))
    return Exported(folder, manifest)
