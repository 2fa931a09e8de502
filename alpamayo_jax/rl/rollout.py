"""Groups of completions and trajectories per prompt, on one shared prefill, in one program."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from alpamayo_jax.action import unicycle
from alpamayo_jax.config import ModelConfig
from alpamayo_jax.decode import act
from alpamayo_jax.decode.generate import Generation, generate
from alpamayo_jax.decode.prefix import prefill
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.decode.trajectory import generate_trajectory
from alpamayo_jax.flow.stochastic import stochastic
from alpamayo_jax.rl.completions import put_together
from alpamayo_jax.rl.types import FlowChain, Rollouts, RolloutSettings
from alpamayo_jax.tokens import trajectory as trajectory_tokens
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.types import Array, ModelInputs, Trajectory


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
    prefix = prefill(params, inputs, config, **stack)
    flow = settings.actor == "flow"
    sampling = SampleSettings(
        num_samples=settings.num_samples,
        max_new_tokens=settings.max_reasoning_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        force_end=flow or settings.force_end,
    )
    keys = [jax.random.fold_in(rng, i) for i in range(2)]
    thought = generate(params, prefix, config, sampling, keys[0], **stack)
    length = _length(thought, config)
    if flow:
        velocity = act.velocity_field(params, prefix, thought, config, **stack)
        noise = _noise(keys[1], prefix.mask.shape[0], config, settings)
        steps = settings.flow_schedule(config)
        states, logprobs = stochastic(velocity, noise, steps)
        chain = FlowChain(jnp.moveaxis(states, 0, 2), jnp.moveaxis(logprobs, 0, 2))
        valid = jnp.isfinite(chain.states).all((-3, -2, -1))
        return Rollouts(
            inputs=inputs,
            token_ids=thought.token_ids,
            mask=_drawn(thought, length, thought.token_ids.shape[-1]),
            logprobs=thought.logprobs,
            num_tokens=length,
            ended=~thought.forced,
            trajectory=_drive(states[-1], valid, inputs, config),
            trajectory_valid=valid,
            flow=chain,
        )
    said = generate_trajectory(
        params, prefix, thought, config, sampling, keys[1],
        constrained=settings.constrained, **stack,
    )  # fmt: skip
    pad = config.text_tokens.pad_token_id
    ids = put_together(thought.token_ids, said.token_ids, length, pad)
    num_tokens = length + said.num_tokens
    actions, valid = _actions(ids, config)
    return Rollouts(
        inputs=inputs,
        token_ids=ids,
        mask=_drawn(thought, num_tokens, ids.shape[-1]),
        logprobs=put_together(thought.logprobs, said.logprobs, length, 0.0),
        num_tokens=num_tokens,
        ended=(ids == special_token_id(config, "traj_future_end")).any(-1) & ~thought.forced,
        trajectory=_drive(actions, valid, inputs, config),
        trajectory_valid=valid,
    )


@functools.cache
def make_rollout(config: ModelConfig, settings: RolloutSettings, **stack: Any):
    """`rollout_program` compiled: (params, inputs, rng) -> Rollouts; one per set of arguments."""
    return jax.jit(functools.partial(rollout_program, config=config, settings=settings, **stack))


def _length(thought: Generation, config: ModelConfig) -> Array:
    """Tokens up to and including the end of thought or of text; int32 [B, K]."""
    limit = thought.token_ids.shape[-1]
    is_eos = thought.token_ids == config.text_tokens.eos_token_id
    stop = jnp.where(is_eos, jnp.arange(limit), limit - 1).min(-1)
    return jnp.where(thought.end_index >= 0, thought.end_index, stop) + 1


def _drawn(thought: Generation, num_tokens: Array, size: int) -> Array:
    """Which of `size` slots have a drawn token, bool [B, K, size]: all but a written end."""
    slots = jnp.arange(size)
    written = thought.forced[..., None] & (slots == thought.end_index[..., None])
    return (slots < num_tokens[..., None]) & ~written


def _actions(ids: Array, config: ModelConfig) -> tuple[Array, Array]:
    """Normalised actions [B, K, W, 2] of completions, and whether they are one whole trajectory."""
    tokens = config.trajectory_tokens
    start, end = (special_token_id(config, f"traj_future_{edge}") for edge in ("start", "end"))
    bins, whole = trajectory_tokens.extract_future(ids, tokens, start, end)
    once = ((ids == start).sum(-1) == 1) & ((ids == end).sum(-1) == 1)
    return trajectory_tokens.decode_future(bins, tokens), whole & once


def _drive(actions: Array, valid: Array, inputs: ModelInputs, config: ModelConfig) -> Trajectory:
    """Poses of actions [B, K, W, 2]; of the mean ones where they are not valid."""
    actions = jnp.where(valid[..., None, None], actions, 0.0)
    history = inputs.ego_history_xyz, inputs.ego_history_rot
    v0 = unicycle.estimate_v0(*history, config.action)
    samples = actions.shape[1]

    def per_sample(a):
        return jnp.broadcast_to(a[:, None], (a.shape[0], samples, *a.shape[1:]))

    return unicycle.action_to_trajectory(
        actions, *map(per_sample, map(jnp.asarray, history)), config.action, per_sample(v0),
        bf16_constants=config.precision.bf16_buffers,
    )  # fmt: skip


def _noise(rng: Array, batch: int, config: ModelConfig, settings: RolloutSettings) -> Array:
    """Start and draws of the stochastic flow, [S, B, K, W, 2]; sample k does not depend on K."""
    steps = settings.num_flow_steps(config)
    sampling = SampleSettings(num_samples=settings.num_samples)
    start = act.initial_noise(jax.random.fold_in(rng, 0), batch, config, sampling)
    unit = SampleSettings(num_samples=settings.num_samples, flow_temperature=1.0)
    draws = [
        act.initial_noise(jax.random.fold_in(rng, i), batch, config, unit) for i in range(1, steps)
    ]
    return jnp.stack([start, *draws])
