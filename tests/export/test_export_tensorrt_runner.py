"""Running engines, with stand-ins for the GPU's driver and for TensorRT."""

import ctypes
import types

import numpy as np
import pytest

from alpamayo_jax.export.tensorrt import runner
from alpamayo_jax.export.tensorrt.cuda import Driver, DriverError
from alpamayo_jax.export.tensorrt.runner import Engine, EngineUnavailable
from alpamayo_jax.types import InputError


class Library:
    """The CUDA driver's functions on host memory, for a GPU of capability 12.0."""

    def __init__(self, **failing):
        self.failing, self.blocks = failing, {}

    def __getattr__(self, name):
        def call(*args):
            if name in self.failing:
                return self.failing[name]
            return vars(Library).get(f"_{name}", lambda *args: 0)(self, *args)

        return call

    def _cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = {75: 12, 76: 0}[attribute]
        return 0

    def _cuMemAlloc_v2(self, address, size):
        block = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(block)
        self.blocks[address._obj.value] = block
        return 0

    def _cuMemFree_v2(self, address):
        del self.blocks[address.value]
        return 0

    def _cuMemcpyHtoD_v2(self, address, pointer, size):
        ctypes.memmove(address.value, pointer.value, size.value)
        return 0

    def _cuMemcpyDtoH_v2(self, pointer, address, size):
        ctypes.memmove(pointer.value, address.value, size.value)
        return 0


class Context:
    """An engine whose y is twice its x, [2, 3] float32."""

    def __init__(self, works=True):
        self.addresses, self.works = {}, works

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        x, y = (
            np.ctypeslib.as_array(ctypes.cast(self.addresses[n], ctypes.POINTER(ctypes.c_float)), (6,))
            for n in "xy"
        )
        y[:] = 2 * x
        return self.works


class Cache:
    """A runtime cache."""

    def __init__(self):
        self.content = b"compiled"

    def serialize(self):
        return self.content

    def deserialize(self, content):
        self.content = content + b" again"


def fake_tensorrt(context, readable=True):
    mode = types.SimpleNamespace(INPUT="input", OUTPUT="output")
    config = types.SimpleNamespace(create_runtime_cache=Cache, set_runtime_cache=lambda cache: None)
    engine = types.SimpleNamespace(
        num_io_tensors=2,
        get_tensor_name=lambda i: "xy"[i],
        get_tensor_mode=lambda name: mode.INPUT if name == "x" else mode.OUTPUT,
        get_tensor_shape=lambda name: (2, 3),
        get_tensor_dtype=lambda name: types.SimpleNamespace(name="FLOAT"),
        create_runtime_config=lambda: config,
        create_execution_context=lambda config: context,
    )

    class Log:
        ERROR, WARNING = 1, 2

    runtime = types.SimpleNamespace(
        deserialize_cuda_engine=lambda data: engine if readable else None
    )
    return types.SimpleNamespace(
        ILogger=Log, TensorIOMode=mode, Runtime=lambda log: runtime, __version__="0"
    )


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "flow_step.engine"
    path.write_bytes(b"engine")
    return path


def load(file, context=None, target="sm120", library=None, readable=True, **kwargs):
    trt = fake_tensorrt(context or Context(), readable)
    return Engine(file, target, driver=Driver(library or Library()), trt=trt, **kwargs)


def test_an_engine_runs(file):
    library = Library()
    engine = load(file, library=library)
    assert engine.inputs == {"x": ((2, 3), np.dtype("float32"))}
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(engine({"x": x})["y"], 2 * x)
    np.testing.assert_array_equal(engine({"x": x.T.reshape(2, 3)})["y"], 2 * x.T.reshape(2, 3))
    assert len(library.blocks) == 2
    engine.close()
    assert not library.blocks


def test_compiled_kernels_are_kept(file, tmp_path):
    cache = tmp_path / "flow_step.kernels"
    load(file, runtime_cache=cache).close()
    assert cache.read_bytes() == b"compiled"
    load(file, runtime_cache=cache).close()
    assert cache.read_bytes() == b"compiled again"


def test_wrong_inputs_are_refused(file):
    engine = load(file)
    with pytest.raises(InputError, match=r"input x must be \[2, 3\], got nothing"):
        engine({})
    with pytest.raises(InputError, match=r"input x must be \[2, 3\], got \(3, 2\)"):
        engine({"x": np.zeros((3, 2))})


def test_another_gpu_is_named(file):
    with pytest.raises(EngineUnavailable, match="is for sm89, this GPU is sm120; .*--target=sm120"):
        load(file, target="sm89")


def test_no_driver_says_what_runs_instead(file, monkeypatch):
    def absent(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    with pytest.raises(EngineUnavailable, match="no NVIDIA driver on this machine .*ONNX Runtime"):
        Engine(file, "sm120", trt=fake_tensorrt(Context()))


def test_a_driver_without_a_gpu(file):
    with pytest.raises(DriverError, match="refuses cuInit with error 100"):
        Driver(Library(cuInit=100))


def test_files_that_are_no_engines(file, tmp_path):
    with pytest.raises(InputError, match="absent.engine is not there"):
        load(tmp_path / "absent.engine")
    with pytest.raises(InputError, match="is no engine that TensorRT 0 reads: no reason given"):
        load(file, readable=False)


def test_a_failing_gpu_is_said(file):
    with pytest.raises(EngineUnavailable, match="flow_step.engine failed"):
        load(file, Context(works=False))({"x": np.zeros((2, 3))})


def test_types():
    assert runner._numpy_type("BF16").name == "bfloat16"
    with pytest.raises(InputError, match="type FP8 cannot be fed"):
        runner._numpy_type("FP8")
