"""The whole way once, small: what has to work on every supported Python and jax."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.data.pipeline import training_batches
from alpamayo_jax.data.sources import list_windows, make_source
from alpamayo_jax.data.windows import observe
from alpamayo_jax.decode.policy import load_policy, new_policy
from alpamayo_jax.decode.sample import sample
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.presets import preset
from alpamayo_jax.reporting import window_picture
from alpamayo_jax.train.objectives import make_objective
from alpamayo_jax.train.optimiser import OptimiserConfig, make_optimiser
from alpamayo_jax.train.state import create_state
from alpamayo_jax.train.step import make_train_step

pytestmark = pytest.mark.smoke

CONFIG = preset("tiny")


@pytest.fixture(scope="module")
def policy():
    return new_policy(CONFIG, jax.random.key(0))


@pytest.fixture(scope="module")
def source():
    return make_source("procedural", num_clips=1, seed=3, seconds=10.0)


@pytest.mark.parametrize("stage", ["tokens", "expert"])
def test_a_step_trains(policy, source, stage):
    windows = list_windows(source, stride_s=0.5, num_frames=1)[:2]
    batch = next(
        iter(training_batches(source, windows, policy.processor, batch_size=1, seed=0, num_frames=1))
    )
    optimiser = make_optimiser(OptimiserConfig(learning_rate=1e-3, num_steps=2), policy.params)
    step = make_train_step(make_objective(stage, CONFIG), optimiser)
    before = create_state(policy.params, optimiser)
    state, metrics = step(before, batch, jax.random.key(0))
    assert np.isfinite(float(metrics["loss"]))
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), state.params, policy.params)
    trained = moved["vlm"] if stage == "tokens" else moved["expert"]
    assert any(jax.tree.leaves(trained))


def test_a_policy_drives_and_survives_saving(policy, source, tmp_path: pathlib.Path):
    clip = source.clip(0)
    observation = observe(clip, 2.0, num_frames=1)
    settings = SampleSettings(num_samples=2, max_new_tokens=4)
    prediction = sample(policy, observation, settings=settings)
    assert prediction.xyz.shape == (2, CONFIG.action.n_waypoints, 3)
    assert np.isfinite(prediction.xyz).all()

    policy.save(tmp_path / "checkpoint")
    again = sample(load_policy(tmp_path / "checkpoint"), observation, settings=settings)
    np.testing.assert_array_equal(again.xyz, prediction.xyz)
    assert again.reasoning == prediction.reasoning

    window_picture(tmp_path / "drive.png", clip, observation, prediction, None)
    assert (tmp_path / "drive.png").read_bytes().startswith(b"\x89PNG")


def test_the_released_model_is_described_by_its_shapes():
    leaves = jax.tree.leaves(param_shapes(preset("r1_10b")))
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves) == 11_078_526_194
