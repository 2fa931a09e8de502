"""A tiny policy whose samples end in every way, and its prompts and rollouts."""

import functools

import jax
import numpy as np

from alpamayo_jax.rl.rollout import rollout_program
from alpamayo_jax.rl.types import RolloutSettings
from alpamayo_jax.testing.tiny import GRIDS, quick_jit, random_inputs, random_params, tiny_config
from alpamayo_jax.tokens.vocabulary import special_token_id

CONFIG = tiny_config()
START = special_token_id(CONFIG, "traj_future_start")
END = special_token_id(CONFIG, "traj_future_end")
EOS, PAD = CONFIG.text_tokens.eos_token_id, CONFIG.text_tokens.pad_token_id
FIRST_BIN = CONFIG.trajectory_tokens.traj_token_start_idx
NUM_BINS = CONFIG.trajectory_tokens.num_future_bins
R, M, K = 5, CONFIG.trajectory_tokens.tokens_per_future_traj + 1, 12

CONSTRAINED = RolloutSettings(num_samples=K, max_reasoning_tokens=R, constrained=True)
FREE = RolloutSettings(num_samples=K, max_reasoning_tokens=R)
FLOW = RolloutSettings(
    actor="flow", num_samples=K, max_reasoning_tokens=R, flow_steps=3, flow_noise=0.6
)

run = quick_jit(rollout_program, static_argnums=(3, 4))


@functools.cache
def params() -> dict:
    """Random ones that like to end their reasoning, their trajectory and their text."""
    found = jax.tree.map(np.array, random_params(CONFIG))
    head = found["vlm"]["lm_head"]["kernel"]
    head[:, START] = 1.3 * head[:, 128]
    head[:, END] = 1.3 * head[:, 39]
    head[:, EOS] = 1.1 * head[:, 167]
    return found


@functools.cache
def inputs():
    """Two prompts, the second padded on the left."""
    return random_inputs(CONFIG, GRIDS)


@functools.cache
def rollouts(settings: RolloutSettings, seed: int = 0):
    return run(params(), inputs(), jax.random.key(seed), CONFIG, settings)
