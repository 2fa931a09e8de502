"""experiments/export.py: what it writes, and what it refuses in one sentence."""

import json

import jax
import numpy as np
import pytest
from script_process import read_summary, run_script

from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.export import load
from alpamayo_jax.testing.tiny import random_params, tiny_config
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    config = tiny_config()
    params = jax.tree.map(np.asarray, random_params(config))
    folder = tmp_path_factory.mktemp("checkpoint")
    Policy(config, params, tiny_tokenizer(config)).save(folder)
    return folder


@pytest.mark.slow
def test_it_writes_what_can_be_loaded(checkpoint, tmp_path):
    done = run_script(
        "export", f"--checkpoint={checkpoint}", "--format=stablehlo", f"--workdir={tmp_path}",
        "--stages=vision,trajectory", "--windows=2", "--num_frames=1", "--max_new_tokens=4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["valid"] and [a["stage"] for a in manifest["artefacts"]] == [
        "vision", "trajectory",
    ]  # fmt: skip
    assert all(a["parity"]["windows"] == 2 for a in manifest["artefacts"])
    summary = read_summary(tmp_path)
    assert summary["valid"] and summary["error_trajectory"] <= 1e-4
    assert load(tmp_path).stages == ("vision", "trajectory")


@pytest.mark.slow
def test_without_a_comparison_nothing_is_valid(checkpoint, tmp_path):
    done = run_script(
        "export", f"--checkpoint={checkpoint}", "--format=stablehlo", f"--workdir={tmp_path}",
        "--stages=trajectory", "--num_frames=1", "--skip_parity",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert not manifest["valid"] and manifest["artefacts"][0]["parity"] is None


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--format=tflite"], "tflite"),
        (["--format=stablehlo", "--precision=int4"], "int4"),
        (["--format=stablehlo", "--precision=fp8"], "fp8 is for onnx and tensorrt"),
        (["--format=onnx", "--target=sm120"], "target 'sm120' is for tensorrt"),
        (["--format=tensorrt"], "needs a target"),
        (["--format=tensorrt", "--target=sm99"], "'sm99' is unknown"),
        (["--format=stablehlo", "--stages=brake"], "'brake' unknown"),
        (["--format=stablehlo", "--checkpoint=/no/such"], "/no/such"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, args, message):
    given = ["--checkpoint=/no/checkpoint", *args, f"--workdir={tmp_path / 'out'}"]
    done = run_script("export", *given)
    assert done.returncode == 2
    assert done.stderr.startswith("export.py: ") and message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out" / "manifest.json").exists()
