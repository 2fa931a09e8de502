"""What is queued, told and kept between rollouts and updates; without a model."""

import dataclasses
import json
import types

import jax
import numpy as np
import pytest

from alpamayo_jax.rl import curation
from alpamayo_jax.rl.advantages import group_advantages
from alpamayo_jax.rl.experience import Experience, decode, encode, take_rows
from alpamayo_jax.rl.guard import PolicyCollapsed
from alpamayo_jax.rl.rewards.total import TotalReward
from alpamayo_jax.settings import RLSettings
from fake_rollouts import FakeSampler, Leftness, prompts

SETTINGS = RLSettings(
    num_samples=3, max_reasoning_tokens=5, batches_per_rollout=2, epochs=2, guard_steps=0
)
KEY = jax.random.key(5)


def experience(settings=SETTINGS, **options):
    made = Experience(
        prompts(), options.pop("sampler", FakeSampler()), TotalReward([Leftness()], {"left": 1.0}),
        settings, batch_size=2, rng=KEY, **options,
    )  # fmt: skip
    made.use(state(0))
    return made


def state(step, params=1.0):
    return types.SimpleNamespace(step=step, params=params)


def same(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two)):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_array_equal(a, b)


def plain(value):
    """As a checkpoint keeps it."""
    return json.loads(json.dumps(value))


def test_a_rollout_is_cut_into_batches_and_passed_over_again():
    sampler = FakeSampler()
    made = experience(sampler=sampler)
    first = [next(made) for _ in range(4)]
    assert sampler.calls == 1
    ids = [batch.token_ids.tolist() for batch in first]
    assert sorted(ids[0] + ids[1]) == sorted(ids[2] + ids[3])  # the same rows
    assert all(batch.inputs.input_ids.shape[0] == 2 for batch in first)
    assert all(batch.inputs.position_ids.shape[1] == 2 for batch in first)
    next(made)
    assert sampler.calls == 2
    made.close()


def test_advantages_are_those_of_the_groups():
    made = experience(dataclasses.replace(SETTINGS, batches_per_rollout=1, epochs=1))
    batch = next(made)
    rollouts = FakeSampler()(1.0, batch.inputs, jax.random.fold_in(KEY, 0))
    rewards, valid = rollouts.trajectory.xyz[..., 0, 1], rollouts.trajectory_valid
    advantages, counts = group_advantages(np.where(valid, rewards, 0), valid, "standardised")
    np.testing.assert_array_equal(batch.advantages, advantages)
    np.testing.assert_array_equal(batch.counts, counts)
    assert batch.ref_logprobs is None and (counts == 0).any()
    np.testing.assert_array_equal(batch.old_logprobs, rollouts.logprobs)
    report = made.report()
    assert report["left"] == pytest.approx(rewards[valid].mean(), rel=1e-5)
    assert report["unscored"] == pytest.approx(1 - valid.mean())
    assert report["num_tokens"] == pytest.approx(rollouts.mask.sum(-1).mean())
    assert report["rollouts_per_second"] > 0
    made.close()


def test_rollouts_are_of_the_state_that_was_told_last():
    one, two = experience(), experience()
    for made, params in ((one, 1.0), (two, 2.0)):
        made.use(state(0, params))
        next(made)
    assert two.report()["left"] == pytest.approx(2 * one.report()["left"], rel=1e-5)
    one.close(), two.close()


def test_a_state_must_be_told():
    made = Experience(
        prompts(), FakeSampler(), TotalReward([Leftness()], {"left": 1.0}), SETTINGS,
        batch_size=2, rng=KEY,
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="before it was told a state"):
        next(made)
    made.close()


@pytest.mark.parametrize("served", range(6))
def test_it_goes_on_from_any_batch(served):
    whole = experience()
    for _ in range(served):
        next(whole)
    kept = plain(whole.get_state())
    again = experience()
    again.set_state(kept)
    assert again.report() == whole.report()
    for _ in range(6):
        same(next(again), next(whole))
        assert plain(again.get_state())["left"] == plain(whole.get_state())["left"]
    whole.close(), again.close()


def test_an_empty_queue_keeps_no_arrays():
    made = experience()
    for _ in range(4):
        next(made)
    assert made.get_state()["queued"] is None and made.get_state()["windows"] == []
    made.close()


def test_the_reference_is_asked_once_per_rollout_and_kept():
    asked = []

    def reference(params, kept):
        asked.append(len(kept.token_ids))
        return kept.replace(ref_logprobs=kept.old_logprobs - 1)

    made = experience(reference=reference)
    batches = [next(made) for _ in range(4)]
    assert asked == [4]
    for batch in batches:
        np.testing.assert_array_equal(batch.ref_logprobs, batch.old_logprobs - 1)
    made.close()


def test_curation_keeps_what_says_most():
    settings = dataclasses.replace(
        SETTINGS, batches_per_rollout=1, epochs=1, oversample=4, share_random=0.0
    )
    seen = []
    made = experience(settings, watch=seen.append)
    batch = next(made)
    (rollout,) = seen
    assert len(rollout.windows) == 8 and len(batch.token_ids) == 2
    inputs = made._prompts.inputs(rollout.episodes.situations)
    rollouts = FakeSampler()(1.0, inputs, jax.random.fold_in(KEY, 0))
    reward = rollout.scores["reward"]
    says = curation.divergence(
        rollouts.logprobs.sum(-1) / rollouts.mask.sum(-1), reward.values, 1.0, reward.valid
    )
    best = np.sort(np.argsort(-says)[:2])
    np.testing.assert_array_equal(batch.token_ids, rollouts.token_ids[best])
    told = made.described(0)
    assert [t["t0"] for t in told] == [rollout.windows[i][1] for i in best]
    made.close()


def test_whoever_watches_is_told_the_step_that_learns_from_it():
    seen = []
    made = experience(watch=seen.append)
    for step in range(5):
        made.use(state(step))
        next(made)
    assert [rollout.step for rollout in seen] == [1, 5]
    assert set(seen[0].scores) == {"left", "reward"}
    made.close()


def test_the_guard_stops_it():
    settings = dataclasses.replace(SETTINGS, batches_per_rollout=1, epochs=1, guard_steps=1)
    made = experience(dataclasses.replace(settings, guard_drop=1.0))
    made.use(state(0, 0.0))
    next(made)  # the reward to compare with: 0
    with pytest.raises(PolicyCollapsed, match="reward"):
        for step in range(1, 30):
            made.use(state(step, 1e3))
            next(made)
    made.close()


def test_the_best_checkpoint_is_that_of_the_highest_reward():
    made = experience()
    next(made)
    assert made.cost() == -made.report()["reward"]
    made.close()


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_arrays_as_plain_values(dtype):
    array = (np.random.default_rng(0).normal(size=(3, 0, 2) if dtype == "bool" else (2, 3)) * 9)
    array = array.astype(dtype)
    back = decode(plain(encode(array)))
    assert back.dtype == array.dtype and back.shape == array.shape
    np.testing.assert_array_equal(back, array)
    if dtype == "float32":
        odd = np.array([np.nan, np.inf, -0.0, 1e-45], np.float32)
        np.testing.assert_array_equal(decode(plain(encode(odd))).view(np.uint32), odd.view(np.uint32))


def test_rows_are_taken_along_the_axis_of_rows():
    made = experience()
    batch = next(made)
    turned = take_rows(batch, [1, 0])
    np.testing.assert_array_equal(turned.token_ids, batch.token_ids[::-1])
    np.testing.assert_array_equal(turned.inputs.position_ids, batch.inputs.position_ids[:, ::-1])
    np.testing.assert_array_equal(turned.inputs.rope_delta, batch.inputs.rope_delta[::-1])
    made.close()
