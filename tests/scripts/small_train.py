"""Configuration for tests of experiments/train.py: two layers, two simulated drives."""

import dataclasses

from alpamayo_jax import presets
from alpamayo_jax.config import ActionSpaceConfig
from alpamayo_jax.settings import train_config
from alpamayo_jax.testing.tiny import tiny_config


def small():
    tokens = dataclasses.replace(tiny_config().trajectory_tokens, tokens_per_future_traj=128)
    return tiny_config(action=ActionSpaceConfig(), trajectory_tokens=tokens)


def get_config():
    presets.PRESETS["small"] = small
    config = train_config("small")
    config.data.update(num_clips=1, num_test_clips=1, train_stride_s=1.0, num_frames=1)
    config.data.max_length = 560
    config.stage.update(steps=4, batch_size=2, learning_rate=1e-3, warmup_fraction=0.0)
    config.run.update(log_every=1, save_every=2)
    return config
