"""experiments/evaluate.py: a folder of clips, and what is refused."""

import base64
import csv
import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from script_process import (
    BATCH_SIZE,
    MAX_NEW_TOKENS,
    NUM_FRAMES,
    NUM_SAMPLES,
    assert_refused,
    read_summary,
    run_script,
    snapshot,
)

from alpamayo_jax.testing.clips import edit_npz, write_small_clip

NOT_METRICS = {"num_samples", "windows", "clips", "seconds", "per_clip"}


def evaluate_flags(checkpoint, clips, workdir, /, **options):
    values = {
        "checkpoint": checkpoint,
        "clips": clips,
        "workdir": workdir,
        "num_samples": NUM_SAMPLES,
        "batch_size": BATCH_SIZE,
        "num_frames": NUM_FRAMES,
        "max_new_tokens": MAX_NEW_TOKENS,
        "stride_s": 1.0,
    }
    return [f"--{name}={value}" for name, value in (values | options).items()]


@pytest.fixture(scope="module")
def evaluated(pipeline_run, clips_folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("evaluate")
    done = run_script("evaluate", *evaluate_flags(pipeline_run.checkpoint, clips_folder, workdir))
    assert done.returncode == 0, done.stderr
    return workdir, done


def read_rows(workdir):
    with open(workdir / "windows.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_summary_has_metrics_in_all_and_per_clip(evaluated):
    workdir, _ = evaluated
    assert set(snapshot(workdir)) == {"report.html", "windows.csv", "summary.json"}
    summary = read_summary(workdir)
    assert {
        "min_ade", "ade", "ade_most_likely", "mean_ade", "fde", "min_fde", "corner_distance",
        "corner_distance_best_sample", "miss_rate", "ade_constant_velocity",
        "ade_constant_turn_rate", "fde_constant_velocity", "fde_constant_turn_rate",
        "min_ade/by_t=3.0",
    } <= set(summary)  # fmt: skip
    # Windows from 1.6 s to 3.6 s of two clips of 10 s.
    assert (summary["windows"], summary["clips"], summary["num_samples"]) == (6, 2, NUM_SAMPLES)
    assert set(summary["per_clip"]) == {"a", "b"}
    for name in set(summary) - NOT_METRICS:
        means = [clip[name] for clip in summary["per_clip"].values()]
        assert summary[name] == pytest.approx(np.mean(means), abs=1e-6), name
    assert summary["min_ade"] <= summary["mean_ade"]


def test_every_window_is_a_row(evaluated):
    workdir, _ = evaluated
    rows = read_rows(workdir)
    assert [(row["clip"], row["t0"]) for row in rows] == [
        (clip, t0) for clip in "ab" for t0 in ("1.600", "2.600", "3.600")
    ]
    summary = read_summary(workdir)
    for name in ("min_ade", "ade_constant_velocity", "miss_rate"):
        mean = np.mean([float(row[name]) for row in rows])
        assert summary[name] == pytest.approx(mean, rel=1e-5)


def test_the_table_and_the_report(evaluated):
    workdir, done = evaluated
    assert "evaluate: 100%" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["clip", "windows"]
    assert [line.split()[0] for line in lines[2:5]] == ["a", "b", "all"]
    page = (workdir / "report.html").read_text(encoding="utf-8")
    images = re.findall(r"data:image/(?:png|jpeg);base64,([^\"]+)", page)
    assert len(images) == 1 + 6
    for data in images:
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            image.load()


def test_one_clip_and_a_part_of_it(pipeline_run, clips_folder, evaluated, tmp_path):
    """A folder that is a clip; the windows it shares with the run above have the same baselines."""
    flags = evaluate_flags(
        pipeline_run.checkpoint, clips_folder / "b", tmp_path, start_s=0.5, end_s=10.0
    )
    done = run_script("evaluate", *flags)
    assert done.returncode == 0, done.stderr
    rows = read_rows(tmp_path)
    assert [(row["clip"], row["t0"]) for row in rows] == [("b", "2.100"), ("b", "3.100")]
    assert list(read_summary(tmp_path)["per_clip"]) == ["b"]


def test_another_seed_gives_other_samples(pipeline_run, clips_folder, evaluated, tmp_path):
    flags = evaluate_flags(pipeline_run.checkpoint, clips_folder, tmp_path, seed=1)
    assert run_script("evaluate", *flags).returncode == 0
    for first, other in zip(read_rows(evaluated[0]), read_rows(tmp_path), strict=True):
        assert first["ade_constant_velocity"] == other["ade_constant_velocity"]
        assert first["ade"] != other["ade"]


@pytest.fixture
def unchanged(evaluated):
    """The workdir of an earlier run, which a refusal must leave as it is."""
    before = snapshot(evaluated[0])
    yield evaluated[0]
    assert snapshot(evaluated[0]) == before


def cut(path):
    path.write_bytes(path.read_bytes()[:-300])


def nan_pose(ego):
    ego["xyz10"][50, 1] = ego["xyz"][50, 1] = np.nan


BAD_CLIPS = {
    "nan": (lambda d: edit_npz(d / "ego.npz", nan_pose), ["ego.npz", "NaN", "row 50"]),
    # The last window of the last clip: the others have been sampled by then.
    "late_image": (
        lambda d: cut(sorted((d / "frames").iterdir())[36]),
        ["frames/front_000036.jpg", "cut off"],
    ),
    "lost_image": (
        lambda d: sorted((d / "frames").iterdir())[3].unlink(),
        ["frames.csv", "line 5", "frames/front_000003.jpg"],
    ),
}


@pytest.mark.parametrize("name", BAD_CLIPS)
def test_one_bad_clip_among_good_ones(pipeline_run, clips_folder, unchanged, tmp_path, name):
    damage, words = BAD_CLIPS[name]
    clips = shutil.copytree(clips_folder, tmp_path / "clips")
    damage(clips / "b")
    done = run_script("evaluate", *evaluate_flags(pipeline_run.checkpoint, clips, unchanged))
    assert_refused(done, "evaluate", "clip 'b'", *words)


def test_clips_that_are_too_short(pipeline_run, unchanged, tmp_path):
    write_small_clip(tmp_path / "short", seconds=7.9, cameras=())
    done = run_script("evaluate", *evaluate_flags(pipeline_run.checkpoint, tmp_path, unchanged))
    assert_refused(done, "evaluate", "clip 'short'", "7.9 s", "8.0 s")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"checkpoint": "/no/such"}, ["checkpoint", "/no/such", "does not exist"]),
        ({"clips": "/no/such"}, ["clips", "/no/such", "not a folder"]),
        ({"clips": "/proc/self/fd"}, ["no folder at or below", "ego.npz"]),
        ({"num_samples": 0}, ["--num_samples=0"]),
        ({"batch_size": 0}, ["--batch_size=0"]),
        ({"stride_s": 0.25}, ["stride_s is 0.25", "0.1"]),
        ({"stride_s": "nan"}, ["stride_s is nan"]),
        ({"start_s": "nan"}, ["start_s is nan"]),
        ({"start_s": 5.0}, ["no window", "start_s=5.0"]),
        ({"seed": 2**32}, [f"--seed={2**32}"]),
    ],
)
def test_bad_flags(pipeline_run, clips_folder, unchanged, options, words):
    flags = evaluate_flags(pipeline_run.checkpoint, clips_folder, unchanged, **options)
    assert_refused(run_script("evaluate", *flags), "evaluate", *words)


def test_a_truncated_checkpoint(pipeline_run, clips_folder, unchanged, tmp_path):
    checkpoint = shutil.copytree(pipeline_run.checkpoint, tmp_path / "checkpoint")
    cut(checkpoint / "model.safetensors")
    done = run_script("evaluate", *evaluate_flags(checkpoint, clips_folder, unchanged))
    assert_refused(done, "evaluate", "model.safetensors", "cut off")


def test_a_workdir_that_is_a_file(pipeline_run, clips_folder, tmp_path):
    (tmp_path / "out").write_text("mine")
    flags = evaluate_flags(pipeline_run.checkpoint, clips_folder, tmp_path / "out")
    assert_refused(run_script("evaluate", *flags), "evaluate", f"--workdir={tmp_path / 'out'}")
    assert snapshot(tmp_path) == {"out": b"mine"}
