"""The PyTorch policy computes what ours does, so that its times may stand beside ours."""

import dataclasses

import jax
import numpy as np
import pytest

from alpamayo_jax.action import unicycle
from alpamayo_jax.benchmark import policy
from alpamayo_jax.decode import act
from alpamayo_jax.decode.prefix import fuse_history
from alpamayo_jax.testing.tiny import quick_jit, random_params, tiny_config

pytestmark = pytest.mark.torch
SAMPLES, TOKENS = 2, 4


@pytest.fixture(scope="module")
def both():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from alpamayo_jax.testing.torch_policy import TorchPolicy

    config = tiny_config()
    one = policy.Case(config, images=2, grid=(4, 4), length=90, tokens=TOKENS, steps=1)
    params = random_params(config)
    inputs, programs = policy.build(one, params, (SAMPLES,))
    ids = np.asarray(fuse_history(inputs, config))
    return one, params, inputs, programs, TorchPolicy(config, params, inputs, ids)


def _said(programs):
    said = programs[f"decode_token/{SAMPLES}_samples"].result
    return said, np.asarray(said.token_ids)[0], np.asarray(said.end_index)[0]


def test_vision_and_prefill(both):
    one, _, _, programs, theirs = both
    seen = theirs.vision()
    tokens = np.asarray(programs["vision"].result.tokens)[0]
    np.testing.assert_allclose(
        np.concatenate([part.numpy() for part in seen.pooler_output]), tokens, atol=1e-4
    )
    prefix = programs["prefill"].result
    for read in (theirs.prefill(seen), theirs.prefill()):
        np.testing.assert_allclose(read.last_hidden, prefix.last_hidden, atol=1e-4)
        for layer, cached in enumerate(read.cache.layers):
            np.testing.assert_allclose(cached.keys[0], prefix.cache.k[layer, 0], atol=1e-4)
            np.testing.assert_allclose(cached.values[0], prefix.cache.v[layer, 0], atol=1e-4)
    repeated = theirs.prefill(rows=3).last_hidden
    np.testing.assert_allclose(repeated, np.repeat(prefix.last_hidden, 3, 0), atol=1e-4)


@pytest.mark.parametrize("rows", [1, SAMPLES])
def test_decoding_and_the_first_velocity(both, rows):
    one, _, _, programs, theirs = both
    said, tokens, ends = _said(programs)
    drawn, cache = theirs.decode(theirs.prefill(rows=rows), SAMPLES, tokens)
    assert drawn.shape == tokens.shape
    assert cache.get_seq_length() == one.length + TOKENS
    for layer, cached in enumerate(cache.layers):
        np.testing.assert_allclose(
            cached.keys[:, :, one.length :], said.cache.k[layer, 0], atol=1e-4
        )
    _, rng = jax.random.split(jax.random.key(0))
    noise = np.asarray(act.initial_noise(rng, 1, one.config, one.settings(SAMPLES)))[0]
    ours = np.asarray(programs[f"flow_step/{SAMPLES}_samples"].result)[0]
    np.testing.assert_allclose(theirs.flow(cache, ends, noise, 1), ours, atol=1e-4)


def test_what_was_said_after_the_end_is_hidden(both):
    one, params, _, programs, theirs = both
    said, tokens, _ = _said(programs)
    ends = np.array([1, 2])
    prefix = programs["prefill"].result
    cut = dataclasses.replace(said, end_index=ends[None])
    noise = np.random.default_rng(0).standard_normal((SAMPLES, 8, 2)).astype(np.float32)
    program = quick_jit(
        lambda p, x, g, n: act.sample_actions(p, x, g, one.config, one.settings(SAMPLES), n)
    )
    ours = program(params, prefix, cut, noise[None])[0]
    _, cache = theirs.decode(theirs.prefill(), SAMPLES, tokens)
    np.testing.assert_allclose(theirs.flow(cache, ends, noise, 1), ours, atol=1e-4)


def test_greedy_draws_are_ours(both):
    """Fed what it draws itself, token by token, it takes the most likely one."""
    one, params, _, programs, theirs = both
    said, tokens, _ = _said(programs)
    first, _ = theirs.decode(theirs.prefill(), SAMPLES, tokens, temperature=0)
    hidden = programs["prefill"].result.last_hidden
    logits = np.array(hidden @ params["vlm"]["lm_head"]["kernel"])
    ids = one.config.trajectory_tokens
    logits[:, ids.traj_token_start_idx : ids.traj_token_end_idx] = -np.inf
    np.testing.assert_array_equal(first[:, 0], np.repeat(logits.argmax(-1), SAMPLES))
    again, _ = theirs.decode(theirs.prefill(), SAMPLES, tokens, top_p=1e-6)
    np.testing.assert_array_equal(again, first)  # a nucleus of one token


def test_trajectories(both):
    import torch

    one, _, inputs, _, theirs = both
    actions = np.random.default_rng(1).standard_normal((3, 8, 2)).astype(np.float32)
    histories = (
        np.repeat(np.asarray(a), 3, 0) for a in (inputs.ego_history_xyz, inputs.ego_history_rot)
    )
    ours = unicycle.action_to_trajectory(actions, *histories, one.config.action)
    xyz, rot = theirs.trajectory(torch.tensor(actions))
    np.testing.assert_allclose(xyz, ours.xyz, atol=1e-3)
    np.testing.assert_allclose(rot, ours.rot, atol=1e-4)
