"""Stages of a configuration train what they are for, from the policy that it names."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alpamayo_jax import config as config_lib
from alpamayo_jax import presets, recipe
from alpamayo_jax.config import ConfigError
from alpamayo_jax.testing.tiny import tiny_config
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.train import assemble, partition


@pytest.fixture
def small_preset(monkeypatch):
    """A preset that compiles in seconds: testing.tiny with the trajectory length of the clips."""
    tokens = dataclasses.replace(tiny_config().trajectory_tokens, tokens_per_future_traj=128)
    small = tiny_config(action=config_lib.ActionSpaceConfig(), trajectory_tokens=tokens)
    monkeypatch.setitem(presets.PRESETS, "small", lambda: small)
    return "small"


def changed(one, two):
    """Top-level modules with a parameter that moved."""
    moved = jax.tree.map(
        lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), one.params, two.params
    )
    return {name for name, tree in moved.items() if any(jax.tree.leaves(tree))}


@pytest.mark.parametrize(
    "name, moving",
    [
        ("tokens", {"vlm"}),
        ("sft", {"vlm"}),
        ("expert", {"expert", "action_in_proj", "action_out_proj"}),
    ],
)
def test_a_stage_moves_its_half(config, small_preset, monkeypatch, name, moving):
    """The step is replaced by one update with a gradient of ones."""
    batches = []

    def step_with(objective, optimiser, **options):
        @jax.jit
        def update(state):
            trainable, frozen = partition.split(state.params, optimiser.factors)
            gradient = jax.tree.map(jnp.ones_like, trainable)
            updates, _ = optimiser.transform.update(gradient, state.opt_state, trainable)
            params = partition.merge(optax.apply_updates(trainable, updates), frozen)
            return dataclasses.replace(state, step=state.step + 1, params=params)

        def step(state, batch, rng):
            batches.append(batch)
            return update(state), {"loss": jnp.float32(1), "grad_norm": jnp.float32(1)}

        return step

    monkeypatch.setattr(assemble, "make_train_step", step_with)
    config.preset = small_preset
    config.data.max_length = 600
    config[name].warmup_fraction = 0.0
    data, before = recipe.make_data(config), recipe.make_policy(config)
    after, history = recipe.train_stage(name, config, before, data, progress=False)
    assert changed(before, after) == moving
    assert history.steps == [2] and len(batches) == 2
    ids = batches[0].inputs.input_ids
    future = special_token_id(before.config, "traj_future")
    if name != "expert":
        assert ids.shape == (2, 600) and ((ids == future).sum(-1) == 128).all()
    else:  # the expert reads nothing of the future's tokens
        assert ids.shape[0] == 2 and not (ids == future).any()
    assert after.tokenizer is before.tokenizer and after.config == before.config


def test_an_unknown_stage(config, small_preset):
    config.preset = small_preset
    policy = recipe.make_policy(config)
    with pytest.raises(
        ConfigError, match="stage 'dreams' is unknown; known: tokens, sft, grpo, expert"
    ):
        recipe.train_stage("dreams", config, policy, None)


def test_the_policy_follows_the_seed(config, small_preset):
    config.preset = small_preset
    first, again = recipe.make_policy(config), recipe.make_policy(config)
    assert changed(first, again) == set()
    config.seed = 1
    assert "vlm" in changed(first, recipe.make_policy(config))
