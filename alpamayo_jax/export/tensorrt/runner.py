"""Engines on the machine they were built for."""

import os
import pathlib
from typing import Any, Mapping

import numpy as np

from alpamayo_jax.config import ConfigError
from alpamayo_jax.errors import InputError
from alpamayo_jax.export.tensorrt.build import make_log
from alpamayo_jax.export.tensorrt.cuda import Driver, DriverError
from alpamayo_jax.export.tensorrt.targets import load_tensorrt
from alpamayo_jax.files import write_bytes


class EngineUnavailable(RuntimeError):
    """An engine cannot run here; the message says why, and what can be run instead."""


class Engine:
    """One engine, loaded: named arrays in, named arrays out.

    Kernels are compiled for the GPU when it first runs; with a runtime cache, that is done once.

    Attributes:
      inputs: name -> (shape, NumPy type).
      outputs: name -> (shape, NumPy type).
    """

    def __init__(
        self,
        path: str | os.PathLike,
        target: str,
        *,
        runtime_cache: str | os.PathLike | None = None,
        driver: Driver | None = None,
        trt: Any = None,
    ):
        """Loads an engine.

        Args:
          path: file that `build_engine` wrote.
          target: that it was built for.
          runtime_cache: file of kernels compiled earlier; written by `close`.
          driver: of the GPU; None starts it.
          trt: module of TensorRT; None imports it.

        Raises:
          EngineUnavailable: no TensorRT, no driver, or another GPU.
          InputError: no such file, or not an engine.
        """
        self._path, self._cache_path = pathlib.Path(path), runtime_cache
        if not self._path.is_file():
            raise InputError(f"engine {self._path} is not there")
        instead = "its ONNX file runs anywhere (ONNX Runtime)"
        try:
            self._trt = trt or load_tensorrt()
            self._driver = driver or Driver()
        except (ConfigError, DriverError) as error:
            raise EngineUnavailable(f"{self._path.name} cannot run here: {error}; {instead}") from error
        if self._driver.target != target:
            raise EngineUnavailable(
                f"{self._path.name} is for {target}, this GPU is {self._driver.target}; export with "
                f"--target={self._driver.target}, or {instead}"
            )
        self._log = make_log(self._trt)
        self._runtime = self._trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(self._path.read_bytes())
        if self._engine is None:
            raise InputError(
                f"{self._path} is no engine that TensorRT {self._trt.__version__} reads: "
                f"{'; '.join(self._log.errors) or 'no reason given'}"
            )
        self._cache = None
        self._context = self._engine.create_execution_context(self._runtime_config())
        self._memory: dict[str, int] = {}
        self.inputs, self.outputs = {}, {}
        for i in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(i)
            is_input = self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT
            ports = self.inputs if is_input else self.outputs
            shape = tuple(self._engine.get_tensor_shape(name))
            dtype = _numpy_type(self._engine.get_tensor_dtype(name).name)
            ports[name] = shape, dtype
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            self._memory[name] = self._driver.allocate(size)
            self._context.set_tensor_address(name, self._memory[name])

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs once.

        Raises:
          InputError: an input is missing or has another shape.
          EngineUnavailable: the GPU failed.
        """
        for name, (shape, dtype) in self.inputs.items():
            if name not in inputs or np.shape(inputs[name]) != shape:
                found = np.shape(inputs[name]) if name in inputs else "nothing"
                raise InputError(f"{self._path.name}: input {name} must be {list(shape)}, got {found}")
            self._driver.upload(self._memory[name], np.asarray(inputs[name], dtype))
        if not self._context.execute_async_v3(0):
            raise EngineUnavailable(f"{self._path.name} failed: {'; '.join(self._log.errors)}")
        self._driver.wait()
        results = {}
        for name, (shape, dtype) in self.outputs.items():
            results[name] = np.empty(shape, dtype)
            self._driver.download(results[name], self._memory[name])
        return results

    def layers(self) -> str:
        """The layers after fusion, as JSON in TensorRT's own words."""
        inspector = self._engine.create_engine_inspector()
        return inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)

    def close(self) -> None:
        """Frees the device memory and keeps the compiled kernels for the next time."""
        if self._cache is not None:
            write_bytes(self._cache_path, bytes(memoryview(self._cache.serialize())))
        for address in self._memory.values():
            self._driver.free(address)
        self._memory.clear()

    def _runtime_config(self) -> Any:
        config = self._engine.create_runtime_config()
        if self._cache_path is not None:
            self._cache = config.create_runtime_cache()
            if pathlib.Path(self._cache_path).is_file():
                self._cache.deserialize(pathlib.Path(self._cache_path).read_bytes())
            config.set_runtime_cache(self._cache)
        return config


def _numpy_type(name: str) -> np.dtype:
    """NumPy's type for one of TensorRT's."""
    import ml_dtypes

    known = {
        "FLOAT": np.float32, "HALF": np.float16, "BF16": ml_dtypes.bfloat16, "INT32": np.int32,
        "INT64": np.int64, "BOOL": np.bool_, "INT8": np.int8, "UINT8": np.uint8,
    }  # fmt: skip
    if name not in known:
        raise InputError(f"an engine with an input or output of type {name} cannot be fed from NumPy")
    return np.dtype(known[name])
