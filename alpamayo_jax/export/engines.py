"""From ONNX artefacts to engines, or to the script that builds them on the target."""

import dataclasses
import logging
import pathlib
from typing import Sequence

from alpamayo_jax.export import manifest as manifests
from alpamayo_jax.export import tensorrt
from alpamayo_jax.export.manifest import Artefact


def write_engines(
    artefacts: Sequence[Artefact], folder: pathlib.Path, target: str
) -> tuple[Artefact, ...]:
    """Builds an engine of every ONNX artefact beside its file.

    An engine cannot run where it is built, unless the target's GPU is there. Its parity is that of
    the ONNX file it was built from, which stays in the folder. For targets that TensorRT for RTX
    does not know, the ONNX artefacts come back as they are, and a script that builds them there.

    Raises:
      ConfigError: the target rejects a network.
      InputError: an engine cannot be written.
    """
    if not tensorrt.check_target(target, artefacts[0].precision):
        files = {name: digest for a in artefacts for name, digest in a.files.items()}
        stages = {a.stage: a.file for a in artefacts}
        script = tensorrt.write_build_script(
            folder, target, artefacts[0].precision, stages, files
        )
        details = {"target": target, "build_script": script.name}
        return tuple(_scripted(a, script, details) for a in artefacts)
    engines = []
    for artefact in artefacts:
        logging.info("tensorrt: %s", artefact.stage)
        engine = folder / f"{artefact.stage}.engine"
        report = tensorrt.build_engine(folder / artefact.file, engine, target)
        layers = folder / f"{artefact.stage}.layers.json"
        report.save(layers)
        files = dict(artefact.files)
        files |= {path.name: manifests.sha256(path) for path in (engine, layers)}
        engines.append(
            dataclasses.replace(
                artefact,
                format="tensorrt",
                file=engine.name,
                files=files,
                details={**artefact.details, **report.details(), "onnx": artefact.file},
            )
        )
    return tuple(engines)


def _scripted(artefact: Artefact, script: pathlib.Path, details: dict) -> Artefact:
    files = {**artefact.files, script.name: manifests.sha256(script)}
    return dataclasses.replace(artefact, files=files, details={**artefact.details, **details})
