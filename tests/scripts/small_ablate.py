"""Configuration for tests of the ablation of rewards: a step or two of everything."""

import ml_collections
from small_train import small

from alpamayo_jax import presets
from alpamayo_jax.settings import rl_config


def get_config():
    presets.PRESETS["small"] = small
    config = rl_config("small")
    del config.stage
    config.data.update(
        source="controlled", num_clips=4, num_test_clips=2, num_frames=1, max_length=480,
        wrong_reasoning=0.5, wrong_trajectory=0.5,
    )  # fmt: skip
    config.tokens = ml_collections.ConfigDict(
        dict(components=("cot",), steps=1, batch_size=2, learning_rate=1e-3)
    )
    config.tokens_data = ml_collections.ConfigDict(dict(wrong_reasoning=0.0))
    config.sft = ml_collections.ConfigDict(dict(steps=2, batch_size=2, learning_rate=1e-3))
    config.grpo_seed_offset = 10
    config.grpo_data = ml_collections.ConfigDict(dict(wrong_reasoning=0.0, wrong_trajectory=0.0))
    config.grpo = ml_collections.ConfigDict(dict(steps=1, batch_size=2, learning_rate=1e-3))
    config.rl.update(
        num_samples=2, max_reasoning_tokens=6, constrained=True, eval_windows=2, eval_samples=2
    )
    return config
