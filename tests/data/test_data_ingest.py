"""Ingest: what goes in comes out, failures are named, and a killed run ends like an undisturbed."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.data import ingest, staging, store
from alpamayo_jax.data.sources import FolderSource
from alpamayo_jax.testing.clips import write_small_clip
from alpamayo_jax.types import InputError

HERE = pathlib.Path(__file__).parent
NUM_CLIPS = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four clips; the third has a damaged image."""
    root = tmp_path_factory.mktemp("drives")
    for number in range(NUM_CLIPS):
        folder = write_small_clip(
            root / f"clip{number}",
            seconds=8.3,
            cameras=("camera_front_wide_120fov",) if number else (),
            num_agents=number,
            with_map=number == 1,
            reasoning=[(1.0, "Keep the lane.")],
            seed=number,
            size=(16, 8),
            frame_dt=0.3,
        )
    image = folder.parent / "clip2" / "frames" / "camera_front_wide_120fov_000005.jpg"
    image.write_bytes(image.read_bytes()[:-30])
    return root


@pytest.fixture(scope="module")
def undisturbed(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "store"
    ingest.ingest("clips", {"root": str(root)}, out, progress=False)
    return out


def contents(out):
    """Everything of a store that must be the same again."""
    opened = store.open_store(out)
    summary = json.loads((out / "summary.json").read_text())
    del summary["seconds"]
    media = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.glob("media/*/*")}
    files = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    return [opened.record(i) for i in range(len(opened))], summary, media, files


def same(found, expected):
    """Compares trees of dictionaries, lists and arrays."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            same(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for a, b in zip(found, expected):
            same(a, b)
    else:
        np.testing.assert_array_equal(found, expected)


def test_the_summary_names_what_was_left_out(root, undisturbed):
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert summary["clips"] == 3
    assert summary["windows"] > 0 and summary["seconds"] > 0
    (failure,) = summary["failed"]
    assert failure["name"] == "clip2"
    assert "camera 'camera_front_wide_120fov' frame 5" in failure["reason"]
    source = FolderSource(root)
    windows = [int(store.open_store(undisturbed).record(i)["windows"]) for i in range(3)]
    assert sum(windows) == summary["windows"]
    assert len(source) == NUM_CLIPS


def test_clips_come_back(root, undisturbed):
    opened, source = store.open_store(undisturbed), FolderSource(root)
    for place, number in enumerate((0, 1, 3)):
        found, expected = opened.clip(place), source.clip(number)
        assert found.clip_id == expected.clip_id == opened.clip_name(place)
        np.testing.assert_array_equal(found.ego.xyz, expected.ego.xyz)
        assert found.reasoning == expected.reasoning
        assert (found.map_lines is None) == (number != 1)
        for a, b in zip(found.cameras, expected.cameras, strict=True):
            assert a.intrinsics == b.intrinsics and (a.name, a.index) == (b.name, b.index)
            for frame in range(len(b.times)):
                np.testing.assert_array_equal(a.read(frame), b.read(frame))


def test_nothing_is_left_beside_the_store(undisturbed):
    top = {path.name for path in undisturbed.iterdir()}
    assert top == {"driving_clips", "media", "ingest.json", "summary.json"}
    assert not [p for p in undisturbed.rglob("*") if p.name.startswith(".")]


def test_again_is_nothing_to_do(root, undisturbed):
    before = (undisturbed / "summary.json").read_bytes()
    stamps = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*") if p.is_file()}
    summary = ingest.ingest("clips", {"root": str(root)}, undisturbed, progress=False)
    assert summary == json.loads(before)
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


KILLS = (
    *(("file", 0), ("file", 1), ("file", 2), ("frame", 0), ("frame", 33), ("rename", 0)),
    *(("rename", 2), ("rename", 6), ("rename", 7)),
    *(("dataset", 0), ("record", 1), ("summary", 0), ("cleaning", 0), ("cleaning", 1)),
)


@pytest.mark.parametrize("place, count", KILLS)
def test_killed_at_any_moment_and_started_again(root, undisturbed, tmp_path, place, count):
    out = tmp_path / "store"
    command = [sys.executable, str(HERE / "killed_ingest.py"), str(root), str(out), place]
    paths = os.pathsep.join([str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
    killed = subprocess.run(
        [*command, str(count)], env=os.environ | {"PYTHONPATH": paths}, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    whole = (place, count) in (("summary", 0), ("rename", 7), ("cleaning", 1))
    assert store.is_complete(out) == whole
    if not whole:
        with pytest.raises(InputError, match="no store is there|has not finished"):
            store.open_store(out)
    ingest.ingest("clips", {"root": str(root)}, out, progress=False)
    same(contents(out), contents(undisturbed))


def test_a_staged_clip_is_not_read_again(root, tmp_path, monkeypatch):
    out = tmp_path / "store"
    job = staging.Job("clips", (("root", str(root)),), str(out))
    assert staging.stage(job, 0) and not staging.stage(job, 2)
    read = []
    original = FolderSource.clip
    monkeypatch.setattr(
        FolderSource, "clip", lambda self, i: read.append(i) or original(self, i)
    )
    ingest.ingest("clips", {"root": str(root)}, out, progress=False)
    assert read == [1, 2, 3]


def test_stopping_at_the_first_failure_and_going_on(root, tmp_path):
    out = tmp_path / "store"
    options = {"root": str(root)}
    with pytest.raises(InputError, match="clip 'clip2'.*--on_error=skip goes on without it"):
        ingest.ingest("clips", options, out, on_error="stop", progress=False)
    assert not store.is_complete(out)
    assert ingest.ingest("clips", options, out, progress=False)["clips"] == 3


def test_a_repaired_clip_is_tried_again(root, tmp_path):
    copy, out = shutil.copytree(root, tmp_path / "drives"), tmp_path / "store"
    with pytest.raises(InputError):
        ingest.ingest("clips", {"root": str(copy)}, out, on_error="stop", progress=False)
    frames = copy / "clip2" / "frames"
    shutil.copy(frames / "camera_front_wide_120fov_000004.jpg",
                frames / "camera_front_wide_120fov_000005.jpg")  # fmt: skip
    summary = ingest.ingest("clips", {"root": str(copy)}, out, on_error="stop", progress=False)
    assert summary["clips"] == 4 and not summary["failed"]


def test_another_ingest_in_the_same_folder(root, undisturbed, tmp_path):
    write_small_clip(tmp_path / "other", seconds=8.3, cameras=())
    with pytest.raises(InputError, match="holds the ingest of 4 clip.*choose another folder"):
        ingest.ingest("clips", {"root": str(tmp_path)}, undisturbed, progress=False)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "ingest.json").write_text("{")
    with pytest.raises(InputError, match="ingest.json is damaged"):
        ingest.ingest("clips", {"root": str(root)}, tmp_path / "store", progress=False)


def test_nothing_can_be_read(tmp_path):
    folder = write_small_clip(tmp_path / "drives" / "short", seconds=3.0, cameras=())
    with pytest.raises(InputError, match=r"none of 1 clip.*could be read.*'short': ego\.t"):
        ingest.ingest("clips", {"root": str(folder.parent)}, tmp_path / "store", progress=False)


def test_unknown_engines_and_sources(tmp_path):
    with pytest.raises(ConfigError, match="engine 'cloud' is one of local, beam"):
        ingest.ingest("clips", {}, tmp_path, engine="cloud")
    with pytest.raises(ConfigError, match="on_error 'x'"):
        ingest.ingest("clips", {}, tmp_path, on_error="x")
    with pytest.raises(ConfigError, match="data.source 'x' is unknown"):
        ingest.ingest("x", {}, tmp_path)


def test_recorded_drives(real_clips_dir, tmp_path):
    summary = ingest.ingest("clips", {"root": str(real_clips_dir)}, tmp_path, progress=False)
    source, opened = FolderSource(real_clips_dir), store.open_store(tmp_path)
    assert summary["clips"] == len(source) == len(opened) and not summary["failed"]
    stated = 0
    for number, folder in enumerate(source.folders):
        found, expected = opened.clip(number), source.clip(number)
        for name in ("t", "xyz", "quat_wxyz"):
            np.testing.assert_array_equal(getattr(found.ego, name), getattr(expected.ego, name))
        with np.load(folder / "ego.npz", allow_pickle=False) as arrays:
            np.testing.assert_array_equal(found.ego.xyz, arrays["xyz10"])
        for a, b in ((found.agents, expected.agents), (found.map_lines, expected.map_lines)):
            assert (a is None) == (b is None)
            for name, value in vars(b).items() if b is not None else ():
                if value is not None:
                    np.testing.assert_array_equal(getattr(a, name), value)
        for a, b in zip(found.cameras, expected.cameras, strict=True):
            for frame in range(0, len(b.times), 97):
                np.testing.assert_array_equal(a.read(frame), b.read(frame))
        meta = json.loads((folder / "meta.json").read_text())
        stated += meta.get("windows", {}).get("windows_stride_0p1s", 0)
    assert summary["windows"] == stated
