import pathlib
import subprocess
import sys

import pytest
from script_process import read_summary

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "experiments" / "plan.py"


def _run(*args):
    return subprocess.run([sys.executable, SCRIPT, *args], text=True, capture_output=True, cwd=ROOT)


def test_a_configuration_on_other_devices(tmp_path):
    """Flags change what the file says; the devices are made up on the spot."""
    done = _run(
        "--config=configs/tokens_tiny.py", "--mesh=2xA100", "--config.mesh.fsdp=-1", "--batch=4",
        "--cameras=1",
        "--lora_rank=2", f"--workdir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = read_summary(tmp_path)
    assert summary["mesh"] == {"data": 1, "fsdp": 2, "tensor": 1, "seq": 1}
    assert summary["device"] == "A100" and summary["fits"] is True
    assert summary["batch"] == 4 and summary["length"] == 320
    assert summary["stage"]["lora_rank"] == 2 and summary["stage"]["steps"] == 300
    assert summary["trained_parameters"] < summary["parameters"] / 20
    assert summary["replicated_against_rules"] == []
    assert summary["seconds"] > summary["compile_seconds"] > 0
    held = summary["bytes_per_device"]
    assert set(held) == {
        "parameters", "optimiser", "average", "batch", "gradients", "activations", "temporaries",
        "total",
    }  # fmt: skip
    assert 0 < held["gradients"] < held["parameters"] < held["total"]
    assert summary["collectives"]["all-gather"]["bytes"] > 0
    assert summary["largest_collectives"][0]["bytes"] > 0
    assert "fits: yes" in done.stdout and "all-gather" in done.stdout


@pytest.mark.parametrize("args, message", [
    (["--mesh=8xH100"], "give --preset and --batch, or --config"),
    (["--mesh=fsdp:2,rows:4", "--preset=tiny", "--batch=8"], "'rows:4' is not AXIS:SIZE"),
    (["--mesh=fsdp:3", "--preset=tiny", "--batch=6"], "does not divide over 3 devices"),
    (["--mesh=fsdp:2", "--preset=tiny", "--batch=3"], "'batch' of 3 does not divide over 2"),
    (["--mesh=8xA100", "--preset=tiny", "--batch=8", "--compiler=cuda"], "knows H100, H200"),
    (["--mesh=fsdp:2", "--config=configs/tiny.py"], "has no section 'stage'"),
    (["--mesh=8xH100", "--config=configs/full_8gpu.py"], "names no preset: give --preset"),
])  # fmt: skip
def test_bad_input(tmp_path, args, message):
    done = _run(*args, f"--workdir={tmp_path}")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("plan.py: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (tmp_path / "summary.json").exists()
