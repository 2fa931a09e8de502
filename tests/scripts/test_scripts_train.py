"""experiments/train.py as a user runs it: stages, going on, stopping, and what it refuses."""

import json

import pytest
from script_process import EXPERIMENTS, read_summary, run_script
from train_runs import HERE, train, train_until_stopped, weights_of

from alpamayo_jax.decode.policy import load_policy
from alpamayo_jax.train.writers import read_json_lines

CONFIG = "small_train.py"
KEYS = {"final_step", "loss", "tokens_per_second", "step_seconds", "data_wait_fraction", "mfu"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Workdir of a finished run of stage 1."""
    workdir = tmp_path_factory.mktemp("tokens")
    done = train(CONFIG, workdir)
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_what_a_run_leaves(trained):
    workdir, done = trained
    found = read_summary(workdir)
    assert KEYS <= found.keys() and found["final_step"] == 4
    assert all(isinstance(found[key], (int, float)) for key in KEYS)
    assert 0 < found["mfu"] < 1 and "measured" in found["peak_source"]
    lines = read_json_lines(workdir / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["loss"] == found["loss"] < lines[0]["loss"]
    assert any((workdir / "tensorboard").iterdir())
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["2", "4"]
    assert load_policy(workdir / "checkpoint").config.language.num_layers == 2
    assert "final_step" in done.stdout and "tok/s" in done.stderr
    assert "orbax" not in done.stderr.lower()


def test_a_finished_run_goes_on_to_nothing(trained):
    workdir, _ = trained
    before, weights = read_summary(workdir), weights_of(workdir)
    done = train(CONFIG, workdir)
    assert done.returncode == 0, done.stderr
    assert weights_of(workdir) == weights
    again = read_summary(workdir)
    assert {k: again[k] for k in KEYS - {"mfu"}} == {k: before[k] for k in KEYS - {"mfu"}}


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_finishes(trained, tmp_path):
    stopped = train_until_stopped(CONFIG, tmp_path, steps=4)
    (kept,) = (tmp_path / "checkpoints").iterdir()
    assert kept.name == str(stopped)
    done = train(CONFIG, tmp_path, run__save_every=100)
    assert done.returncode == 0, done.stderr
    assert weights_of(tmp_path) == weights_of(trained[0])
    assert read_summary(tmp_path)["loss"] == read_summary(trained[0])["loss"]


@pytest.mark.slow
def test_the_expert_starts_from_the_export(trained, tmp_path):
    done = train(
        CONFIG, tmp_path, init_from=trained[0] / "checkpoint", stage__objective="expert",
        stage__steps=2, stage__noises_per_row=2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = (load_policy(w / "checkpoint").params for w in (trained[0], tmp_path))
    kernels = [p["vlm"]["lm_head"]["kernel"] for p in (before, after)]
    assert (kernels[0] == kernels[1]).all()
    assert (before["action_out_proj"]["kernel"] != after["action_out_proj"]["kernel"]).any()


def test_another_configuration_in_the_same_folder(trained):
    done = train(CONFIG, trained[0], stage__learning_rate=0.5)
    assert done.returncode == 2
    assert "stage.learning_rate was 0.001, is 0.5" in done.stderr


def test_a_loss_that_diverges(tmp_path):
    done = train(CONFIG, tmp_path, stage__learning_rate=1e30, stage__clip_norm=1e30)
    assert done.returncode == 1
    said = json.loads((tmp_path / "diverged.json").read_text())
    assert said["step"] <= 4 and len(said["windows"]) == 2
    assert said["windows"][0]["clip_id"] in done.stderr.splitlines()[-1]
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--config.stage.speed=9"], "the configuration has no 'speed'"),
        (["--config.stage.steps=0"], "stage 'stage'"),
        (["--config.preset="], "nothing to start from"),
        (["--config.init_from=/no/such"], "/no/such"),
        (["--profile=3"], "--profile=3 is not FIRST,COUNT"),
        (["--config.mesh.data=1000"], "does not fit"),
        (["--launch=rocket"], "launch"),
        (["--config.run.wandb_project=p"], "pip install wandb"),
    ],
)  # fmt: skip
def test_bad_input(tmp_path, flags, words):
    done = run_script("train", f"--config={HERE / CONFIG}", f"--workdir={tmp_path / 'out'}", *flags)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("train.py: ") and words in last


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tokens_tiny", "sft_tiny", "expert_tiny"])
def test_the_tiny_stages(tmp_path, name):
    config = EXPERIMENTS.parent / "configs" / f"{name}.py"
    done = run_script(
        "train", f"--config={config}", f"--workdir={tmp_path}", "--config.stage.steps=3",
        "--config.data.num_clips=1", "--config.data.num_test_clips=1", "--profile=2,1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_summary(tmp_path)["final_step"] == 3
    assert any(path.suffix == ".pb" for path in (tmp_path / "profile").rglob("*"))
