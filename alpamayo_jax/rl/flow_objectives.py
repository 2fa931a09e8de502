"""Reinforcement learning of the action expert: every step of the stochastic flow is an action.

The language model is frozen: its caches carry no gradient. The expert's velocity is evaluated at
the states of a chain, and each step's new log-density against the old one is a ratio, clipped and
weighted as the tokens' are (see `rl.objectives`). The last step is certain: it does not train.
"""

import functools

import jax
import jax.numpy as jnp

from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.decode import act
from alpamayo_jax.decode.generate import Generation
from alpamayo_jax.decode.prefix import prefill
from alpamayo_jax.flow.stochastic import step_logprobs
from alpamayo_jax.rl import surrogates
from alpamayo_jax.rl.completions import take_apart
from alpamayo_jax.rl.types import RolloutBatch, RolloutSettings
from alpamayo_jax.settings import RLSettings
from alpamayo_jax.train.objective import Objective, Weights
from alpamayo_jax.types import Array, KVCache, ModelInputs


def chain_logprobs(
    params: dict,
    inputs: ModelInputs,
    token_ids: Array,
    states: Array,
    config: ModelConfig,
    settings: RolloutSettings,
    **stack,
) -> Array:
    """Log-density of every step of flows that went through `states`.

    Args:
      params: of the whole policy; the gradient reaches all but the language model.
      inputs: B prompts.
      token_ids: int32 [B, K, N], the reasoning of every sample with its end token.
      states: float32 [B, K, S + 1, W, 2].
      config: model.
      settings: of the rollouts.
      **stack: fields of `Alpamayo`: `remat`, `unroll`, `layout`.

    Returns:
      float32 [B, K, S], as `FlowChain.logprobs`.
    """
    steps = settings.flow_schedule(config)
    prefix = prefill(params, inputs, config, **stack)
    thought = as_generated(token_ids, config, settings)
    thought = act.recondition(params, prefix, thought, config, **stack)
    prefix, thought = jax.lax.stop_gradient((prefix, thought))
    velocity = act.velocity_field(params, prefix, thought, config, **stack)
    chain = jnp.moveaxis(states, 2, 0)

    # One step after the other, computed again in the backward pass: the memory of one.
    @jax.checkpoint
    def one(part):
        x, t = part
        return velocity(x, jnp.full((*x.shape[:-2], 1, 1), t, jnp.float32))

    velocities = jax.lax.map(one, (chain[:-1], jnp.asarray(steps.time)))
    return jnp.moveaxis(step_logprobs(chain, velocities, steps), 0, -1)


def flow_objective(
    settings: RLSettings,
    config: ModelConfig,
    rollouts: RolloutSettings,
    coefficients: dict[str, float],
    stack: dict,
) -> Objective:
    """The objective of `settings` on the chains of a `RolloutBatch`; the mean is over flow steps.

    Raises:
      ConfigError: an algorithm that is not defined on steps, or an entropy, which a chain of given
        noise cannot change.
    """
    if settings.algorithm not in ("paper", "grpo"):
        raise ConfigError(f"rl.algorithm {settings.algorithm!r} has no steps of a flow; take grpo")
    if settings.entropy:
        raise ConfigError("rl.entropy must be 0 for the flow: its noise, so its entropy, is given")
    rollouts.flow_schedule(config)
    return Objective(
        prepare=functools.partial(_prepare, settings=settings, names=tuple(coefficients)),
        values=functools.partial(
            _values, settings=settings, config=config, rollouts=rollouts, stack=stack
        ),
        coefficients=coefficients,
    )


def flow_terms(logprobs: Array, batch: RolloutBatch, settings: RLSettings) -> dict[str, Array]:
    """Every term of the loss, float32 [B, K, S].

    Args:
      logprobs: [B, K, S], of the expert that trains.
      batch: the rest.
      settings: algorithm and numbers.
    """
    advantage, clip = batch.advantages[..., None], (settings.clip_low, settings.clip_high)
    ratio = surrogates.probability_ratio(logprobs, batch.flow.logprobs)
    if settings.algorithm == "paper":
        loss, clipped = -logprobs, jnp.zeros_like(logprobs)
    else:
        loss = surrogates.clipped_surrogate(ratio, advantage, *clip, settings.dual_clip)
        clipped = surrogates.is_clipped(ratio, advantage, *clip).astype(jnp.float32)
    terms = {"loss_policy": loss, "clip_fraction": clipped}
    if settings.kl:
        ref = batch.flow.ref_logprobs
        terms["kl"] = surrogates.divergence(logprobs, ref, settings.kl_estimator)
    return terms


def _prepare(batch: RolloutBatch, rng, *, settings, names) -> tuple[RolloutBatch, Weights]:
    del rng
    counts = batch.counts
    if settings.algorithm == "paper":
        counts = surrogates.softmax_weights(batch.advantages, counts, settings.beta)
    # The last step is certain.
    random = jnp.arange(batch.flow.logprobs.shape[-1]) < batch.flow.logprobs.shape[-1] - 1
    return batch, dict.fromkeys(names, counts[..., None] * random)


def _values(params, batch: RolloutBatch, weights, *, settings, config, rollouts, stack):
    logprobs = chain_logprobs(
        params, batch.inputs, batch.token_ids, batch.flow.states, config, rollouts, **stack
    )
    terms = flow_terms(logprobs, batch, settings)
    return {name: terms[name] for name in weights}


def as_generated(token_ids: Array, config: ModelConfig, settings: RolloutSettings) -> Generation:
    """Completions as the decoder describes them, without their keys and values."""
    end_index = take_apart(token_ids, config, settings).end_index
    nothing = jnp.zeros(())
    return Generation(
        token_ids=token_ids,
        logprobs=jnp.zeros(token_ids.shape),
        end_index=end_index,
        num_tokens=jnp.int32(token_ids.shape[-1]),
        cache=KVCache(k=nothing, v=nothing),
    )
