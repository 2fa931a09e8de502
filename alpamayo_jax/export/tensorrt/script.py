"""A build script for machines whose engines TensorRT builds only on the GPU itself."""

import os
import pathlib
from typing import Mapping, Sequence

from alpamayo_jax.config import ConfigError
from alpamayo_jax.export.tensorrt.targets import BUILT_THERE, check_target
from alpamayo_jax.files import write_bytes

_TEMPLATE = '''"""Builds the engines of this folder for {target} ({gpus}), on such a machine.

    python {name}            # all stages; TensorRT 10.8 or newer and its Python package
    python {name} --check    # only whether the parser takes every network

Needs nothing but TensorRT. One stage by hand:

    {trtexec}

Writes STAGE.engine and STAGE.engine.json (sizes, layers) beside each network, and timing.cache.
"""

import hashlib
import json
import os
import pathlib
import sys
import time

TARGET = {target!r}
PRECISION = {precision!r}
STAGES = {stages}  # stage -> network
FILES = {files}  # file -> SHA-256, weights included

FOLDER = pathlib.Path(__file__).resolve().parent


def fail(message):
    print(f"{{pathlib.Path(__file__).name}}: {{message}}", file=sys.stderr)
    sys.exit(1)


def check_files():
    for name, wanted in FILES.items():
        path = FOLDER / name
        if not path.is_file():
            fail(f"{{name}} is missing; copy the whole folder of the export")
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
                fail(f"{{name}} is damaged; copy it again")


def main():
    try:
        import tensorrt as trt
    except ImportError as error:
        fail(f"TensorRT is not installed ({{error}}); it comes with JetPack, or pip install tensorrt")
    check_files()
    errors = []

    class Log(trt.ILogger):
        def __init__(self):
            super().__init__()

        def log(self, severity, message):
            if severity <= trt.ILogger.ERROR:
                errors.append(message)

    log = Log()
    builder = trt.Builder(log)
    for stage, name in STAGES.items():
        begin, path = time.time(), FOLDER / name
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, log)
        if not parser.parse_from_file(str(path)):
            error = parser.get_error(0)
            fail(f"{{stage}}: {{error.node_operator()}} of {{error.node_name()}}: {{error.desc()}}")
        if "--check" in sys.argv:
            print(f"{{stage}}: {{network.num_layers}} layers, taken")
            continue
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        timing = FOLDER / "timing.cache"
        cache = config.create_timing_cache(timing.read_bytes() if timing.is_file() else b"")
        config.set_timing_cache(cache, True)
        data = builder.build_serialized_network(network, config)
        if data is None:
            fail(f"{{stage}}: {{'; '.join(errors) or 'no reason given'}}")
        engine = path.with_suffix(".engine")
        half = engine.with_suffix(".half")
        half.write_bytes(memoryview(data))
        os.replace(half, engine)
        timing.write_bytes(memoryview(cache.serialize()))
        layers = [network.get_layer(i) for i in range(network.num_layers)]
        report = {{
            "stage": stage,
            "target": TARGET,
            "precision": PRECISION,
            "tensorrt": trt.__version__,
            "bytes": data.nbytes,
            "seconds": round(time.time() - begin, 1),
            "sha256": hashlib.sha256(memoryview(data)).hexdigest(),
            "layers": [[layer.name, layer.type.name] for layer in layers],
        }}
        engine.with_suffix(".engine.json").write_text(json.dumps(report, indent=1))
        print(f"{{stage}}: {{data.nbytes / 2**20:.1f}} MiB in {{report['seconds']}} s")


if __name__ == "__main__":
    main()
'''


def write_build_script(
    folder: str | os.PathLike,
    target: str,
    precision: str,
    stages: Mapping[str, str],
    files: Mapping[str, str],
) -> pathlib.Path:
    """Writes `build_<target>.py` into an export folder.

    Args:
      folder: with the networks.
      target: one of `targets.BUILT_THERE`.
      precision: that the networks are in.
      stages: stage -> ONNX file in the folder.
      files: every file that these need -> SHA-256.

    Returns:
      The script's path.

    Raises:
      ConfigError: a target whose engines are built here, or a name that no script should hold.
    """
    if check_target(target, precision):
        raise ConfigError(f"engines for {target} are built here; no script is needed")
    for name in (*stages, *stages.values(), *files):
        _check_name(name)
    first = next(iter(stages.values()), "STAGE.onnx")
    engine = pathlib.PurePosixPath(first).with_suffix(".engine")
    command = (
        f"trtexec --onnx={first} --stronglyTyped --saveEngine={engine} --timingCacheFile=timing.cache "
        "--profilingVerbosity=detailed"
    )
    name = f"build_{target}.py"
    text = _TEMPLATE.format(
        target=target,
        gpus=BUILT_THERE[target],
        name=name,
        trtexec=command,
        precision=precision,
        stages=_mapping(stages),
        files=_mapping(files),
    )
    return write_bytes(pathlib.Path(folder) / name, text.encode())


def _mapping(values: Mapping[str, str]) -> str:
    lines = "".join(f"    {key!r}: {value!r},\n" for key, value in values.items())
    return f"{{\n{lines}}}"


def _check_name(name: str) -> None:
    path = pathlib.PurePosixPath(name)
    plain: Sequence[str] = [c for c in name if c.isalnum() or c in "._-/"]
    if path.is_absolute() or ".." in path.parts or len(plain) != len(name) or not name:
        raise ConfigError(f"{name!r} is no file of the export folder")
