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


@pytest.mark.parametrize("args, message", [
    (["--suite=kernel"], "suite"),
    (["--suite=train", "--rows=2"], "rows change one model: give its --preset"),
    (["--suite=train", "--preset=tiny", "--length=50"], "too short"),
])  # fmt: skip
def test_bad_input(tmp_path, args, message):
    done = _run(*args, f"--workdir={tmp_path}")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "summary.json").exists()
