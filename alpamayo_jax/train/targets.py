"""What a batch of conversations asks for: ids, actions and which tokens count. No parameters."""

import jax.numpy as jnp

from alpamayo_jax.action import unicycle
from alpamayo_jax.config import ModelConfig
from alpamayo_jax.layout import gathered
from alpamayo_jax.sharding import Layout
from alpamayo_jax.tokens import history, trajectory
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.train.objective import Weights
from alpamayo_jax.types import Array, TrainBatch


def future_actions(batch: TrainBatch, config: ModelConfig, layout: Layout | None = None) -> Array:
    """The recorded future as normalised actions, float32 [B, W, 2]."""
    poses = (
        batch.inputs.ego_history_xyz,
        batch.inputs.ego_history_rot,
        batch.ego_future_xyz,
        batch.ego_future_rot,
    )
    return _actions(poses, config, layout)


def _actions(poses: tuple[Array, ...], config: ModelConfig, layout: Layout | None) -> Array:
    # The expert's fastest Fourier feature turns the last bit of an action into the fourth digit of
    # the loss. Computed alike on every device, the bits do not depend on the mesh.
    actions = unicycle.trajectory_to_action(
        *(gathered(pose, layout) for pose in poses),
        config.action,
        bf16_constants=config.precision.bf16_buffers,
    )
    return gathered(actions, layout)


def fused_ids(
    batch: TrainBatch, actions: Array, config: ModelConfig, layout: Layout | None = None
) -> Array:
    """The conversation with history and future placeholders replaced, int32 [B, T].

    Interleaved conversations come in the order of their moments, and so do their placeholders.
    """
    tokens, inputs, e = config.trajectory_tokens, batch.inputs, batch.earlier
    histories = history.encode_history(inputs.ego_history_xyz, inputs.ego_history_rot, tokens)
    futures = trajectory.encode_future(actions, tokens)
    if e is not None:
        before = history.encode_history(e.history_xyz, e.history_rot, tokens)
        poses = e.history_xyz, e.history_rot, e.future_xyz, e.future_rot
        after = trajectory.encode_future(_actions(poses, config, layout), tokens)
        flat = lambda bins: bins.reshape(len(bins), -1)  # noqa: E731
        histories = jnp.concatenate([flat(before), histories], -1)
        futures = jnp.concatenate([flat(after), futures], -1)
    return trajectory.fuse(
        inputs.input_ids,
        tokens,
        special_token_id(config, "traj_history"),
        histories,
        special_token_id(config, "traj_future"),
        futures,
    )


def token_weights(ids: Array, labels_mask: Array, config: ModelConfig) -> Weights:
    """Which next tokens count, by kind.

    Args:
      ids: int32 [B, T], fused.
      labels_mask: bool [B, T].
      config: says which ids are trajectory ids.

    Returns:
      bool [B, T - 1] each: `loss_future_traj` the labelled trajectory ids and the tokens that open
      and close the future, `loss_others` the other labelled tokens, `loss_tokens` all labelled ones.
    """
    tokens = config.trajectory_tokens
    targets, labelled = ids[:, 1:], labels_mask[:, 1:]
    future = (targets >= tokens.traj_token_start_idx) & (targets < tokens.traj_token_end_idx)
    for name in ("traj_future_start", "traj_future_end"):
        future |= targets == special_token_id(config, name)
    return {
        "loss_future_traj": labelled & future,
        "loss_others": labelled & ~future,
        "loss_tokens": labelled,
    }
