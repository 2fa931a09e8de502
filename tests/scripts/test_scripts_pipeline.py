"""experiments/pipeline.py: what a run leaves behind, and what it refuses."""

import base64
import io
import math
import re

import jax
import numpy as np
import pytest
from PIL import Image
from script_process import (
    NUM_SAMPLES,
    assert_refused,
    pipeline_flags,
    read_summary,
    run_script,
    snapshot,
)

from alpamayo_jax.data.clip_folder import write_clip
from alpamayo_jax.decode.policy import load_policy, new_policy
from alpamayo_jax.presets import preset
from alpamayo_jax.sim.source import procedural_clip
from alpamayo_jax.testing.clips import write_small_clip


@pytest.fixture(scope="module")
def summary(pipeline_run):
    return read_summary(pipeline_run.workdir)


def test_the_workdir_has_all_outputs(pipeline_run):
    files = set(snapshot(pipeline_run.workdir))
    assert {"report.html", "summary.json", "checkpoint/model.safetensors"} <= files
    assert not [name for name in files if "/." in name or name.startswith(".")]
    assert f"report: {pipeline_run.workdir / 'report.html'}" in pipeline_run.done.stdout


def test_the_summary_is_flat_and_complete(summary):
    assert {
        f"min_ade_{NUM_SAMPLES}", "ade", "ade_most_likely", "ade_constant_velocity",
        "ade_constant_turn_rate", "windows_train", "windows_test", "seconds", "seconds_training",
        "loss_tokens", "loss_sft", "loss_grpo", "loss_expert", "reward_before", "reward_after",
        "consistency_before", "consistency_after",
    } <= set(summary)  # fmt: skip
    assert all(isinstance(v, (int, float)) and math.isfinite(v) for v in summary.values())
    assert summary["windows_test"] == 3
    # 20 s hold windows from 1.6 to 13.6 s; two clips, and their mirror images.
    assert summary["windows_train"] == 4 * len(np.arange(1.6, 13.6 + 1e-6, 4.0))
    assert 0 < summary["seconds_training"] < summary["seconds"]
    assert 0 < summary[f"min_ade_{NUM_SAMPLES}"] <= summary["ade_most_likely"]
    # An untrained token model is about as good as guessing.
    assert summary["loss_sft"] < 1.2 * math.log(preset("tiny").language.vocab_size)


def test_it_ends_in_closed_loop_beside_baselines(summary, pipeline_run):
    for name in ("", "_recorded", "_constant_velocity", "_route_follower"):
        assert 0.0 <= summary[f"closed_loop_scene_score{name}"] <= 1.0
        assert summary[f"closed_loop_kilometres{name}"] > 0.0
    assert summary["closed_loop_scene_score_recorded"] > 0.9  # the expert itself
    assert summary["closed_loop_incidents_recorded"] == 0
    page = (pipeline_run.workdir / "report.html").read_text(encoding="utf-8")
    assert "Closed loop" in page and "route follower" in page
    assert "closed loop, policy: 100%" in pipeline_run.done.stderr


def test_progress_is_shown(pipeline_run):
    bars = [f"train {stage}" for stage in ("tokens", "sft", "grpo", "expert")]
    for bar in (f"{name}: 100%" for name in (*bars, "rewards", "evaluate")):
        assert bar in pipeline_run.done.stderr
    assert "windows to train on, 3 held out" in pipeline_run.done.stderr


def test_the_report_has_tables_curves_and_pictures(pipeline_run):
    page = (pipeline_run.workdir / "report.html").read_text(encoding="utf-8")
    for words in (
        "Held-out windows", "Training", "Reinforcement learning", "Example rollouts",
        "Configuration", "num_test_clips: 1", "constant turn rate", f"minADE_{NUM_SAMPLES}",
    ):  # fmt: skip
        assert words in page
    images = re.findall(r"data:image/(?:png|jpeg);base64,([^\"]+)", page)
    rollouts = len(list((pipeline_run.workdir / "rollouts").glob("*.png")))
    rewards = page.count("mean of every rollout</figcaption>")
    assert rollouts == 2 and rewards >= 5
    # Error over time, one window, three loss curves; one street of the closed loop.
    others = len(images) - rewards - rollouts
    assert 5 < others <= 5 + 4
    for data in images:
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            image.load()


def test_the_checkpoint_is_the_trained_policy(pipeline_run):
    policy = load_policy(pipeline_run.checkpoint)
    assert policy.config == preset("tiny")
    untrained = new_policy(preset("tiny"), jax.random.key(0))  # the configuration's seed
    one, two = jax.device_get((policy.params, untrained.params))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), one, two)
    for name, module in moved.items():
        assert any(jax.tree.leaves(module)), f"{name} was not trained"


@pytest.mark.parametrize(
    "knobs, words",
    [
        ({"bogus": 1}, ["--config.bogus=1", "no 'bogus'"]),
        ({"data__bogus": 1}, ["--config.data.bogus=1", "no 'bogus'"]),
        ({"eval__num_samples": 0}, ["num_samples 0"]),
        ({"eval__batch_size": 0}, ["eval.batch_size is 0"]),
        ({"expert__steps": 0}, ["stage 'expert'", "num_steps 0"]),
        ({"tokens__steps": "many"}, ["--config.tokens.steps=many"]),
        ({"preset": "huge"}, ["preset 'huge' is unknown", "tiny"]),
        ({"seed": -1}, ["seed is -1"]),
        ({"data__source": "clips"}, ["data.root"]),
        ({"data__source": "clips", "data__root": "/no/such"}, ["/no/such is not a folder"]),
        ({"data__source": "films"}, ["data.source 'films'", "clips", "procedural"]),
        ({"data__num_test_clips": 0}, ["num_test_clips 0", "has 2"]),
        ({"data__max_length": 10}, ["tokens, more than pad_to 10"]),
    ],
)
def test_bad_knobs(pipeline_run, knobs, words):
    before = snapshot(pipeline_run.workdir)
    done = run_script("pipeline", *pipeline_flags(pipeline_run.workdir, **knobs))
    assert_refused(done, "pipeline", *words)
    assert snapshot(pipeline_run.workdir) == before


def test_a_workdir_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("mine")
    for workdir in (tmp_path / "out", tmp_path / "out" / "below"):
        done = run_script("pipeline", *pipeline_flags(workdir))
        assert_refused(done, "pipeline", f"--workdir={workdir}", "folder")
    assert snapshot(tmp_path) == {"out": b"mine"}


def test_a_checkpoint_folder_with_something_else(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "thesis.txt").write_text("mine")
    done = run_script("pipeline", *pipeline_flags(tmp_path))
    assert_refused(done, "pipeline", str(tmp_path / "checkpoint"), "not a checkpoint")
    assert snapshot(tmp_path) == {"checkpoint/thesis.txt": b"mine"}


def clip_flags(workdir, root):
    return pipeline_flags(
        workdir,
        data__source="clips",
        data__root=root,
        data__train_seconds="(0.0, 9.0)",
        data__test_seconds="(9.0, 18.0)",
    )


def test_a_bad_frame_among_those_that_train(pipeline_run, tmp_path):
    folder = write_small_clip(tmp_path / "drive", seconds=18.0, cameras=("front",))
    for path in (folder / "frames").iterdir():
        path.write_bytes(path.read_bytes()[:-400])
    before = snapshot(pipeline_run.workdir)
    done = run_script("pipeline", *clip_flags(pipeline_run.workdir, tmp_path))
    assert_refused(done, "pipeline", "clip 'drive'", "frames/front_", "cut off")
    assert snapshot(pipeline_run.workdir) == before


def test_clips_that_are_too_short(tmp_path):
    write_small_clip(tmp_path / "clips" / "drive", seconds=7.0, cameras=())
    done = run_script("pipeline", *clip_flags(tmp_path / "out", tmp_path / "clips"))
    assert_refused(done, "pipeline", "clip 'drive'", "7.0 s", "8.0 s")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_one_sentence(pipeline_run):
    before = snapshot(pipeline_run.workdir)
    knobs = {"tokens__learning_rate": 1e30, "tokens__warmup_fraction": 0.0, "tokens__steps": 4}
    done = run_script("pipeline", *pipeline_flags(pipeline_run.workdir, **knobs))
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("pipeline.py: train tokens: ") and "nan" in last
    assert "procedural" in last and "learning rate" in last
    assert snapshot(pipeline_run.workdir) == before


@pytest.mark.slow
def test_the_same_seed_gives_the_same_policy(pipeline_run, tmp_path):
    done = run_script("pipeline", *pipeline_flags(tmp_path))
    assert done.returncode == 0, done.stderr
    one, two = snapshot(pipeline_run.checkpoint), snapshot(tmp_path / "checkpoint")
    assert one == two
    first, second = (
        read_summary(folder)
        for folder in (pipeline_run.workdir, tmp_path)
    )
    timed = {"seconds", "seconds_training"}
    assert {k: v for k, v in first.items() if k not in timed} == {
        k: v for k, v in second.items() if k not in timed
    }


@pytest.mark.slow
def test_a_folder_of_clips(tmp_path):
    for index in range(2):
        write_clip(tmp_path / "clips" / str(index), procedural_clip(5, index, seconds=18.0))
    done = run_script("pipeline", *clip_flags(tmp_path / "out", tmp_path / "clips"))
    assert done.returncode == 0, done.stderr
    summary = read_summary(tmp_path / "out")
    # Seconds 0 to 9 hold windows at 1.6 s alone; 9 to 18 s from 10.6 s on.
    assert summary["windows_train"] == 2 * 2 and summary["windows_test"] == 3
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.slow
def test_recorded_drives_beat_the_baselines(real_clips_dir, tmp_path):
    """The defaults, trained on seconds 0 to 50 of a recording, on its part from 58 s on."""
    root = real_clips_dir / "kitti_odometry" / "seq03"
    if not root.is_dir():
        pytest.skip(f"no clip at {root}")
    config = pipeline_flags(tmp_path)[0]
    done = run_script(
        "pipeline",
        config,
        "--config.data.source=clips",
        f"--config.data.root={root}",
        f"--workdir={tmp_path}",
        limit_s=1800,
    )
    assert done.returncode == 0, done.stderr
    summary = read_summary(tmp_path)
    assert summary["windows_test"] > 20
    assert summary["min_ade_6"] < summary["ade_constant_velocity"]
    assert summary["min_ade_6"] < summary["ade_constant_turn_rate"]
