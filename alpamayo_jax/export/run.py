"""One export from start to end: programs written to a side, run, compared, and put in place."""

import contextlib
import dataclasses
import importlib.util
import logging
import os
import pathlib
import platform
import shutil
import tempfile
from typing import Any, Iterator, Mapping, Sequence

import jax
import numpy as np

from alpamayo_jax.config import ConfigError
from alpamayo_jax.convert.tensor_file import TensorEntry, read_header, write_file
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.errors import InputError
from alpamayo_jax.export import manifest as manifests
from alpamayo_jax.export import onnx_file, parity, stablehlo
from alpamayo_jax.export.loading import Exported
from alpamayo_jax.export.manifest import Artefact, Manifest, Port
from alpamayo_jax.export.onnx_run import EVALUATED, open_model
from alpamayo_jax.export.stages import STAGES, Sizes, Stage, host_facts, make_stages, sizes_of
from alpamayo_jax.quantise import Ranges, cast_policy, make_recipe, quantise_params
from alpamayo_jax.types import ModelInputs, Observation

FORMATS = {
    "stablehlo": ("flatbuffers",),
    "onnx": ("jax2onnx", "onnx", "onnxruntime"),
    "tensorrt": ("jax2onnx", "onnx", "onnxruntime"),
}  # and the packages that they need
PRECISIONS = ("fp32", "bf16", "fp8", "int8", "nvfp4")
QUANTISED = ("fp8", "int8", "nvfp4")
WEIGHTS = "weights.safetensors"
_PARTIAL = ".export-"  # beginning of the names of folders of exports under way
_EVALUATED_WINDOWS = 1  # the reference evaluator takes minutes where a runtime takes seconds
_UNCHECKED = "not compared with JAX (parity was skipped)"
_DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


@dataclasses.dataclass(frozen=True)
class ExportSettings:
    """What is exported.

    Attributes:
      format: one of `FORMATS`.
      precision: one of `PRECISIONS`; stablehlo knows the first two.
      target: compute capability such as "sm120"; tensorrt alone.
      stages: which of `STAGES`.
      samples: K.
      new_tokens: N, the longest reasoning.
      skip_parity: write the programs unchecked, and say so.
    """

    format: str
    precision: str = "fp32"
    target: str = ""
    stages: tuple[str, ...] = STAGES
    samples: int = 1
    new_tokens: int = 64
    skip_parity: bool = False

    def __post_init__(self):
        if self.format not in FORMATS:
            raise ConfigError(f"format {self.format!r} is unknown; known: {', '.join(FORMATS)}")
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"precision {self.precision!r} is unknown; known: {', '.join(PRECISIONS)}"
            )
        unknown = [name for name in self.stages if name not in STAGES]
        if unknown or not self.stages:
            raise ConfigError(f"stages {', '.join(unknown)!r} unknown; known: {', '.join(STAGES)}")
        if self.samples < 1 or self.new_tokens < 1:
            raise ConfigError(
                f"samples {self.samples} and new_tokens {self.new_tokens} must be at least 1"
            )
        if self.format == "stablehlo" and self.precision in QUANTISED:
            raise ConfigError(
                f"stablehlo is written in fp32 or bf16; {self.precision} is for onnx and tensorrt"
            )
        if self.format == "tensorrt":
            from alpamayo_jax.export import tensorrt

            if not self.target:
                raise ConfigError(
                    "tensorrt needs a target: --target=" + ", ".join(tensorrt.BUILT_HERE)
                )
            if tensorrt.check_target(self.target, self.precision):
                tensorrt.targets.load_tensorrt()
        elif self.target:
            raise ConfigError(f"target {self.target!r} is for tensorrt; {self.format} has none")
        for package in FORMATS[self.format]:
            if importlib.util.find_spec(package) is None:
                raise ConfigError(
                    f"format {self.format} needs {package}, which is not installed; "
                    f"pip install 'alpamayo_jax[export]'"
                )


def export(
    policy: Policy,
    observations: Sequence[Observation],
    workdir: str | os.PathLike,
    settings: ExportSettings,
    ranges: Ranges | None = None,
) -> Manifest:
    """Writes programs of a policy, their weights and a manifest into a folder.

    Nothing appears in the folder until everything is written and compared, and the manifest comes
    last; what was there before stays when anything fails.

    Args:
      policy: what is exported.
      observations: moments of drives. They say how many cameras, frames and pixels the programs
        take, how long prompts are, and what the comparison runs on.
      workdir: the folder, which exists.
      settings: what is exported.
      ranges: of the activations; needed for fp8 and int8.

    Raises:
      ConfigError: something cannot be exported so.
      InputError: observations of different sizes, or the folder cannot be written.
    """
    # Engines compute in bfloat16 around narrow products; ONNX files also run where that is missing.
    around = "bf16" if settings.format == "tensorrt" else "fp32"
    dtype = _DTYPES.get(settings.precision, _DTYPES[around])
    policy = cast_policy(policy, dtype)
    windows = make_windows(policy, observations)
    sizes = sizes_of(windows[0], samples=settings.samples, new_tokens=settings.new_tokens)
    folder = pathlib.Path(workdir)
    try:
        with _beside(folder) as partial:
            artefacts = _write(policy, sizes, partial, settings, ranges)
            manifest = Manifest(
                format=settings.format,
                precision=settings.precision,
                target=settings.target,
                artefacts=artefacts,
                versions=_versions(settings),
                model=host_facts(policy.config),
            )
            manifest = _checked(manifest, policy, sizes, windows, partial, settings, ranges)
            manifests.write(partial, manifest)
            _put_in_place(partial, folder)
    except OSError as error:
        raise InputError(
            f"the export cannot be written to {folder}: {error.strerror or error}; nothing of it is kept"
        ) from error
    return manifest


def make_windows(policy: Policy, observations: Sequence[Observation]) -> list[ModelInputs]:
    """Batches of one row, all of one bucket.

    Raises:
      InputError: no observation, or images of different number or size.
    """
    if not observations:
        raise InputError("an export needs at least one observation to take its sizes from")
    process = policy.processor.inputs
    first = [process([o], pad_to="bucket") for o in observations]
    length = max(inputs.input_ids.shape[1] for inputs in first)
    windows = [
        inputs if inputs.input_ids.shape[1] == length else process([o], pad_to=length)
        for o, inputs in zip(observations, first)
    ]
    for o, inputs in zip(observations, windows):
        if inputs.pixel_values.shape != windows[0].pixel_values.shape:
            raise InputError(
                f"observation of clip {o.clip_id!r} at t0={o.t0:.3f} s has images "
                f"{list(inputs.pixel_values.shape[1:3])} (number, patches), the first one "
                f"{list(windows[0].pixel_values.shape[1:3])}; export one rig at a time"
            )
    return windows


@contextlib.contextmanager
def _beside(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder inside of `folder` that is gone in the end, whatever happens."""
    for old in folder.glob(f"{_PARTIAL}*"):  # of an export that was killed
        shutil.rmtree(old, ignore_errors=True)
    partial = pathlib.Path(tempfile.mkdtemp(dir=folder, prefix=_PARTIAL))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(partial: pathlib.Path, folder: pathlib.Path) -> None:
    (folder / manifests.FILE).unlink(missing_ok=True)  # from here on it is no whole export
    names = sorted(path.name for path in partial.iterdir() if path.name != manifests.FILE)
    for name in (*names, manifests.FILE):
        os.chmod(partial / name, 0o644)
        os.replace(partial / name, folder / name)


def _write(
    policy: Policy,
    sizes: Sizes,
    folder: pathlib.Path,
    settings: ExportSettings,
    ranges: Ranges | None,
) -> tuple[Artefact, ...]:
    if settings.format == "stablehlo":
        return _write_stablehlo(policy, sizes, folder, settings)
    artefacts = _write_onnx(policy, sizes, folder, settings, ranges)
    if settings.format == "onnx":
        return artefacts
    from alpamayo_jax.export.engines import write_engines

    return write_engines(artefacts, folder, settings.target)


def _write_stablehlo(policy, sizes, folder, settings) -> tuple[Artefact, ...]:
    stages = stablehlo.symbolic_stages(policy.config, policy.params, sizes, settings.stages)
    weights = {name: leaf for stage in stages.values() for name, leaf in stage.weights.items()}
    _write_weights(folder / WEIGHTS, weights)
    artefacts = []
    for name, stage in stages.items():
        logging.info("stablehlo: %s", name)
        path = folder / f"{name}.stablehlo"
        stablehlo.write(stage, path)
        details = {
            "platforms": list(stablehlo.PLATFORMS),
            "weights_file": WEIGHTS,
            "weights": list(stage.weights),
        }
        files = [path, folder / WEIGHTS] if stage.weights else [path]
        artefacts.append(_artefact(stage, path, settings, files, details))
    return tuple(artefacts)


def _write_onnx(policy, sizes, folder, settings, ranges) -> tuple[Artefact, ...]:
    from alpamayo_jax.export import onnx_graph

    stages = make_stages(
        policy.config, policy.params, sizes, unroll=True, names=settings.stages
    )
    external = _external_weights(stages, folder, settings)
    artefacts = []
    for name, stage in stages.items():
        logging.info("onnx: %s", name)
        model, weights, details = onnx_file.convert(stage), dict(stage.weights), {}
        beside, large = folder / f"{name}.constants", False
        if settings.precision in QUANTISED:
            from alpamayo_jax.export import qdq

            recipe = make_recipe(settings.precision)
            reads = {n: np.asarray(leaf) for n, leaf in weights.items()}
            inserted = qdq.insert(model, reads, recipe, ranges)
            weights = dict(inserted.weights)
            details = {"quantised": list(inserted.quantised)}
            large = inserted.packed_bytes > onnx_file.EMBEDDED_BYTES
        own = {n: entry for n, entry in external.items() if n in weights}
        onnx_file.add_weights(model, weights, external=own)
        path = folder / f"{name}.onnx"
        large = large and qdq.move_constants(model, beside)
        onnx_file.write(model, path)
        details |= {
            "opset": model.opset_import[0].version,
            "operators": onnx_graph.operators(model),
            "weights_file": WEIGHTS if own else "",
        }
        files = [path, *([folder / WEIGHTS] if own else []), *([beside] if large else [])]
        artefacts.append(_artefact(stage, path, settings, files, details))
    return tuple(artefacts)


def _external_weights(
    stages: Mapping[str, Stage], folder: pathlib.Path, settings: ExportSettings
) -> dict[str, TensorEntry]:
    """Weights in a file that all stages share, where a model with its own would be large."""
    weights = {name: leaf for stage in stages.values() for name, leaf in stage.weights.items()}
    if settings.precision in QUANTISED:  # what becomes narrow stands beside each stage
        from alpamayo_jax.export import qdq

        narrow = qdq.kernels_taken(weights, make_recipe(settings.precision))
        weights = {name: leaf for name, leaf in weights.items() if name not in narrow}
    size = sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in weights.values())
    if size <= onnx_file.EMBEDDED_BYTES:
        return {}
    _write_weights(folder / WEIGHTS, weights)
    return read_header(folder / WEIGHTS)


def _write_weights(path: pathlib.Path, weights: Mapping[str, Any]) -> None:
    specs = [(name, np.dtype(leaf.dtype), tuple(leaf.shape)) for name, leaf in weights.items()]
    arrays = (np.asarray(leaf) for leaf in weights.values())
    write_file(path, specs, arrays, {"format": "alpamayo_jax"})


def _artefact(
    stage: Stage,
    path: pathlib.Path,
    settings: ExportSettings,
    files: Sequence[pathlib.Path],
    details: Mapping[str, Any],
) -> Artefact:
    sizes = dataclasses.asdict(stage.sizes)
    sizes["batch"] = sizes["batch"] if isinstance(sizes["batch"], int) else str(sizes["batch"])
    return Artefact(
        stage=stage.name,
        format=path.suffix[1:],
        file=path.name,
        precision=settings.precision,
        inputs=_ports(stage.inputs),
        outputs=_ports(stage.outputs),
        files={file.name: manifests.sha256(file) for file in files},
        sizes=sizes,
        note=_UNCHECKED,
        details=details,
    )


def _ports(specs: Mapping[str, jax.ShapeDtypeStruct]) -> tuple[Port, ...]:
    return tuple(
        Port(
            name,
            tuple(size if isinstance(size, int) else str(size) for size in spec.shape),
            np.dtype(spec.dtype).name,
        )
        for name, spec in specs.items()
    )


def _checked(manifest, policy, sizes, windows, folder, settings, ranges) -> Manifest:
    """The manifest with the outcome of the comparison."""
    if settings.skip_parity:
        return manifest
    config, params, precision = policy.config, policy.params, settings.precision
    if precision in QUANTISED:
        params = quantise_params(params, make_recipe(precision), ranges)
        # What runs the graph computes bfloat16 in float32 too. Rounded differently, values would fall
        # on other steps of the narrow formats, and that would hide a wrong graph.
        wide = dataclasses.replace(config.precision, compute="float32")
        config = dataclasses.replace(config, precision=wide)
        if precision in EVALUATED:
            windows = windows[:_EVALUATED_WINDOWS]
    reference = parity.Reference(config, params, sizes)
    if settings.format == "stablehlo":
        exported = Exported(folder, manifest)
        run, runner = exported.run, f"jax {jax.__version__} {jax.default_backend()}"
    else:
        run, runner = _run_onnx(manifest, folder)
    found = parity.compare(
        reference, run, windows, runner=runner, precision=precision, names=settings.stages
    )
    artefacts = []
    for artefact in manifest.artefacts:
        result = found[artefact.stage]
        note = "" if artefact.note == _UNCHECKED else artefact.note
        if not result.passed:
            allowed = {n: max(result.tolerance, f) for n, f in result.floors.items()}
            excess = {n: e / allowed.get(n, result.tolerance) for n, e in result.errors.items()}
            worst = max(excess, key=excess.__getitem__, default="nothing")
            note = (
                f"differs from JAX: {worst} by {result.errors.get(worst, 0.0):.3g}, tolerance "
                f"{result.tolerance:g}"
            )
        artefacts.append(
            dataclasses.replace(artefact, parity=result, valid=result.passed, note=note)
        )
    valid = all(artefact.valid for artefact in artefacts)
    return dataclasses.replace(manifest, artefacts=tuple(artefacts), valid=valid)


def _run_onnx(manifest: Manifest, folder: pathlib.Path) -> tuple[parity.Run, str]:
    """Runs the ONNX files; an engine's is the one that it was built from."""
    opened, runner = {}, ""
    for artefact in manifest.artefacts:
        path = folder / artefact.details.get("onnx", artefact.file)
        opened[artefact.stage], runner = open_model(path, artefact.precision)

    def run(stage: str, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        ports = manifest.artefact(stage).inputs
        return opened[stage](
            {port.name: np.asarray(values[port.name]).astype(port.dtype) for port in ports}
        )

    return run, runner


def _versions(settings: ExportSettings) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    packages = ["alpamayo_jax", "jax", "jaxlib", "numpy", *FORMATS[settings.format]]
    if settings.format == "tensorrt":
        packages.append("tensorrt_rtx")
    found = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
