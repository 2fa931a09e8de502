"""The PyTorch twin: same weights, same loss, same gradient step."""

import dataclasses

import jax
import numpy as np
import pytest

from alpamayo_jax.settings import StageSettings
from alpamayo_jax.testing.tiny import random_params, random_train_batch, tiny_config
from alpamayo_jax.train.optimiser import make_optimiser
from alpamayo_jax.train.stages import optimiser_config, stage_objective
from alpamayo_jax.train.state import create_state
from alpamayo_jax.train.step import make_train_step
from alpamayo_jax.train.targets import fused_ids, future_actions

pytestmark = pytest.mark.torch
GRIDS = (((4, 6), (2, 4)),) * 2  # rows of the same length: without padding


@pytest.fixture(autouse=True)
def packages():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")


@pytest.mark.parametrize("tied", [False, True])
def test_three_steps_give_the_same_losses(tied):
    from alpamayo_jax.testing.torch_twin import torch_train_step

    base = tiny_config()
    config = tiny_config(language=dataclasses.replace(base.language, tie_word_embeddings=tied))
    params = random_params(config, scale=0.1)
    batch = random_train_batch(config, GRIDS)
    ids = np.asarray(fused_ids(batch, future_actions(batch, config), config))
    stage = StageSettings(learning_rate=1e-3, warmup_fraction=0.0, schedule="constant")
    theirs = torch_train_step(config, params, batch, ids, learning_rate=1e-3)

    optimiser = make_optimiser(optimiser_config("stage", stage), params)
    step = make_train_step(stage_objective(stage, config), optimiser)
    state = create_state(params, optimiser)
    for _ in range(3):
        state, metrics = step(state, batch, jax.random.key(0))
        np.testing.assert_allclose(theirs(), metrics["loss"], rtol=1e-4)


def test_weights_of_another_size_are_refused():
    from alpamayo_jax.testing.torch_twin import backbone

    config = tiny_config()
    wider = dataclasses.replace(config.vision, intermediate_size=32)
    with pytest.raises(ValueError, match="cannot reshape"):
        backbone(tiny_config(vision=wider), random_params(config))
