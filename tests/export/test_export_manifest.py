"""What an export folder says about itself, and what is refused."""

import dataclasses
import json

import pytest

from alpamayo_jax.errors import InputError
from alpamayo_jax.export import manifest as manifests
from alpamayo_jax.export.manifest import Artefact, Manifest, Parity, Port

PARITY = Parity(
    windows=20,
    runner="onnxruntime 1.32.0",
    reference="jax",
    errors={"xyz": 2e-5},
    tolerance=1e-4,
    passed=True,
    tokens_identical=True,
)
ARTEFACT = Artefact(
    stage="trajectory",
    format="onnx",
    file="trajectory.onnx",
    precision="fp32",
    inputs=(Port("actions", ("batch", 6, 64, 2), "float32"),),
    outputs=(Port("xyz", ("batch", 6, 64, 3), "float32"),),
    files={"trajectory.onnx": "0" * 64},
    sizes={"length": 256},
    parity=PARITY,
    valid=True,
    details={"opset": 23, "operators": {"Mul": 3}},
)
MANIFEST = Manifest(
    format="onnx",
    precision="fp32",
    target="",
    artefacts=(ARTEFACT, dataclasses.replace(ARTEFACT, stage="vision", parity=None, valid=False)),
    versions={"jax": "0.10.2"},
    model={"end_id": 7},
)


def test_it_comes_back(tmp_path):
    manifests.write(tmp_path, MANIFEST)
    assert manifests.read(tmp_path) == MANIFEST
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_artefacts_by_stage():
    assert MANIFEST.artefact("trajectory") is ARTEFACT
    with pytest.raises(InputError, match="no stage 'policy'; it has trajectory, vision"):
        MANIFEST.artefact("policy")


def test_a_folder_without_one_is_no_export(tmp_path):
    with pytest.raises(InputError, match="no manifest.json.*not finished"):
        manifests.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(version=9), "version 9, expected 1"),
        (lambda v: v.pop("artefacts"), "no manifest"),
        (lambda v: v["artefacts"][0].pop("file"), "no manifest"),
        (lambda v: v["artefacts"][0].update(colour="red"), "no manifest"),
        (lambda v: v["artefacts"][0]["inputs"].append({"name": "x"}), "no manifest"),
        (lambda v: v.update(artefacts=3), "no manifest"),
    ],
)
def test_other_content_is_refused(tmp_path, change, message):
    values = json.loads(json.dumps(dataclasses.asdict(MANIFEST)))
    change(values)
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=message):
        manifests.read(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_no_json_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match="manifest.json"):
        manifests.read(tmp_path)


def test_numbers_that_json_lacks_are_not_written(tmp_path):
    parity = dataclasses.replace(PARITY, errors={"xyz": float("nan")})
    artefact = dataclasses.replace(ARTEFACT, parity=parity)
    with pytest.raises(ValueError, match="JSON"):
        manifests.write(tmp_path, dataclasses.replace(MANIFEST, artefacts=(artefact,)))
    assert not list(tmp_path.iterdir())


def test_files_are_those_that_were_exported(tmp_path):
    path = tmp_path / "trajectory.onnx"
    path.write_bytes(b"program")
    artefact = dataclasses.replace(ARTEFACT, files={path.name: manifests.sha256(path)})
    manifests.check_files(tmp_path, artefact)
    path.write_bytes(b"progrem")
    with pytest.raises(InputError, match="checksum differs"):
        manifests.check_files(tmp_path, artefact)
    path.unlink()
    with pytest.raises(InputError, match="is missing"):
        manifests.check_files(tmp_path, artefact)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b"])
def test_no_path_leads_out_of_the_folder(tmp_path, name):
    with pytest.raises(InputError, match="outside of the folder"):
        manifests.inside(tmp_path, name)


def test_a_link_out_of_the_folder_is_outside(tmp_path):
    (tmp_path / "export").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "export" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="outside of the folder"):
        manifests.inside(tmp_path / "export", "link")
