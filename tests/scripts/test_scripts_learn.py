"""experiments/train.py with rewards: what it leaves, that it goes on, what it refuses."""

import json
import math

import jax
import numpy as np
import pytest
from PIL import Image
from script_process import assert_refused, read_summary
from train_runs import train, train_until_stopped, weights_of

from alpamayo_jax.decode.policy import load_policy
from alpamayo_jax.train.writers import read_json_lines

CONFIG = "small_learn.py"
COMPONENTS = {"reasoning", "consistency", "ade", "collision", "jerk", "comfort", "format"}


pytestmark = pytest.mark.usefixtures("configurations_of_this_folder")


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Workdir of a finished run, and what it printed."""
    workdir = tmp_path_factory.mktemp("grpo")
    done = train(CONFIG, workdir)
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_the_summary_has_rewards_before_and_after(learned):
    workdir, done = learned
    found = read_summary(workdir)
    assert found["final_step"] == 3 and found["rollouts_per_second"] > 0
    for when in ("before", "after"):
        assert COMPONENTS | {"reward", "ade_most_likely", "min_ade"} <= found[when].keys()
        assert math.isfinite(found[when]["reward"])
        assert 0 <= found[when]["consistency"] <= 1 and 0 <= found[when]["reasoning"] <= 5
    assert all(found[name] == found["after"][name] for name in COMPONENTS | {"reward"})
    assert json.loads((workdir / "before.json").read_text()) == found["before"]
    assert "consistency" in done.stdout and "before" in done.stdout


def test_the_log_has_every_component(learned):
    lines = read_json_lines(learned[0] / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert {"reward", "reasoning", "consistency", "format", "num_tokens"} <= line.keys()
        assert all(math.isfinite(value) for value in line.values())


def test_pictures_and_page(learned):
    workdir, _ = learned
    names = sorted(path.name for path in (workdir / "rollouts").iterdir())
    assert names == ["step_000001.png", "step_000003.png"]
    for name in names:
        with Image.open(workdir / "rollouts" / name) as image:
            assert np.asarray(image).std() > 0
    page = (workdir / "rewards.html").read_text()
    assert "step 000003" in page and page.count("<img") >= 5 + len(names)


def test_stage_2_is_trained_first_and_stage_3_leaves_the_expert(learned):
    workdir, _ = learned
    start, end = (load_policy(path / "checkpoint").params for path in (workdir / "sft", workdir))
    assert not (workdir / "expert").exists()
    assert all((a == b).all() for a, b in zip(*map(_leaves, (start["expert"], end["expert"]))))


def _leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_a_finished_run_goes_on_to_nothing(learned):
    workdir, _ = learned
    before, weights = read_summary(workdir), weights_of(workdir)
    done = train(CONFIG, workdir)
    assert done.returncode == 0, done.stderr
    assert weights_of(workdir) == weights and read_summary(workdir)["after"] == before["after"]


def test_other_rewards_in_the_same_folder(learned):
    done = train(CONFIG, learned[0], reward__consistency=0.5)
    assert_refused(done, "train", "reward.consistency was 1.0, is 0.5")


@pytest.mark.parametrize(
    "knobs, words",
    [
        ({"rl__algorithm": "ppo"}, ["'ppo'", "grpo", "gspo"]),
        ({"rl__num_samples": 1}, ["rl.num_samples is 1, not 2"]),
        ({"rl__kl": -1.0}, ["rl.kl is -1.0"]),
        ({"reward__critic": "oracle"}, ["oracle"]),
        ({"reward__collision": -1.0}, ["collision is -1.0"]),
        ({"reward__bogus": 1.0}, ["no 'bogus'"]),
        ({"stage__components": "('traj_future','cot')"}, ["components"]),
    ],
)
def test_bad_knobs(tmp_path, knobs, words):
    assert_refused(train(CONFIG, tmp_path, init_from="", **knobs), "train", *words)


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_finishes(learned, tmp_path):
    train_until_stopped(CONFIG, tmp_path, steps=3)
    done = train(CONFIG, tmp_path, run__save_every=100)
    assert done.returncode == 0, done.stderr
    assert weights_of(tmp_path) == weights_of(learned[0])
    assert read_summary(tmp_path)["after"] == read_summary(learned[0])["after"]


@pytest.mark.slow
def test_the_expert_learns_and_the_language_model_stays(learned, tmp_path):
    done = train(
        CONFIG, tmp_path, init_from=learned[0] / "checkpoint", stage__objective="grpo_expert",
        reward__imitation=1.0,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, two = (load_policy(w / "checkpoint").params for w in (learned[0], tmp_path))
    assert all((a == b).all() for a, b in zip(_leaves(one["vlm"]), _leaves(two["vlm"])))
    assert any((a != b).any() for a, b in zip(_leaves(one["expert"]), _leaves(two["expert"])))
    assert read_summary(tmp_path)["after"]["trajectory_valid"] == 1.0
