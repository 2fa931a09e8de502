"""From ONNX artefacts to engines; the builder is a stand-in, TensorRT has tests of its own."""

import dataclasses

import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.export import engines, tensorrt
from alpamayo_jax.export.manifest import Artefact, Port

PORTS = (Port("x", (1, 2), "float32"),)


@pytest.fixture
def artefacts(tmp_path):
    made = []
    for stage in ("vision", "prefill"):
        (tmp_path / f"{stage}.onnx").write_bytes(stage.encode())
        files = {f"{stage}.onnx": engines.manifests.sha256(tmp_path / f"{stage}.onnx")}
        details = {"opset": 23}
        made.append(
            Artefact(stage, "onnx", f"{stage}.onnx", "bf16", PORTS, PORTS, files, {}, details=details)
        )
    return made


@dataclasses.dataclass
class Report:
    path: str

    def details(self):
        return {"target": "sm120", "bytes": 7}

    def save(self, path):
        path.write_text("{}")


def build(model, engine, target):
    engine.write_bytes(b"engine " + model.read_bytes())
    return Report(str(engine))


def test_engines_stand_beside_their_networks(artefacts, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorrt, "build_engine", build)
    built = engines.write_engines(artefacts, tmp_path, "sm120")
    for before, after in zip(artefacts, built):
        assert after.format == "tensorrt" and after.file == f"{after.stage}.engine"
        assert after.details["onnx"] == before.file and after.details["opset"] == 23
        assert after.details["target"] == "sm120"
        assert after.inputs == before.inputs
        assert {f"{after.stage}.onnx", after.file} <= set(after.files)
        for name, digest in after.files.items():
            assert engines.manifests.sha256(tmp_path / name) == digest


def test_a_rejected_network_goes_up(artefacts, tmp_path, monkeypatch):
    def reject(*args, **kwargs):
        raise ConfigError("sm120 rejects vision.onnx: NonZero")

    monkeypatch.setattr(tensorrt, "build_engine", reject)
    with pytest.raises(ConfigError, match="NonZero"):
        engines.write_engines(artefacts, tmp_path, "sm120")


def test_other_machines_get_a_script(artefacts, tmp_path):
    same = engines.write_engines(artefacts, tmp_path, "sm110")
    for before, after in zip(artefacts, same):
        assert (after.format, after.file) == ("onnx", before.file)
        assert after.details["target"] == "sm110"
        assert after.details["build_script"] in after.files
        assert (tmp_path / after.details["build_script"]).is_file()


def test_a_target_without_arithmetic_for_the_format(artefacts, tmp_path):
    with pytest.raises(ConfigError, match="sm75"):
        engines.write_engines(artefacts, tmp_path, "sm75")
