"""experiments/sample.py: one moment of one clip, and what is refused."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from script_process import (
    MAX_NEW_TOKENS,
    NUM_FRAMES,
    assert_refused,
    read_summary,
    run_script,
    snapshot,
)

from alpamayo_jax.data.clip_folder import read_clip
from alpamayo_jax.data.windows import target
from alpamayo_jax.testing.clips import edit_json, edit_npz

K, T0 = 3, 2.0


def sample_flags(checkpoint, clip, workdir, /, **options):
    values = {
        "checkpoint": checkpoint,
        "clip": clip,
        "workdir": workdir,
        "t0": T0,
        "num_samples": K,
        "num_frames": NUM_FRAMES,
        "max_new_tokens": MAX_NEW_TOKENS,
    }
    return [f"--{name}={value}" for name, value in (values | options).items()]


@pytest.fixture(scope="module")
def sampled(pipeline_run, clips_folder, tmp_path_factory):
    """Workdirs of three runs: seed 0, seed 0 again, seed 1; and what the first printed."""
    root = tmp_path_factory.mktemp("sample")
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        done = run_script(
            "sample",
            *sample_flags(pipeline_run.checkpoint, clips_folder / "a", root / name, seed=seed),
        )
        assert done.returncode == 0, done.stderr
        (root / f"{name}.txt").write_text(done.stdout)
    return root


def arrays(folder):
    with np.load(folder / "trajectories.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_the_workdir_has_exactly_the_outputs(sampled):
    assert set(snapshot(sampled / "first")) == {
        "drive.png", "trajectories.npz", "reasoning.json", "reasoning.txt", "summary.json",
    }  # fmt: skip


def test_trajectories_are_poses_on_the_road_ahead(sampled):
    found = arrays(sampled / "first")
    assert set(found) == {"xyz", "rot"}
    assert found["xyz"].shape == (K, 64, 3) and found["rot"].shape == (K, 64, 3, 3)
    assert np.isfinite(found["xyz"]).all()
    product = found["rot"] @ np.swapaxes(found["rot"], -1, -2)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(found["rot"]), 1.0, atol=1e-5)
    # 0.1 s after t0 a car is a few metres from the origin at most.
    assert np.linalg.norm(found["xyz"][:, 0], axis=-1).max() < 5.0
    assert np.abs(found["xyz"] - found["xyz"][:1]).max() > 1e-3  # samples differ


def test_the_summary_measures_against_the_recorded_future(sampled, clips_folder):
    summary = read_summary(sampled / "first")
    clip = read_clip(clips_folder / "a")
    assert summary["clip"] == clip.clip_id and summary["t0"] == T0
    assert summary["num_samples"] == K and summary["seed"] == 0 and summary["seconds"] > 0
    assert all(not isinstance(value, (dict, list)) for value in summary.values())
    driven = target(clip, T0).ego_future_xyz
    ade = np.linalg.norm((arrays(sampled / "first")["xyz"] - driven)[..., :2], axis=-1).mean(-1)
    assert summary["min_ade"] == pytest.approx(ade.min(), rel=1e-4)
    assert summary["ade"] == pytest.approx(ade[0], rel=1e-4)
    assert {"ade_constant_velocity", "ade_constant_turn_rate", "corner_distance"} <= set(summary)


def test_the_reasoning_is_json_and_text(sampled):
    reasoning = json.loads((sampled / "first" / "reasoning.json").read_text())
    assert len(reasoning) == K
    for entry in reasoning:
        assert set(entry) == {"reasoning", "meta_action", "logprob", "ended"}
        assert isinstance(entry["reasoning"], str) and isinstance(entry["ended"], bool)
        assert entry["logprob"] <= 0
    text = (sampled / "first" / "reasoning.txt").read_text()
    assert [f"sample {k}: " in text for k in range(1, K + 1)] == [True] * K
    printed = (sampled / "first.txt").read_text()
    assert text in printed and f"minADE_{K}" in printed and "drive.png" in printed


def test_the_picture_opens(sampled):
    with Image.open(sampled / "first" / "drive.png") as image:
        image.load()
        assert image.format == "PNG" and image.width == 1600
        assert len(np.unique(np.asarray(image).reshape(-1, image.mode == "RGB" and 3 or 4))) > 50


def test_the_seed_decides(sampled):
    first, again, other = (arrays(sampled / name) for name in ("first", "again", "other"))
    np.testing.assert_array_equal(first["xyz"], again["xyz"])
    np.testing.assert_array_equal(first["rot"], again["rot"])
    assert (sampled / "first" / "reasoning.json").read_bytes() == (
        sampled / "again" / "reasoning.json"
    ).read_bytes()
    assert np.abs(first["xyz"] - other["xyz"]).max() > 1e-3


def test_the_end_of_a_clip_has_no_future_to_compare_with(pipeline_run, clips_folder, tmp_path):
    done = run_script(
        "sample", *sample_flags(pipeline_run.checkpoint, clips_folder / "a", tmp_path, t0=9.0)
    )
    assert done.returncode == 0, done.stderr
    assert "no recorded future" in done.stdout
    assert "min_ade" not in read_summary(tmp_path)
    assert arrays(tmp_path)["xyz"].shape == (K, 64, 3)


@pytest.mark.slow
def test_a_released_checkpoint_directory(reference_dir, clips_folder, tmp_path):
    checkpoint = reference_dir / "tiny_checkpoint"
    done = run_script("sample", *sample_flags(checkpoint, clips_folder / "a", tmp_path))
    assert done.returncode == 0, done.stderr
    assert arrays(tmp_path)["xyz"].shape == (K, 64, 3)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def nan_pose(ego):
    ego["xyz10"][5, 1] = ego["xyz"][5, 1] = np.nan


def clock_backwards(ego):
    for name in ("t", "t10"):
        ego[name][[5, 6]] = ego[name][[6, 5]]


def shorter(ego):
    ego.update({name: value[:15] for name, value in ego.items()})


BAD_CLIPS = {
    "nan": (lambda d: edit_npz(d / "ego.npz", nan_pose), ["ego.npz", "xyz", "NaN", "row 5"]),
    "backwards": (
        lambda d: edit_npz(d / "ego.npz", clock_backwards),
        ["ego.npz", "backwards", "row 6"],
    ),
    "short": (lambda d: edit_npz(d / "ego.npz", shorter), ["t0=2.000 s", "1.400 s"]),
    "cut_npz": (lambda d: cut(d / "ego.npz"), ["ego.npz"]),
    "cut_image": (
        lambda d: [cut(path) for path in (d / "frames").iterdir()],
        ["frames/front_0000", "cut off"],
    ),
    "no_meta": (lambda d: (d / "meta.json").unlink(), ["meta.json", "missing"]),
}

BAD_CHECKPOINTS = {
    "cut": (lambda d: cut(d / "model.safetensors"), ["model.safetensors", "cut off"]),
    "other_model": (
        lambda d: edit_json(d / "config.json", lambda c: c.update(model_type="llama")),
        ["config.json", "model_type", "'llama'", "alpamayo_r1"],
    ),
    "not_json": (lambda d: cut(d / "config.json"), ["config.json"]),
    "no_weights": (lambda d: (d / "model.safetensors").unlink(), ["model.safetensors"]),
    "no_tokenizer": (lambda d: (d / "tokenizer.json").unlink(), ["tokenizer.json"]),
}


@pytest.fixture
def unchanged(sampled):
    """The workdir of an earlier run, which a refusal must leave as it is."""
    before = snapshot(sampled / "first")
    yield sampled / "first"
    assert snapshot(sampled / "first") == before


@pytest.mark.parametrize("name", BAD_CLIPS)
def test_bad_clips(pipeline_run, clips_folder, unchanged, tmp_path, name):
    damage, words = BAD_CLIPS[name]
    clip = shutil.copytree(clips_folder / "a", tmp_path / name)
    damage(clip)
    done = run_script("sample", *sample_flags(pipeline_run.checkpoint, clip, unchanged))
    assert_refused(done, "sample", str(clip) if name != "short" else "clip", *words)


@pytest.mark.parametrize("name", BAD_CHECKPOINTS)
def test_bad_checkpoints(pipeline_run, clips_folder, unchanged, tmp_path, name):
    damage, words = BAD_CHECKPOINTS[name]
    checkpoint = shutil.copytree(pipeline_run.checkpoint, tmp_path / name)
    damage(checkpoint)
    done = run_script("sample", *sample_flags(checkpoint, clips_folder / "a", unchanged))
    assert_refused(done, "sample", str(checkpoint), *words)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"checkpoint": "/no/such"}, ["checkpoint", "/no/such", "does not exist"]),
        ({"clip": "/no/such"}, ["clip", "/no/such", "not a folder"]),
        ({"t0": 1.0}, ["t0=1.000 s", "of past", "1.5 s"]),
        ({"t0": 60.0}, ["t0=60.000 s", "outside", "10.000 s"]),
        ({"t0": -1.0}, ["t0=-1.000 s", "outside"]),
        ({"t0": "nan"}, ["t0=nan", "outside"]),
        ({"t0": "soon"}, ["--t0=soon"]),
        ({"num_samples": 0}, ["--num_samples=0", "positive"]),
        ({"num_frames": 0}, ["--num_frames=0"]),
        ({"num_frames": 60}, ["camera 'front'", "no frame"]),
        ({"seed": -1}, ["--seed=-1", "[0, 4294967295]"]),
        ({"temperature": 0}, ["temperature 0.0", "positive"]),
        ({"top_p": 1.5}, ["top_p 1.5"]),
        ({"navigation": "<|cot_end|>"}, ["navigation", "<|cot_end|>"]),
        ({"bogus": 1}, ["bogus"]),
    ],
)
def test_bad_flags(pipeline_run, clips_folder, unchanged, options, words):
    flags = sample_flags(pipeline_run.checkpoint, clips_folder / "a", unchanged, **options)
    assert_refused(run_script("sample", *flags), "sample", *words)


def test_a_workdir_that_is_a_file(pipeline_run, clips_folder, tmp_path):
    (tmp_path / "out").write_text("mine")
    flags = sample_flags(pipeline_run.checkpoint, clips_folder / "a", tmp_path / "out")
    assert_refused(run_script("sample", *flags), "sample", f"--workdir={tmp_path / 'out'}")
    assert snapshot(tmp_path) == {"out": b"mine"}
