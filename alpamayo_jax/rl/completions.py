"""Log-probabilities of completions, K per prompt, in one teacher-forced pass on the shared prefix.

The reasoning and the trajectory of a completion are taken apart first: then each has its own slots,
whatever the reasoning's length, and logits are computed only where and of what could be drawn.
Letters: R slots of reasoning, M = 2 W + 1 of the trajectory; N = R + M, or R without trajectory.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.decode.prefix import Prefix, prefill
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.ops import filters
from alpamayo_jax.ops.token_statistics import chunked_statistics
from alpamayo_jax.rl.types import RolloutSettings
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.types import Array, ModelInputs

LOGITS_CHUNK = 32  # positions of every sample whose logits are held at a time
_IMPOSSIBLE = -1e30  # a finite logit: the entropy's gradient has no 0 x infinity


class Parts(NamedTuple):
    """A completion taken apart.

    Attributes:
      thought: int32 [B, K, R], padding or trajectory ids after the end of the reasoning.
      end_index: int32 [B, K], where `<|traj_future_start|>` stands; -1 where there is none.
      trajectory: int32 [B, K, M], what follows it; M = 0 without trajectories.
    """

    thought: Array
    end_index: Array
    trajectory: Array


def take_apart(token_ids: Array, config: ModelConfig, settings: RolloutSettings) -> Parts:
    """The reasoning and the trajectory of completions int32 [B, K, N]."""
    chex.assert_shape(token_ids, (None, None, settings.completion_length(config)))
    limit = settings.max_reasoning_tokens
    thought = token_ids[..., :limit]
    is_start = thought == special_token_id(config, "traj_future_start")
    end_index = jnp.where(is_start.any(-1), jnp.argmax(is_start, axis=-1), -1)
    after = end_index[..., None] + 1 + jnp.arange(token_ids.shape[-1] - limit)
    return Parts(thought, end_index, jnp.take_along_axis(token_ids, after, axis=-1))


def put_together(thought: Array, trajectory: Array, lengths: Array, fill: Array | float) -> Array:
    """[B, K, R] and [B, K, M] to [B, K, N]: the trajectory follows `lengths` slots of the thought.

    Args:
      thought: [B, K, R].
      trajectory: [B, K, M].
      lengths: int32 [B, K].
      fill: what stands where neither has anything.
    """
    limit, more = thought.shape[-1], trajectory.shape[-1]
    slot = jnp.arange(limit + more)
    beyond = slot - lengths[..., None]
    index = jnp.where(beyond < 0, slot, limit + jnp.clip(beyond, 0, max(more - 1, 0)))
    both = jnp.concatenate([thought, trajectory], axis=-1)
    index = jnp.minimum(index, limit + more - 1)
    return jnp.where(beyond < more, jnp.take_along_axis(both, index, axis=-1), fill)


def completion_logprobs(
    params: dict,
    inputs: ModelInputs,
    token_ids: Array,
    mask: Array,
    config: ModelConfig,
    settings: RolloutSettings,
    **stack,
) -> tuple[Array, Array]:
    """Log-probability of every drawn token, and the entropy of the distribution it came from.

    At temperature 1 over the ids that could be drawn, as in `Rollouts.logprobs`. The prompt runs
    once whatever K; the gradient passes through both.

    Args:
      params: of the whole policy, adapters included.
      inputs: B prompts.
      token_ids: int32 [B, K, N], completions.
      mask: bool [B, K, N], tokens that were drawn.
      config: model.
      settings: of the rollouts; says which ids could be drawn where.
      **stack: fields of `Alpamayo`: `remat`, `unroll`, `layout`.

    Returns:
      float32 [B, K, N] each; 0 where `mask` is False.
    """
    chex.assert_equal_shape([token_ids, mask])
    parts = take_apart(token_ids, config, settings)
    prefix = prefill(params, inputs, config, **stack)
    hidden = _hidden(params, prefix, parts, config, settings, **stack)
    model = Alpamayo(config, **stack)
    tokens = config.trajectory_tokens

    def logits(part, ids=None):
        return model.apply({"params": params}, part, ids, method="logits")

    def reasoning(part):
        first, end = tokens.traj_token_start_idx, tokens.traj_token_end_idx
        return jnp.maximum(filters.mask_range(logits(part), first, end), _IMPOSSIBLE)

    limit = settings.max_reasoning_tokens
    found = chunked_statistics(reasoning, hidden[..., :limit, :], parts.thought, LOGITS_CHUNK)
    if settings.actor == "tokens":
        after, wanted, draw = hidden[..., limit:, :], parts.trajectory, logits
        if settings.constrained:
            bins = slice(tokens.traj_token_start_idx, tokens.history_start_idx)
            wanted = jnp.clip(wanted[..., :-1] - bins.start, 0, tokens.num_future_bins - 1)
            draw = lambda part: logits(part, bins)  # noqa: E731
        more = chunked_statistics(draw, after, wanted, LOGITS_CHUNK)
        if settings.constrained:  # the end token is certain
            more = jax.tree.map(lambda a: jnp.pad(a, ((0, 0), (0, 0), (0, 1))), more)
        lengths = jnp.where(parts.end_index < 0, limit, parts.end_index + 1)
        found = tuple(put_together(a, b, lengths, 0.0) for a, b in zip(found, more))
    return tuple(jnp.where(mask, a, 0.0) for a in found)


def _hidden(
    params: dict,
    prefix: Prefix,
    parts: Parts,
    config: ModelConfig,
    settings: RolloutSettings,
    **stack,
) -> Array:
    """Hidden states that predict the reasoning's and then the trajectory's slots, [B, K, ., D].

    `<|traj_future_start|>` is fed in the first slot of the trajectory; the slots of the reasoning
    from there on are seen by nobody.
    """
    end_index, thought = parts.end_index, parts.thought[..., :-1]
    batch, samples, size = thought.shape
    feeds = parts.trajectory.shape[-1] - (settings.constrained and settings.actor == "tokens")
    ids, place = thought, jnp.broadcast_to(jnp.arange(size), thought.shape)
    visible = jnp.broadcast_to(jnp.tril(jnp.ones((size, size), bool)), (batch, samples, size, size))
    if feeds:
        start = jnp.full((batch, samples, 1), special_token_id(config, "traj_future_start"))
        ids = jnp.concatenate([ids, start, parts.trajectory[..., : feeds - 1]], axis=-1)
        here = end_index[..., None] + jnp.arange(feeds)
        place = jnp.concatenate([place, here], axis=-1)
        seen = jnp.arange(size) < end_index[..., None]
        seen = jnp.broadcast_to(seen[..., None, :], (batch, samples, feeds, size))
        own = jnp.tril(jnp.ones((feeds, feeds), bool))
        own = jnp.broadcast_to(own, (batch, samples, feeds, feeds))
        none = jnp.zeros((batch, samples, size, feeds), bool)
        visible = jnp.block([[visible, none], [seen, own]])
    first = prefix.last_hidden[:, None, None]
    first = jnp.broadcast_to(first, (batch, samples, *first.shape[2:]))
    if not ids.shape[-1]:
        return first
    positions = place + (prefix.length + prefix.rope_delta)[:, None, None]
    hidden, _ = Alpamayo(config, **stack).apply(
        {"params": params}, ids.astype(jnp.int32), jnp.broadcast_to(positions, (3, *place.shape)),
        visible, [(prefix.cache, prefix.mask[:, None, None, :])], method="extend",
    )  # fmt: skip
    return jnp.concatenate([first, hidden], axis=-2)
