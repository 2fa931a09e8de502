import pytest
from script_process import read_summary, run_script


def test_a_partial_directory(reference_dir, tmp_path):
    """Only flow matching is there: it is checked, the rest is listed as absent."""
    part = tmp_path / "part"
    part.mkdir()
    (part / "flow_matching.npz").write_bytes((reference_dir / "flow_matching.npz").read_bytes())
    done = run_script("parity", f"--reference_dir={part}", f"--workdir={tmp_path / 'out'}")
    summary = read_summary(tmp_path / "out")
    assert done.returncode == (0 if summary["passed"] else 1), done.stderr
    assert set(summary["max_relative_error"]) == {"flow", "flow_time"}
    assert summary["max_relative_error"]["flow"] < 1e-6
    assert {"metrics", "rewards", "action_space"} <= set(summary["absent"])
    assert "train_loss" in done.stdout


def test_an_empty_directory_is_off(tmp_path):
    done = run_script("parity", f"--reference_dir={tmp_path}", f"--workdir={tmp_path / 'out'}")
    assert done.returncode == 1
    assert not read_summary(tmp_path / "out")["passed"]


@pytest.mark.parametrize("args", [["--reference_dir=/no/such", "--workdir={}"], ["--workdir={}"]])
def test_bad_input(tmp_path, args):
    done = run_script("parity", *(a.format(tmp_path) for a in args))
    assert done.returncode == 2
    assert done.stderr.startswith("parity.py: ") and done.stderr.count("\n") == 1


def test_a_cut_off_file_is_named(tmp_path):
    (tmp_path / "flow_matching.npz").write_bytes(b"PK\x03\x04 cut off")
    done = run_script("parity", f"--reference_dir={tmp_path}", f"--workdir={tmp_path / 'out'}")
    assert done.returncode == 1
    failed = read_summary(tmp_path / "out")["failed"]
    assert any("flow_matching.npz" in line for line in failed)


def test_a_workdir_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("mine")
    done = run_script("parity", f"--reference_dir={tmp_path}", f"--workdir={tmp_path / 'out'}")
    assert done.returncode == 2 and "cannot be a folder" in done.stderr
    assert (tmp_path / "out").read_text() == "mine"
