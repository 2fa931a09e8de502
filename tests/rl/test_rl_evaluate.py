"""Means of rewards on held-out windows, against loops; pictures of rollouts; without a model."""

import jax
import numpy as np
import pytest
from PIL import Image

from alpamayo_jax.rl.evaluate import evaluate_rewards, sample_logprobs
from alpamayo_jax.rl.experience import Rollout
from alpamayo_jax.rl.pictures import Gallery, rollout_picture
from alpamayo_jax.rl.rewards.total import TotalReward
from alpamayo_jax.rl.sampler import episodes, everyone
from alpamayo_jax.rl.types import FlowChain
from alpamayo_jax.settings import RLSettings
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.tokens.vocabulary import special_token_id
from fake_rollouts import Clips, FakeSampler, Leftness, prompts

KEY = jax.random.key(1)
REWARD = TotalReward([Leftness()], {"left": 1.0})


def evaluated(windows, batch_size, sampler=None):
    return evaluate_rewards(
        sampler or FakeSampler(), 1.0, prompts(), windows, REWARD,
        batch_size=batch_size, rng=KEY, progress=False,
    )  # fmt: skip


def test_means_are_those_of_a_loop():
    made, sampler = prompts(), FakeSampler()
    windows = made.windows(0, 5)
    found = evaluated(windows, 2)
    ade, likely, best, left, tokens = [], [], [], [], []
    for start in (0, 2, 4):
        rows = [windows[i % 5] for i in (start, start + 1)]
        situations = [made.situation(w) for w in rows]
        rollouts = sampler(1.0, made.inputs(situations), jax.random.fold_in(KEY, start))
        for b in range(2 if start < 4 else 1):  # the last row only fills up
            wanted = situations[b].target.ego_future_xyz
            valid = rollouts.trajectory_valid[b]
            errors = [
                np.mean(np.linalg.norm((xyz - wanted)[:, :2], axis=-1))
                for xyz in rollouts.trajectory.xyz[b]
            ]
            tokens += rollouts.num_tokens[b].tolist()
            whole = [k for k in range(3) if valid[k]]
            ade += [errors[k] for k in whole]
            left += [rollouts.trajectory.xyz[b, k, 0, 1] for k in whole]
            if whole:
                best.append(min(errors[k] for k in whole))
                likely.append(errors[max(whole, key=lambda k: rollouts.logprobs[b, k].sum())])
    assert 0 < len(ade) < 15  # some samples have no trajectory
    for name, values in {
        "ade": ade, "ade_most_likely": likely, "min_ade": best, "left": left, "num_tokens": tokens
    }.items():  # fmt: skip
        assert found[name] == pytest.approx(np.mean(values), rel=1e-5), name
    assert found["trajectory_valid"] == pytest.approx(len(ade) / 15)
    assert found["unscored"] == pytest.approx(1 - len(ade) / 15)
    assert found["reward"] == pytest.approx(found["left"])


def test_what_cannot_be_measured_is_not_a_number():
    class Never(FakeSampler):
        def __call__(self, *args):
            rollouts = super().__call__(*args)
            return rollouts.replace(trajectory_valid=np.zeros_like(rollouts.trajectory_valid))

    found = evaluated(prompts().windows(0, 2), 2, Never())
    assert all(np.isnan(found[name]) for name in ("ade", "ade_most_likely", "min_ade", "reward"))
    assert found["trajectory_valid"] == 0 and found["unscored"] == 1


def test_log_probabilities_of_samples_count_the_flow():
    made = prompts()
    inputs = made.inputs([made.situation(w) for w in made.windows(0, 2)])
    rollouts = FakeSampler()(1.0, inputs, KEY)
    plain = sample_logprobs(rollouts)
    np.testing.assert_allclose(plain, rollouts.logprobs.sum(-1))
    chain = FlowChain(np.zeros((2, 3, 3, 64, 2), np.float32), np.full((2, 3, 2), -1.5, np.float32))
    np.testing.assert_allclose(sample_logprobs(rollouts.replace(flow=chain)), plain - 3)


def test_episodes_have_the_reasoning_up_to_its_end():
    made = prompts()
    config, tokenizer = made.processor.config, tiny_tokenizer(made.processor.config)
    end = [special_token_id(config, name) for name in ("cot_end", "traj_future_start")]
    situations = [made.situation(w) for w in made.windows(0, 1)]
    rollouts = FakeSampler(num_samples=2, limit=12)(1.0, made.inputs(situations), KEY)
    said = tokenizer.encode("Stop")
    ids = np.full((1, 2, 12), config.text_tokens.pad_token_id, np.int32)
    ids[0, 0, : len(said) + 2] = said + end
    ids[0, 1, : len(said)] = said  # never ends
    played = episodes(rollouts.replace(token_ids=ids), situations, tokenizer, 12)
    assert played.reasoning == (("Stop", ""),) and played.shape == (1, 2)
    cut = episodes(rollouts.replace(token_ids=ids), situations, tokenizer, len(said))
    assert cut.reasoning == (("", ""),)


def test_one_process_is_everyone():
    tree = {"a": np.arange(3)}
    assert everyone(tree) is tree


def rollout(step=1, invalid=False):
    made = prompts()
    windows = made.windows(0, 2)
    situations = [made.situation(w) for w in windows]
    rollouts = FakeSampler(num_samples=6)(1.0, made.inputs(situations), KEY)
    if invalid:
        none = np.zeros_like(rollouts.trajectory_valid)
        rollouts = rollouts.replace(trajectory_valid=none)
    played = episodes(rollouts, situations, made.processor.tokenizer, 5)
    return Rollout(step, tuple(windows), played, REWARD(played)[1])


@pytest.mark.parametrize("invalid", [False, True])
def test_a_rollout_as_a_picture(tmp_path, invalid, monkeypatch):
    shown = {}
    from alpamayo_jax.rl import pictures

    draw = pictures.clip_picture

    def recorded(path, clip, observation, samples, future, texts, title):
        shown.update(samples=samples, texts=texts, title=title)
        return draw(path, clip, observation, samples, future, texts, title)

    monkeypatch.setattr(pictures, "clip_picture", recorded)
    one = rollout(invalid=invalid)
    rollout_picture(tmp_path / "a.png", Clips(), one, 0)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size[0] == 1600
    assert shown["title"].startswith("Step 1: drive")
    if invalid:
        assert len(shown["samples"]) == 0 and "No whole trajectory" in shown["texts"]
        return
    reward, valid = one.scores["reward"], one.episodes.trajectory_valid[0]
    best = np.argmax(np.where(valid, reward.values[0], -np.inf))
    np.testing.assert_array_equal(shown["samples"][0], one.episodes.xyz[0, best])
    assert shown["texts"][0].startswith(f"reward {reward.values[0, best]:.2f}")
    assert len(shown["samples"]) == len(shown["texts"]) <= 4


def test_pictures_are_drawn_when_they_are_due(tmp_path):
    settings = RLSettings(picture_every=4, batches_per_rollout=2)
    gallery = Gallery(tmp_path / "rollouts", Clips(), settings)
    for step in (1, 3, 5, 7, 9):  # rollouts of two steps each
        gallery(rollout(step))
    names = sorted(path.name for path in (tmp_path / "rollouts").iterdir())
    assert names == ["step_000001.png", "step_000005.png", "step_000009.png"]
