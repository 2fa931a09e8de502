"""Engines are built from small networks; nothing here needs a GPU."""

import errno
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402

from alpamayo_jax.config import ConfigError  # noqa: E402
from alpamayo_jax.export.manifest import sha256  # noqa: E402
from alpamayo_jax.export.qdq import tensor  # noqa: E402
from alpamayo_jax.export.tensorrt import build, build_engine, check_target  # noqa: E402
from alpamayo_jax.export.tensorrt.script import write_build_script  # noqa: E402
from alpamayo_jax.export.tensorrt.targets import BUILT_HERE, load_tensorrt  # noqa: E402
from alpamayo_jax.ops.number_formats import quantise  # noqa: E402
from alpamayo_jax.types import InputError  # noqa: E402

INSTALLED = importlib.util.find_spec("tensorrt_rtx") is not None
needs_tensorrt = pytest.mark.skipif(not INSTALLED, reason="TensorRT for RTX is not installed")


def network(path, nodes, constants=(), out=(4, 32), dtype=TensorProto.FLOAT):
    """y of x [4, 64]."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (4, 64))],
        [helper.make_tensor_value_info("y", dtype, out)],
        list(constants),
    )
    opset = [helper.make_opsetid("", 23)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=11)
    path.write_bytes(model.SerializeToString())
    return path


def product(path):
    kernel = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="up_proj/MatMul")
    return network(path, [node], [tensor("w", kernel)])


def four_bit_product(path):
    kernel = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    q = quantise(kernel, "nvfp4", -2)
    constants = {"v": q.values, "b": q.block_scale, "s": np.asarray(q.scale).reshape(())}
    nodes = [
        helper.make_node("DequantizeLinear", ["b", "s"], ["bs"]),
        helper.make_node("DequantizeLinear", ["v", "bs"], ["w"], axis=0, block_size=16),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    return network(path, nodes, [tensor(n, np.asarray(a)) for n, a in constants.items()])


@needs_tensorrt
def test_an_engine_is_built_with_its_report(tmp_path):
    engine = tmp_path / "up.engine"
    report = build_engine(product(tmp_path / "up.onnx"), engine, "sm120")
    assert engine.stat().st_size == report.bytes > 1000
    assert report.target == "sm120"
    assert report.inputs == {"x": ["FLOAT", 4, 64]}
    assert report.outputs == {"y": ["FLOAT", 4, 32]}
    assert "up_proj/MatMul" in [layer.name for layer in report.layers]
    details = json.loads(json.dumps(report.details()))
    assert details["layers"]["MATRIX_MULTIPLY"] == 1
    report.save(tmp_path / "up.layers.json")
    layers = json.loads((tmp_path / "up.layers.json").read_text())["layers"]
    assert len(layers) == details["num_layers"]


@needs_tensorrt
def test_four_bits_are_for_blackwell(tmp_path):
    path = four_bit_product(tmp_path / "up.onnx")
    assert build_engine(path, tmp_path / "up.engine", "sm120").bytes > 1000
    with pytest.raises(ConfigError, match="sm89 rejects up.onnx: .*fp4"):
        build_engine(path, tmp_path / "ada.engine", "sm89")
    assert not (tmp_path / "ada.engine").exists()


@needs_tensorrt
def test_an_operator_that_is_rejected_is_named(tmp_path):
    nodes = [helper.make_node("Det", ["square"], ["y"], name="unicycle/Det")]
    nodes.insert(0, helper.make_node("Reshape", ["x", "shape"], ["square"]))
    shape = tensor_of_int64("shape", [4, 8, 8])
    path = network(tmp_path / "det.onnx", nodes, [shape], out=(4,))
    with pytest.raises(ConfigError, match="sm120 rejects det.onnx: operator Det of node 'unicycle/Det'"):
        build_engine(path, tmp_path / "det.engine", "sm120")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["det.onnx"]


def tensor_of_int64(name, values):
    return onnx.numpy_helper.from_array(np.asarray(values, np.int64), name)


@needs_tensorrt
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build, "replacing", full)
    with pytest.raises(InputError, match="up.engine .* cannot be written: No space left on device"):
        build_engine(product(tmp_path / "up.onnx"), tmp_path / "up.engine", "sm120")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["up.onnx"]


@needs_tensorrt
def test_a_model_that_is_no_onnx(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ConfigError, match="sm120 rejects x.onnx"):
        build_engine(tmp_path / "x.onnx", tmp_path / "x.engine", "sm120")
    with pytest.raises(InputError, match="absent.onnx is no ONNX file"):
        build_engine(tmp_path / "absent.onnx", tmp_path / "x.engine", "sm120")


def test_targets():
    assert check_target("sm120", "nvfp4") and check_target("sm89", "fp8")
    assert not check_target("sm90", "fp8") and not check_target("sm110", "nvfp4")
    with pytest.raises(ConfigError, match="target 'sm70' is unknown; engines are built here for sm75"):
        check_target("sm70")
    with pytest.raises(ConfigError, match="sm86 .* does not compute in fp8; targets that do: sm89, "):
        check_target("sm86", "fp8")
    with pytest.raises(ConfigError, match="sm89 .* does not compute in nvfp4; .*sm120"):
        check_target("sm89", "nvfp4")


def test_a_target_of_data_centres_is_not_built_here(tmp_path):
    with pytest.raises(ConfigError, match=r"does not build for sm90 \(H100, H200\).*build script"):
        build_engine(tmp_path / "x.onnx", tmp_path / "x.engine", "sm90")


def test_a_missing_toolchain_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(ConfigError, match=r"pip install 'alpamayo_jax\[tensorrt\]'.*--format=onnx"):
        load_tensorrt()


def export_folder(tmp_path, **changes):
    path = product(tmp_path / "up.onnx")
    files = {path.name: sha256(path)}
    kinds = dict(target="sm90", precision="fp8", stages={"up": path.name}, files=files)
    return write_build_script(tmp_path, **{**kinds, **changes})


def run(script, *args, path=""):
    code = f"import sys; sys.path[:0] = {path!r}.split(':') if {path!r} else []; " + (
        f"sys.argv = [{str(script)!r}, *{list(args)!r}]; import runpy; "
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def stand_in(tmp_path):
    """TensorRT for RTX under the name of TensorRT, building for a card that is not here."""
    folder = tmp_path / "stand_in"
    folder.mkdir()
    (folder / "tensorrt.py").write_text(
        "from tensorrt_rtx import *\n"
        "import tensorrt_rtx as _rtx\n"
        "__version__ = _rtx.__version__\n"
        "class Builder(_rtx.Builder):\n"
        "    def create_builder_config(self):\n"
        "        config = super().create_builder_config()\n"
        "        config.num_compute_capabilities = 1\n"
        "        config.set_compute_capability(_rtx.ComputeCapability.SM120, 0)\n"
        "        return config\n"
    )
    return str(folder)


@needs_tensorrt
def test_the_build_script_builds(tmp_path):
    script, path = export_folder(tmp_path), stand_in(tmp_path)
    assert script.name == "build_sm90.py"
    assert "trtexec --onnx=up.onnx --stronglyTyped" in script.read_text()
    checked = run(script, "--check", path=path)
    assert checked.returncode == 0 and "up: " in checked.stdout, checked.stderr
    assert not (tmp_path / "up.engine").exists()
    built = run(script, path=path)
    assert built.returncode == 0, built.stderr
    report = json.loads((tmp_path / "up.engine.json").read_text())
    assert report["target"] == "sm90" and report["precision"] == "fp8"
    assert report["bytes"] == (tmp_path / "up.engine").stat().st_size
    assert report["sha256"] == sha256(tmp_path / "up.engine")
    assert ["up_proj/MatMul", "MATRIX_MULTIPLY"] in report["layers"]
    assert (tmp_path / "timing.cache").is_file()


def test_the_build_script_refuses_in_one_sentence(tmp_path):
    script = export_folder(tmp_path)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "tensorrt.py").write_text("raise ImportError('No module named tensorrt')")
    without = run(script, path=str(tmp_path / "none"))
    assert without.returncode == 1
    assert without.stderr.count("\n") == 1 and "TensorRT is not installed" in without.stderr
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "tensorrt.py").write_text("")
    (tmp_path / "up.onnx").write_bytes(b"half")
    damaged = run(script, path=str(tmp_path / "some"))
    assert damaged.returncode == 1 and "up.onnx is damaged; copy it again" in damaged.stderr
    (tmp_path / "up.onnx").unlink()
    assert "up.onnx is missing" in run(script, path=str(tmp_path / "some")).stderr


def test_no_script_for_what_is_built_here_or_lies_elsewhere(tmp_path):
    for target in BUILT_HERE:
        with pytest.raises(ConfigError, match="are built here; no script is needed"):
            export_folder(tmp_path, target=target, precision="int8")
    for name in ("../up.onnx", "/etc/up.onnx", 'up".onnx', "up\n.onnx", ""):
        with pytest.raises(ConfigError, match="is no file of the export folder"):
            export_folder(tmp_path, stages={"up": name})
