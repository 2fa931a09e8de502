"""Groups of completions and trajectories per prompt, on one shared prefill, in one program."""

import functools

import jax

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.rl.types import Rollouts, RolloutSettings
from alpamayo_jax.types import ModelInputs


def rollout_program(
    params: dict,
    inputs: ModelInputs,
    rng: jax.Array,
    config: ModelConfig,
    settings: RolloutSettings,
    **stack,
) -> Rollouts:
    """Draws K completions and trajectories per prompt; a pure function.

    Args:
      params: of the whole policy, adapters included.
      inputs: B prompts that end where generation begins.
      rng: key; sample k of row b does not depend on how many samples are drawn.
      config: model.
      settings: static.
      **stack: fields of `Alpamayo`: `layout`, `unroll`.
    """
    raise NotImplementedError


@functools.cache
def make_rollout(config: ModelConfig, settings: RolloutSettings, **stack):
    """`rollout_program` compiled: (params, inputs, rng) -> Rollouts; one program per argument set."""
    return jax.jit(
        functools.partial(rollout_program, config=config, settings=settings, **stack)
    )
