"""What is trained: functions (params, batch, rng) -> (loss, metrics), pure and jit-able.

Stage 1 teaches the language model discrete trajectory tokens beside text (cross-entropy); the action
expert then learns the flow on the language model's cache, whose gradient is stopped (paper, sections
5.1 and 5.2).
"""

from typing import Callable

import jax
import jax.numpy as jnp

from alpamayo_jax.action import unicycle
from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.flow import matching
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.ops.losses import masked_mean, token_cross_entropy
from alpamayo_jax.tokens import history, trajectory
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.types import Array, ModelInputs, TrainBatch

Metrics = dict[str, Array]
LossFn = Callable[[dict, TrainBatch, jax.Array], tuple[Array, Metrics]]

TOKEN_MEANS = ("two_means", "one_mean")


def future_actions(batch: TrainBatch, config: ModelConfig) -> Array:
    """The recorded future as normalised actions, float32 [B, W, 2]."""
    return unicycle.trajectory_to_action(
        batch.inputs.ego_history_xyz,
        batch.inputs.ego_history_rot,
        batch.ego_future_xyz,
        batch.ego_future_rot,
        config.action,
        bf16_constants=config.precision.bf16_buffers,
    )


def fused_ids(batch: TrainBatch, actions: Array, config: ModelConfig) -> Array:
    """The conversation with history and future placeholders replaced, int32 [B, T]."""
    tokens, inputs = config.trajectory_tokens, batch.inputs
    return trajectory.fuse(
        inputs.input_ids,
        tokens,
        special_token_id(config, "traj_history"),
        history.encode_history(inputs.ego_history_xyz, inputs.ego_history_rot, tokens),
        special_token_id(config, "traj_future"),
        trajectory.encode_future(actions, tokens),
    )


def token_losses(logits: Array, ids: Array, labels_mask: Array, config: ModelConfig) -> Metrics:
    """Next-token cross-entropy of the labelled tokens, by kind.

    Args:
      logits: float32 [B, T, V].
      ids: int32 [B, T], fused.
      labels_mask: bool [B, T].
      config: says which ids are trajectory ids.

    Returns:
      `loss_future_traj`: mean over labelled trajectory ids and the tokens that open and close the
      future; `loss_others`: mean over the other labelled tokens; `loss_tokens`: mean over all. Each
      is 0 where there is no such token.
    """
    tokens = config.trajectory_tokens
    targets, labelled = ids[:, 1:], labels_mask[:, 1:]
    future = (targets >= tokens.traj_token_start_idx) & (targets < tokens.traj_token_end_idx)
    for name in ("traj_future_start", "traj_future_end"):
        future |= targets == special_token_id(config, name)
    values = token_cross_entropy(logits[:, :-1], targets)
    return {
        "loss_future_traj": masked_mean(values, labelled & future),
        "loss_others": masked_mean(values, labelled & ~future),
        "loss_tokens": masked_mean(values, labelled),
    }


def token_objective(
    config: ModelConfig, *, mean: str = "two_means", **stack
) -> LossFn:
    """Stages 1 and 2: cross-entropy on the labelled tokens of whole conversations.

    Args:
      config: model.
      mean: "two_means" adds the means over trajectory tokens and over the others, as the released
        stage 1 does; "one_mean" is the mean over all labelled tokens.
      **stack: `remat` and `unroll`, see `layers.stack`.

    Raises:
      ConfigError: unknown `mean`.
    """
    if mean not in TOKEN_MEANS:
        raise ConfigError(f"token mean {mean!r} is unknown; known: {', '.join(TOKEN_MEANS)}")

    def objective(params, batch, rng):
        del rng
        ids = fused_ids(batch, future_actions(batch, config), config)
        logits = conversation_logits(params, batch.inputs, ids, config, **stack)
        parts = token_losses(logits, ids, batch.labels_mask, config)
        if mean == "two_means":
            return parts["loss_future_traj"] + parts["loss_others"], parts
        return parts["loss_tokens"], parts

    return objective


def conversation_logits(
    params: dict, inputs: ModelInputs, ids: Array, config: ModelConfig, **stack
) -> Array:
    """Logits float32 [B, T, V] of whole conversations with fused ids [B, T]."""
    model = Alpamayo(config, **stack)
    hidden, _ = model.apply({"params": params}, inputs, ids, method="prefill")
    return model.apply({"params": params}, hidden, method="logits")


def expert_velocity(
    params: dict,
    inputs: ModelInputs,
    ids: Array,
    x: Array,
    t: Array,
    config: ModelConfig,
    **stack,
) -> Array:
    """The velocity at noisy actions, after the teacher-forced conversation up to the future.

    The waypoints see each other and every real token up to `<|traj_future_start|>`, as they do when
    sampling; the cache's gradient is stopped.

    Args:
      params: of the whole policy.
      inputs: conversations.
      ids: int32 [B, T], fused.
      x: float32 [B, K, W, 2], K noisy versions of each row's actions.
      t: float32 [B, K].
      config: model.
      **stack: `remat` and `unroll`, see `layers.stack`.

    Returns:
      float32 [B, K, W, 2].
    """
    model = Alpamayo(config, **stack)
    _, cache = model.apply({"params": params}, inputs, ids, method="prefill")
    cache = jax.lax.stop_gradient(cache)
    # The last start token of each row: a reasoning text cannot contain one.
    slots = jnp.arange(ids.shape[1])
    is_start = ids == special_token_id(config, "traj_future_start")
    cut = jnp.max(jnp.where(is_start, slots, -1), axis=-1) + 1
    mask = inputs.attention_mask & (slots < cut[:, None])
    positions = (cut + inputs.rope_delta)[:, None] + jnp.arange(config.action.n_waypoints)
    positions = jnp.broadcast_to(positions[:, None], (3, *x.shape[:-1]))
    return model.apply(
        {"params": params}, x, t, positions, [(cache, mask[:, None, None, :])], method="velocity"
    )


def expert_objective(
    config: ModelConfig, *, noises_per_row: int = 1, **stack
) -> LossFn:
    """The action expert by conditional flow matching (equation 7 of the paper).

    Args:
      config: model.
      noises_per_row: noise and time draws per conversation; they share its prefill.
      **stack: `remat` and `unroll`, see `layers.stack`.
    """

    def objective(params, batch, rng):
        actions = future_actions(batch, config)
        x = jnp.repeat(actions[:, None], noises_per_row, axis=1)
        pair = matching.sample_pair(rng, x, config.flow)
        ids = fused_ids(batch, actions, config)
        velocity = expert_velocity(
            params, batch.inputs, ids, pair.x_t, pair.t[..., 0, 0], config, **stack
        )
        loss = matching.loss(velocity, pair.target)
        return loss, {"loss_flow": loss}

    return objective


OBJECTIVES = {"tokens": token_objective, "expert": expert_objective}


def make_objective(name: str, config: ModelConfig, **options) -> LossFn:
    """The objective called `name`.

    Raises:
      ConfigError: unknown name.
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"objective {name!r} is unknown; known: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name](config, **options)
