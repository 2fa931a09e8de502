"""Configuration for tests of reinforcement learning: two layers, stage 2 first."""

import ml_collections
from small_train import small

from alpamayo_jax import presets
from alpamayo_jax.settings import rl_config


def get_config():
    presets.PRESETS["small"] = small
    config = rl_config("small")
    config.data.update(
        source="controlled", num_clips=4, num_test_clips=3, num_frames=1, max_length=480
    )
    config.sft = ml_collections.ConfigDict()
    config.sft.update(steps=2, batch_size=2, learning_rate=1e-3)
    config.stage.update(steps=3, batch_size=2, learning_rate=1e-3)
    config.run.save_every = 2
    config.rl.update(
        num_samples=2, max_reasoning_tokens=6, constrained=True, batches_per_rollout=2,
        eval_windows=3, eval_samples=2, picture_every=2,
    )  # fmt: skip
    return config
