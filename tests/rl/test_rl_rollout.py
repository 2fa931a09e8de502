"""Rollouts: how samples end, what counts as a trajectory, whose randomness is whose."""

import dataclasses

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.action import unicycle
from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode import act
from alpamayo_jax.decode.prefix import prefill
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.rl.flow_objectives import as_generated
from alpamayo_jax.rl.rollout import make_rollout
from alpamayo_jax.rl.types import RolloutSettings
from alpamayo_jax.testing.tiny import quick_jit
from alpamayo_jax.tokens import trajectory

from rollout_cases import (
    CONFIG, CONSTRAINED, END, EOS, FIRST_BIN, FLOW, FREE, K, M, NUM_BINS, PAD, R, START, inputs,
    params, rollouts, run,
)  # fmt: skip


def _lines(found):
    """(ids without padding, what else is said) of every sample."""
    for b, k in np.ndindex(found.ended.shape):
        length = int(found.num_tokens[b, k])
        ids = np.asarray(found.token_ids[b, k])
        assert (ids[length:] == PAD).all() and 1 <= length <= ids.size
        yield ids[:length].tolist(), {
            "ended": bool(found.ended[b, k]),
            "valid": bool(found.trajectory_valid[b, k]),
            "mask": np.asarray(found.mask[b, k]),
            "logprobs": np.asarray(found.logprobs[b, k]),
        }


def _is_bin(token):
    return FIRST_BIN <= token < FIRST_BIN + NUM_BINS


class TokensTest(parameterized.TestCase):
    def test_constrained_samples_are_whole_or_have_no_trajectory(self):
        kinds = set()
        for ids, said in _lines(rollouts(CONSTRAINED)):
            thought = ids[: ids.index(START) + 1] if START in ids else ids
            rest = ids[len(thought) :]
            assert not any(_is_bin(token) for token in thought)
            whole = bool(rest)
            if whole:
                assert len(rest) == M and rest[-1] == END and all(map(_is_bin, rest[:-1]))
            else:
                assert START not in ids and (len(ids) == R or ids[-1] == EOS)
            assert said["ended"] == said["valid"] == whole
            np.testing.assert_array_equal(said["mask"], np.arange(R + M) < len(ids))
            assert (said["logprobs"][: len(ids) - whole] < 0).all()
            assert (said["logprobs"][len(ids) - whole :] == 0).all()  # the end token was certain
            kinds.add((whole, len(ids)))
        assert len({length for whole, length in kinds if whole}) > 1
        assert any(not whole for whole, _ in kinds)

    def test_free_samples_say_what_they_like(self):
        seen = set()
        for ids, said in _lines(rollouts(FREE)):
            if START not in ids:
                assert not said["ended"] and not said["valid"]
                continue
            rest = ids[ids.index(START) + 1 :]
            assert said["ended"] == (rest[-1:] == [END])
            # It goes on to an end, an end of text or the limit, and not beyond.
            assert len(rest) == M or rest[-1] in (END, EOS)
            assert END not in rest[:-1] and EOS not in rest[:-1]
            whole = len(rest) == M and rest[-1] == END and all(map(_is_bin, rest[:-1]))
            assert said["valid"] == whole
            assert (said["logprobs"][: len(ids)] < 0).all()
            np.testing.assert_array_equal(said["mask"], np.arange(R + M) < len(ids))
            seen.add("end" if said["ended"] else "text" if rest[-1] == EOS else "limit")
        assert len(seen) > 1

    def test_trajectories_are_those_of_the_tokens(self):
        found = rollouts(CONSTRAINED)
        ids, valid = np.asarray(found.token_ids), np.asarray(found.trajectory_valid)
        assert found.trajectory.xyz.shape == (2, K, CONFIG.action.n_waypoints, 3)
        for b, k in np.ndindex(valid.shape):
            actions = np.zeros((CONFIG.action.n_waypoints, 2), np.float32)
            if valid[b, k]:
                start = ids[b, k].tolist().index(START) + 1
                bins = ids[b, k, start : start + M - 1] - FIRST_BIN
                actions = trajectory.decode_future(bins, CONFIG.trajectory_tokens)
            want = unicycle.action_to_trajectory(
                actions, inputs().ego_history_xyz[b], inputs().ego_history_rot[b], CONFIG.action
            )
            for got, theirs in zip(jax.tree.leaves(found.trajectory), jax.tree.leaves(want)):
                np.testing.assert_allclose(got[b, k], theirs, rtol=1e-4, atol=1e-4)

    def test_what_is_no_trajectory_is_flagged_and_finite(self):
        found = rollouts(FREE)
        assert not np.asarray(found.trajectory_valid).all()
        assert np.isfinite(found.trajectory.xyz).all()
        assert np.abs(np.asarray(found.trajectory.xyz)).max() < 100  # nothing extreme either

    def test_a_sample_does_not_depend_on_how_many_there_are(self):
        few = run(
            params(), inputs(), jax.random.key(0), CONFIG,
            dataclasses.replace(CONSTRAINED, num_samples=3),
        )  # fmt: skip
        many = rollouts(CONSTRAINED)
        np.testing.assert_array_equal(few.token_ids, many.token_ids[:, :3])
        np.testing.assert_allclose(few.logprobs, many.logprobs[:, :3], atol=1e-5)

    def test_the_key_decides(self):
        ids = [np.asarray(rollouts(CONSTRAINED, seed).token_ids) for seed in (0, 1)]
        again = run(params(), inputs(), jax.random.key(0), CONFIG, CONSTRAINED).token_ids
        np.testing.assert_array_equal(ids[0], again)
        assert (ids[0] != ids[1]).any(-1).mean() > 0.5

    def test_an_end_of_thought_can_be_written(self):
        found = rollouts(dataclasses.replace(CONSTRAINED, force_end=True))
        assert np.asarray(found.trajectory_valid).all() and not np.asarray(found.ended).all()
        for ids, said in _lines(found):
            start = ids.index(START)
            drawn = np.arange(R + M) < len(ids)
            drawn[start] = said["ended"]
            np.testing.assert_array_equal(said["mask"], drawn)
            assert (said["logprobs"][start] < 0) == said["ended"]

    def test_the_compiled_program_is_made_once(self):
        assert make_rollout(CONFIG, FREE) is make_rollout(CONFIG, FREE)
        assert make_rollout(CONFIG, FREE) is not make_rollout(CONFIG, CONSTRAINED)


class FlowTest(parameterized.TestCase):
    def test_every_sample_gets_a_trajectory(self):
        found = rollouts(FLOW)
        assert np.asarray(found.trajectory_valid).all()
        kinds = set()
        for ids, said in _lines(found):
            assert ids[-1] == START and START not in ids[:-1]
            drawn = len(ids) - (not said["ended"])
            np.testing.assert_array_equal(said["mask"], np.arange(R) < drawn)
            assert (said["logprobs"][drawn:] == 0).all()
            kinds.add(said["ended"])
        assert kinds == {True, False}

    def test_trajectories_are_those_of_the_last_states(self):
        found, (xyz, rot) = rollouts(FLOW), (inputs().ego_history_xyz, inputs().ego_history_rot)
        assert found.flow.states.shape == (2, K, 4, CONFIG.action.n_waypoints, 2)
        assert found.flow.logprobs.shape == (2, K, 3)
        per_sample = lambda a: np.repeat(np.asarray(a)[:, None], K, 1)  # noqa: E731
        want = unicycle.action_to_trajectory(
            found.flow.states[:, :, -1], per_sample(xyz), per_sample(rot), CONFIG.action
        )
        np.testing.assert_allclose(found.trajectory.xyz, want.xyz, rtol=1e-4, atol=1e-3)

    def test_almost_without_noise_it_is_the_deterministic_sampler(self):
        settings = dataclasses.replace(FLOW, num_samples=2, flow_noise=1e-6, flow_steps=2)
        found = run(params(), inputs(), jax.random.key(0), CONFIG, settings)
        # A sample's reasoning and start do not depend on how many there are, nor on the noise.
        many = rollouts(FLOW)
        np.testing.assert_array_equal(found.token_ids, many.token_ids[:, :2])
        start = found.flow.states[:, :, 0]
        np.testing.assert_allclose(start, many.flow.states[:, :2, 0], rtol=1e-6)
        assert not np.allclose(many.flow.states[:, 0, -1], many.flow.states[:, 1, -1], atol=0.1)

        @quick_jit
        def plain(params, thought, start):
            prefix = prefill(params, inputs(), CONFIG)
            thought = act.recondition(params, prefix, thought, CONFIG)
            options = SampleSettings(num_samples=2, flow_steps=2)
            return act.sample_actions(params, prefix, thought, CONFIG, options, start)

        thought = as_generated(found.token_ids, CONFIG, settings)
        want = plain(params(), thought, found.flow.states[:, :, 0])
        np.testing.assert_allclose(found.flow.states[:, :, -1], want, atol=2e-3)

    def test_the_start_is_that_of_the_deterministic_sampler(self):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 0)
        want = act.initial_noise(key, 2, CONFIG, SampleSettings(num_samples=K))
        np.testing.assert_allclose(rollouts(FLOW).flow.states[:, :, 0], want, rtol=1e-6)


class SettingsTest(parameterized.TestCase):
    @parameterized.parameters(
        (dict(actor="expert"), "'expert'.*tokens, flow"),
        (dict(num_samples=0), "at least 1"),
        (dict(max_reasoning_tokens=0), "at least 1"),
        (dict(actor="flow", flow_noise=0.0), "positive"),
    )
    def test_refuses(self, options, message):
        with pytest.raises(ConfigError, match=message):
            RolloutSettings(**options)

    def test_lengths(self):
        assert CONSTRAINED.completion_length(CONFIG) == R + M
        assert FLOW.completion_length(CONFIG) == R
        assert RolloutSettings(actor="flow").num_flow_steps(CONFIG) == 3  # the configuration's
        with pytest.raises(ConfigError, match="sqrt"):
            RolloutSettings(actor="flow", flow_steps=2, flow_noise=0.8).flow_schedule(CONFIG)
        assert jnp.allclose(FLOW.flow_schedule(CONFIG).time, jnp.arange(3) / 3)
