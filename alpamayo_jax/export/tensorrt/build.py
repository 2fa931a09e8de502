"""ONNX files to engines with TensorRT for RTX, on any machine."""

import dataclasses
import json
import os
import pathlib
import time
from typing import Any, Sequence

from alpamayo_jax.config import ConfigError
from alpamayo_jax.errors import InputError
from alpamayo_jax.export.tensorrt.targets import load_tensorrt, require_built_here
from alpamayo_jax.files import replacing, write_bytes

_LONGEST = 300  # characters of a message of TensorRT in one of ours


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of the network, before TensorRT fuses it with others.

    Attributes:
      name: of the ONNX node it came from.
      kind: TensorRT's layer type, e.g. "MATRIX_MULTIPLY".
      dtype: of its first output.
      shape: of its first output; -1 for sizes that the inputs decide.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class EngineReport:
    """What was built.

    Attributes:
      target: compute capability, e.g. "sm120".
      tensorrt: version of TensorRT for RTX.
      bytes: size of the engine.
      seconds: of parsing and building.
      inputs: name -> type and shape.
      outputs: name -> type and shape.
      layers: of the network.
      warnings: of the builder, in its words.
    """

    target: str
    tensorrt: str
    bytes: int
    seconds: float
    inputs: dict[str, list]
    outputs: dict[str, list]
    layers: tuple[Layer, ...]
    warnings: tuple[str, ...]

    def details(self) -> dict[str, Any]:
        """A summary for the manifest: everything but the layers, of which it has the counts."""
        kinds: dict[str, int] = {}
        for layer in self.layers:
            kinds[layer.kind] = kinds.get(layer.kind, 0) + 1
        plain = dataclasses.asdict(self)
        return {**plain, "layers": dict(sorted(kinds.items())), "num_layers": len(self.layers)}

    def save(self, path: str | os.PathLike) -> None:
        """Writes everything, layer by layer, as JSON."""
        write_bytes(path, json.dumps(dataclasses.asdict(self), indent=1).encode())


def build_engine(
    model: str | os.PathLike, engine: str | os.PathLike, target: str
) -> EngineReport:
    """Builds an engine from an ONNX file; weights in files beside it are found.

    The network is strongly typed: number formats are those of the graph, Q/DQ nodes included. There
    is no timing cache: TensorRT for RTX times nothing while it builds, and compiles its kernels on
    the GPU when an engine first runs, see `runner.Engine`.

    Args:
      model: the ONNX file.
      engine: where the engine is written; whole or not at all.
      target: one of `targets.BUILT_HERE`.

    Raises:
      ConfigError: an unsuitable target, no TensorRT, or an operator that the target rejects.
      InputError: the model cannot be read, or the engine not be written.
    """
    require_built_here(target)
    trt = load_tensorrt()
    model, begin = pathlib.Path(model), time.perf_counter()
    if not model.is_file():
        raise InputError(f"{model} is no ONNX file")
    # TensorRT keeps no references of its own: all of these must live until the engine is written.
    log = make_log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(model)):
        raise ConfigError(f"{target} rejects {model.name}: {_parse_error(parser, log)}")
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    capability = getattr(trt.ComputeCapability, target.upper())
    config.set_compute_capability(capability, 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise ConfigError(f"{target} rejects {model.name}: {_build_error(log)}")
    report = EngineReport(
        target=target,
        tensorrt=trt.__version__,
        bytes=data.nbytes,
        seconds=time.perf_counter() - begin,
        inputs=_ports(network.get_input(i) for i in range(network.num_inputs)),
        outputs=_ports(network.get_output(i) for i in range(network.num_outputs)),
        layers=tuple(_layer(network.get_layer(i)) for i in range(network.num_layers)),
        warnings=tuple(log.warnings),
    )
    try:
        with replacing(engine) as temporary, open(temporary, "wb") as file:
            file.write(memoryview(data))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(
            f"{engine} ({data.nbytes / 2**20:.1f} MiB) cannot be written: {error.strerror}; nothing of "
            "it is kept"
        ) from error
    return report


def make_log(trt: Any) -> Any:
    """A logger that keeps `warnings` and `errors` instead of printing them."""

    class Log(trt.ILogger):
        def __init__(self):
            super().__init__()
            self.warnings: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)
            elif severity == trt.ILogger.WARNING and message not in self.warnings:
                self.warnings.append(message)

    return Log()


def _parse_error(parser: Any, log: Any) -> str:
    for i in range(parser.num_errors):
        error = parser.get_error(i)
        operator = error.node_operator()
        if operator:
            return (
                f"operator {operator} of node {error.node_name()!r} is not taken: "
                f"{_sentence(error.desc())}"
            )
    last = parser.get_error(0).desc() if parser.num_errors else "; ".join(log.errors)
    return _sentence(last or "no reason given")


def _build_error(log: Any) -> str:
    return _sentence("; ".join(log.errors) or "no reason given")


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _ports(tensors: Sequence[Any]) -> dict[str, list]:
    return {tensor.name: [tensor.dtype.name, *tensor.shape] for tensor in tensors}


def _layer(layer: Any) -> Layer:
    output = layer.get_output(0) if layer.num_outputs else None
    try:
        shape = () if output is None else tuple(output.shape)
    except ValueError:  # a rank that is not known before it runs
        shape = ()
    dtype = "" if output is None else output.dtype.name
    return Layer(name=layer.name, kind=layer.type.name, dtype=dtype, shape=shape)
