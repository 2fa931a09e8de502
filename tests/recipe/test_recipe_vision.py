"""Section `vision`: what becomes of images, from a preset and from a checkpoint."""

import dataclasses

import jax
import numpy as np
import pytest

from alpamayo_jax import config as config_lib
from alpamayo_jax import presets, recipe
from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.settings import VisionSettings
from alpamayo_jax.testing.tiny import random_params, tiny_config
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer


@pytest.fixture
def run(config, monkeypatch):
    """A configuration whose policy compiles in seconds, with two frames of four cameras."""
    tokens = dataclasses.replace(tiny_config().trajectory_tokens, tokens_per_future_traj=128)
    small = tiny_config(action=config_lib.ActionSpaceConfig(), trajectory_tokens=tokens)
    monkeypatch.setitem(presets.PRESETS, "small", lambda: small)
    config.unlock()
    config.preset = "small"
    config.vision = dataclasses.asdict(VisionSettings())
    config.data.update(num_frames=2, cameras=4, max_length=900)
    return config


@pytest.fixture
def checkpoint(run, tmp_path):
    model = presets.preset("small")
    folder = tmp_path / "start"
    Policy(model, random_params(model), tiny_tokenizer(model)).save(folder)
    return str(folder)


def test_a_checkpoint_gets_the_compressor_that_is_asked_for(run, checkpoint):
    run.init_from, run.vision.compressor, run.vision.size = checkpoint, "flex", (5,)
    described, policy = recipe.describe_start(run), recipe.make_policy(run)
    assert described.config == policy.config and policy.config.tokens_per_step == 5
    shapes = jax.tree.map(lambda leaf: leaf.shape, policy.params)
    assert shapes == jax.tree.map(lambda leaf: leaf.shape, described.params)
    kept = random_params(presets.preset("small"))
    for name in ("visual", "language_model"):
        own, was = policy.params["vlm"][name], kept["vlm"][name]
        assert all(map(np.array_equal, jax.tree.leaves(own), jax.tree.leaves(was)))


def test_an_empty_section_leaves_the_model_as_it_is(run, checkpoint):
    assert recipe.describe_start(run).config == presets.preset("small")
    run.init_from = checkpoint
    assert recipe.describe_start(run).config == presets.preset("small")


def test_rigs(run):
    for count in (4, 7):
        run.data.cameras = count
        assert len(recipe.make_data(run).source.clip(0).cameras) == count
    run.data.cameras = 3
    with pytest.raises(ConfigError, match="data.cameras is 3; the simulated rigs have 1, 4, 7"):
        recipe.make_data(run)


def _batch(run, stage):
    data, policy = recipe.make_data(run), recipe.describe_start(run)
    training = recipe.make_training(stage, run, policy, data)
    return next(iter(training.batches)), data


def test_every_prefix_is_supervised_behind_a_flex_made_for_it(run):
    run.vision.compressor, run.vision.size = "flex", (3, 1)
    batch, data = _batch(run, "tokens")
    assert set(np.unique(batch.inputs.prefix)) == {-2, -1, 0, 1, 2}
    assert batch.earlier.future_xyz.shape == (2, 1, 64, 3)
    # The action expert learns on the whole observation only.
    alone, _ = _batch(run, "expert")
    assert alone.inputs.prefix is None and alone.earlier is None
    run.vision.size = (3,)
    alone, _ = _batch(run, "tokens")
    assert alone.inputs.prefix is None and alone.earlier is None


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["tokens", "joint"])
def test_interleaved_stages_train(run, objective):
    run.vision.compressor, run.vision.size = "flex", (3, 1)
    run.tokens.objective, run.tokens.learning_rate = objective, 1e-3
    data, before = recipe.make_data(run), recipe.make_policy(run)
    after, history = recipe.train_stage("tokens", run, before, data, progress=False)
    assert np.isfinite(history.metrics["loss"]).all()
    moved = jax.tree.map(
        lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()),
        before.params["vlm"]["scene"], after.params["vlm"]["scene"],
    )  # fmt: skip
    assert moved["scene_tokens"] and moved["out_proj"]["kernel"]
