"""An export from start to end, and what stops it."""

import dataclasses
import errno
import importlib.util

import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.errors import InputError
from alpamayo_jax.export import load, parity, run, stablehlo
from alpamayo_jax.export import manifest as manifests
from alpamayo_jax.export.run import ExportSettings, export, make_windows
from alpamayo_jax.testing.tiny import random_observation, random_params, tiny_config
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer

CONFIG = tiny_config()
QUICK = ExportSettings("stablehlo", stages=("trajectory",), samples=2, new_tokens=4)


@pytest.fixture(scope="module")
def policy():
    return Policy(CONFIG, random_params(CONFIG), tiny_tokenizer(CONFIG))


@pytest.fixture(scope="module")
def observations():
    return [random_observation(CONFIG, seed) for seed in (0, 1)]


@pytest.fixture
def agreed(monkeypatch):
    """The comparison is another test's: everything agrees here."""

    def compare(reference, call, windows, *, runner, precision, names):
        same = parity.Parity(len(windows), runner, "jax", {"xyz": 0.0}, 1e-4, True)
        return {name: same for name in names}

    monkeypatch.setattr(parity, "compare", compare)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "tflite"}, "format 'tflite' is unknown; known: stablehlo, onnx, tensorrt"),
        ({"format": "stablehlo", "precision": "int4"}, "precision 'int4' is unknown"),
        ({"format": "stablehlo", "precision": "fp8"}, "fp8 is for onnx and tensorrt"),
        ({"format": "stablehlo", "target": "sm120"}, "target 'sm120' is for tensorrt"),
        ({"format": "stablehlo", "stages": ("brake",)}, "stages 'brake' unknown; known: vision"),
        ({"format": "stablehlo", "stages": ()}, "unknown; known: vision"),
        ({"format": "stablehlo", "samples": 0}, "must be at least 1"),
        ({"format": "tensorrt"}, "tensorrt needs a target: --target=sm75"),
        ({"format": "tensorrt", "target": "sm99"}, "'sm99' is unknown.*sm120"),
    ],
)
def test_settings_that_cannot_be(fields, message):
    with pytest.raises(ConfigError, match=message):
        ExportSettings(**fields)


@pytest.mark.parametrize(
    ("format", "package"), [("stablehlo", "flatbuffers"), ("onnx", "jax2onnx")]
)
def test_a_missing_toolchain_is_named(monkeypatch, format, package):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *args: None if name == package else found(name)
    )
    with pytest.raises(ConfigError, match=f"needs {package}, which is not installed; pip install"):
        ExportSettings(format)


def test_windows_have_one_bucket(policy, observations):
    windows = make_windows(policy, observations)
    assert len({w.input_ids.shape for w in windows}) == 1
    assert all(w.input_ids.shape[0] == 1 for w in windows)


def test_another_rig_is_refused(policy, observations):
    cameras = observations[1].cameras[:1]
    fewer = dataclasses.replace(observations[1], cameras=cameras, clip_id="other")
    with pytest.raises(InputError, match="observation of clip 'other'.*export one rig at a time"):
        make_windows(policy, [observations[0], fewer])
    with pytest.raises(InputError, match="at least one observation"):
        make_windows(policy, [])


def test_an_export_is_compared_loaded_and_run(policy, observations, tmp_path):
    manifest = export(policy, observations, tmp_path, QUICK)
    assert manifest == manifests.read(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "manifest.json", "trajectory.stablehlo", "weights.safetensors",
    }  # fmt: skip
    (artefact,) = manifest.artefacts
    assert manifest.valid and artefact.valid and artefact.note == ""
    assert artefact.parity.windows == 2 and set(artefact.parity.errors) == {"xyz", "rot"}
    assert artefact.details["platforms"] == ["cpu", "cuda", "tpu"]
    assert manifest.versions["jax"] and manifest.versions["flatbuffers"]
    waypoints = CONFIG.action.n_waypoints
    for batch in (1, 3):
        out = load(tmp_path)["trajectory"](
            actions=np.zeros((batch, 2, waypoints, 2), np.float32),
            ego_history_xyz=np.repeat(observations[0].ego_history_xyz[None], batch, 0),
            ego_history_rot=np.repeat(observations[0].ego_history_rot[None], batch, 0),
        )
        assert out["xyz"].shape == (batch, 2, waypoints, 3)
        assert (out["xyz"][0, 0, -1, 0]) > 1.0  # it drives on


def test_unchecked_exports_say_so(policy, observations, tmp_path, caplog):
    settings = dataclasses.replace(QUICK, skip_parity=True)
    manifest = export(policy, observations, tmp_path, settings)
    (artefact,) = manifest.artefacts
    assert not manifest.valid and not artefact.valid and artefact.parity is None
    assert "skipped" in artefact.note
    load(tmp_path)
    assert "not valid: trajectory" in caplog.text


def test_what_differs_is_not_valid(policy, observations, tmp_path, monkeypatch):
    def compare(reference, call, windows, *, runner, precision, names):
        errors = {"xyz": 3.0, "rot": 0.0}
        return {n: parity.Parity(2, runner, "jax", errors, 1e-4, False) for n in names}

    monkeypatch.setattr(parity, "compare", compare)
    (artefact,) = export(policy, observations, tmp_path, QUICK).artefacts
    assert not artefact.valid and artefact.note == "differs from JAX: xyz by 3, tolerance 0.0001"


def test_a_full_disk_leaves_what_was_there(policy, observations, tmp_path, monkeypatch, agreed):
    export(policy, observations, tmp_path, QUICK)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real = stablehlo.write

    def full(stage, path, *args):
        real(stage, path, *args)
        path.write_bytes(path.read_bytes()[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stablehlo, "write", full)
    with pytest.raises(InputError, match="cannot be written to .*: No space left.*nothing of it"):
        export(policy, observations, tmp_path, QUICK)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_disk_that_fills_up_while_files_are_moved_leaves_no_manifest(
    policy, observations, tmp_path, monkeypatch, agreed
):
    export(policy, observations, tmp_path, QUICK)
    real = run.os.replace

    def full(source, target):
        if str(target).endswith("weights.safetensors"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(run.os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        export(policy, observations, tmp_path, QUICK)
    with pytest.raises(InputError, match="not finished"):
        load(tmp_path)


def test_what_a_killed_export_left_is_cleared(policy, observations, tmp_path, agreed):
    left = tmp_path / ".export-killed"
    left.mkdir()
    (left / "vision.onnx").write_bytes(b"half")
    export(policy, observations, tmp_path, QUICK)
    assert not left.exists() and (tmp_path / "manifest.json").exists()


def test_bfloat16_exports_hold_bfloat16(policy, observations, tmp_path, agreed):
    settings = dataclasses.replace(QUICK, precision="bf16", stages=("vision",))
    manifest = export(policy, observations, tmp_path, settings)
    kinds = {port.name: port.dtype for port in manifest.artefact("vision").outputs}
    assert kinds["scene_tokens"] == "bfloat16"
    from alpamayo_jax.convert.tensor_file import read_header

    entries = read_header(tmp_path / "weights.safetensors").values()
    assert {entry.dtype for entry in entries} == {"BF16"}
