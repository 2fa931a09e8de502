"""A small configuration and random parameters for the tests of this folder."""

import dataclasses

import numpy as np

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.convert.table import nest, parameters
from alpamayo_jax.presets import preset


def small_config(**replacements) -> ModelConfig:
    """A configuration with unlike sizes everywhere, so that a mixed-up dimension shows."""
    config = preset("tiny")
    config = dataclasses.replace(
        config,
        vision=dataclasses.replace(
            config.vision, depth=3, hidden_size=32, intermediate_size=80, out_hidden_size=48,
            num_position_embeddings=64, deepstack_visual_indexes=(0, 2),
        ),
        language=dataclasses.replace(
            config.language, vocab_size=592, hidden_size=48, num_layers=4, num_heads=8,
            num_kv_heads=2, head_dim=16, intermediate_size=112, mrope_section=(4, 2, 2),
        ),
        expert=dataclasses.replace(
            config.expert, hidden_size=24, num_heads=4, intermediate_size=72
        ),
        action_proj=dataclasses.replace(config.action_proj, hidden_size=40),
        trajectory_tokens=dataclasses.replace(
            config.trajectory_tokens, traj_vocab_size=48, num_future_bins=30, num_history_bins=18
        ),
    )  # fmt: skip
    return dataclasses.replace(config, **replacements)


def random_params(config: ModelConfig, dtype=np.float32, seed: int = 0) -> dict:
    """Random NumPy parameters of `config`."""
    rng = np.random.default_rng(seed)
    return nest({
        row.path: rng.standard_normal(row.full_shape, np.float32).astype(dtype)
        for row in parameters(config)
    })
