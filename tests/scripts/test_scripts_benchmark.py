import json
import pathlib
import subprocess
import sys

import pytest
from script_process import read_summary

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "benchmark.py"


def _run(*args):
    return subprocess.run([sys.executable, SCRIPT, *args], text=True, capture_output=True)


@pytest.mark.slow
def test_train(tmp_path):
    done = _run(
        "--suite=train", "--preset=tiny", "--rows=1", "--images=1", "--length=280", "--rounds=2",
        "--compare=none", f"--workdir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = read_summary(tmp_path)
    assert summary["suite"] == "train" and summary["device"]["platform"] == "cpu"
    assert "jax" in summary["versions"]
    row = summary["phases"]["tiny/step"]
    assert row["case"]["length"] == 280 and row["times"] == 2
    assert 0 < row["mfu"] < 1 and row["tokens_per_second"] > 0
    assert "tiny/step" in done.stdout and "mfu" in done.stdout


@pytest.mark.slow
def test_policy(tmp_path):
    done = _run(
        "--suite=policy", "--preset=tiny", "--num_samples=2", "--rounds=1", "--compare=none",
        f"--workdir={tmp_path / 'out'}", f"--history={tmp_path / 'all.jsonl'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    phases = read_summary(tmp_path / "out")["phases"]
    cold, warm = (phases[f"first_trajectory/{c}_cache"] for c in ("empty", "full"))
    assert warm["parts"]["compile"] < cold["parts"]["compile"]
    assert {"vision", "prefill", "decode_token/2_samples", "flow_step/2_samples"} <= set(phases)
    assert phases["end_to_end/2_samples"]["ratio_to_floor"] > 1
    assert "end_to_end/2_samples" in done.stdout
    (line,) = (tmp_path / "all.jsonl").read_text().splitlines()
    assert json.loads(line)["suite"] == "policy"


@pytest.mark.slow
def test_a_model_that_is_too_large_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(SCRIPT.parents[1]))
    done = _run(
        "--suite=policy", "--preset=r1_10b", "--num_samples=1", "--loops", f"--workdir={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    row = read_summary(tmp_path)["phases"]["decode_token/1_samples"]
    assert row["status"] == "not measured" and row["median"] is None
    assert row["floor"] == pytest.approx(4.7e-3, rel=0.05)
    assert "Nothing was run" in done.stdout and "not measured" in done.stdout


@pytest.mark.parametrize("args, message", [
    (["--suite=policy", "--num_samples=0"], "num_samples 0 must be different numbers from 1 on"),
    (["--suite=policy", "--num_samples=2,2"], "must be different numbers"),
    (["--suite=first", "--preset=tiny", "--checkpoint=x"], "give no --preset beside it"),
    (["--suite=kernel"], "suite"),
    (["--suite=train", "--rows=2"], "rows change one model: give its --preset"),
    (["--suite=train", "--preset=tiny", "--length=50"], "too short"),
])  # fmt: skip
def test_bad_input(tmp_path, args, message):
    done = _run(*args, f"--workdir={tmp_path}")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "summary.json").exists()
