"""experiments/ingest.py: what it writes, what it says, what it refuses."""


import pytest
from script_process import assert_refused, read_summary, run_script

from alpamayo_jax.data.store import open_store
from alpamayo_jax.testing.clips import write_small_clip
from alpamayo_jax.testing.physical_ai import SmallSet, write_small_set


def _summary(out):
    summary = read_summary(out)
    assert set(summary) == {"clips", "failed", "windows", "seconds"}
    return summary


@pytest.fixture
def drives(tmp_path):
    for number, seconds in enumerate((8.3, 3.0)):
        write_small_clip(tmp_path / "drives" / f"clip{number}", seconds=seconds, cameras=())
    return tmp_path / "drives"


def test_clips(drives, tmp_path):
    out = tmp_path / "out"
    done = run_script("ingest", "--source=clips", f"--root={drives}", f"--workdir={out}")
    assert done.returncode == 0, done.stderr
    summary = _summary(out)
    assert summary["clips"] == 1 and summary["windows"] == 4
    (failure,) = summary["failed"]
    assert failure["name"] == "clip1" and "ego.t covers 3.0 s" in failure["reason"]
    assert "left out clip1: clip 'clip1': ego.t covers 3.0 s" in done.stdout
    assert f"1 clip(s) with 4 windows in {out}, 1 left out" in done.stdout
    assert len(open_store(out)) == 1
    again = run_script("ingest", "--source=clips", f"--root={drives}", f"--workdir={out}")
    assert again.returncode == 0 and again.stdout == done.stdout


def test_stopping(drives, tmp_path):
    done = run_script(
        "ingest", "--source=clips", f"--root={drives}", f"--workdir={tmp_path / 'out'}",
        "--on_error=stop",
    )  # fmt: skip
    assert_refused(done, "ingest", "clip 'clip1'", "ego.t covers", "--on_error=skip goes on")
    assert not (tmp_path / "out" / "summary.json").exists()


def test_physical_ai(tmp_path):
    pytest.importorskip("av")
    root = write_small_set(tmp_path / "set", SmallSet(clips=(("a-0",), ("b-0",)), seconds=8.5))
    done = run_script(
        "ingest", "--source=physical_ai", f"--root={root}", f"--workdir={tmp_path / 'out'}",
        "--chunks=1", "--cameras=camera_front_wide_120fov",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert _summary(tmp_path / "out")["clips"] == 1
    clip = open_store(tmp_path / "out").clip(0)
    assert clip.clip_id == "b-0" and [c.index for c in clip.cameras] == [1]


@pytest.mark.parametrize("args, words", [
    (["--source=clips"], ["--source=clips needs --root"]),
    (["--source=clips", "--root=/nowhere"], ["/nowhere is not a folder"]),
    (["--source=procedural", "--root=/x"], ["procedural clips come from no folder"]),
    (["--source=physical_ai", "--root=/nowhere"], ["/nowhere is not a folder"]),
    (["--source=nuscenes"], ["--source"]),
    (["--source=clips", "--root=/x", "--engine=spark"], ["--engine"]),
])  # fmt: skip
def test_what_is_refused(tmp_path, args, words):
    done = run_script("ingest", *args, f"--workdir={tmp_path}")
    assert_refused(done, "ingest", *words)
