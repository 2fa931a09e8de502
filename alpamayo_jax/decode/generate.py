"""Reasoning: K token sequences per prompt on one shared prefix, in one compiled loop.

Letters: B batch, K samples, N most new tokens, S prompt slots, V vocabulary, L layers, G key-value
heads, H head size.
"""

import flax.struct
import jax
import jax.numpy as jnp

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.decode.draw import draw
from alpamayo_jax.decode.prefix import Prefix
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.ops import filters
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.types import Array, KVCache


@flax.struct.dataclass
class Generation:
    """New tokens of every sample.

    Attributes:
      token_ids: int32 [B, K, N]; the end token is the last real one, padding follows.
      logprobs: float32 [B, K, N] of the drawn tokens under the model at temperature 1 over the ids
        that may be drawn; 0 on padding and on a forced end token.
      end_index: int32 [B, K], where the end token stands; -1 where there is none.
      num_tokens: int32 [], length of the longest sample.
      cache: keys and values of the new tokens, [L, B, K, G, N, H]; slots after a sample's end token
        are filler, and the slot of the very last token is empty unless it is the end token.
      forced: bool [B, K], the end token was written, not drawn.
    """

    token_ids: Array
    logprobs: Array
    end_index: Array
    num_tokens: Array
    cache: KVCache
    forced: Array | bool = False


@flax.struct.dataclass
class _Loop:
    step: Array
    token_ids: Array
    logprobs: Array
    end_index: Array
    stopped: Array  # bool [B, K]: ended by an end-of-text token without an end token
    forced: Array
    cache: KVCache


def generate(
    params: dict,
    prefix: Prefix,
    config: ModelConfig,
    settings: SampleSettings,
    rng: jax.Array,
    *,
    answer: bool = False,
    **stack,
) -> Generation:
    """Samples reasoning up to and including `<|traj_future_start|>`, or a text answer.

    Trajectory ids cannot be drawn while reasoning. The loop ends when the keys and values of every
    sample's end token are in the cache, or after N tokens.

    Args:
      params: of the whole policy.
      prefix: the prefilled prompts.
      config: model.
      settings: sampling.
      rng: key, or one per row [B]; sample k of row b does not depend on how many samples are
        drawn, and with a key of its own not on the row's place in the batch either.
      answer: generate text to the end-of-text token, without the trajectory mask.
      **stack: fields of `Alpamayo`: `unroll`, `layout`.
    """
    model = Alpamayo(config, **stack)
    tokens = config.trajectory_tokens
    eos, pad = config.text_tokens.eos_token_id, config.text_tokens.pad_token_id
    end = eos if answer else special_token_id(config, "traj_future_start")
    limit = settings.max_new_tokens
    batch, samples = prefix.mask.shape[0], settings.num_samples
    force = settings.force_end and not answer

    def choose(hidden, index, ended, stopped):
        logits = model.apply({"params": params}, hidden, method="logits")
        if not answer:
            logits = filters.mask_range(
                logits, tokens.traj_token_start_idx, tokens.traj_token_end_idx
            )
        token, logprob = draw(logits, rng, index, settings)
        forced = jnp.zeros_like(ended)
        if force:
            forced = ((index == limit - 1) | stopped) & (token != end) & ~ended
            logprob = jnp.where(forced, 0.0, logprob)
            token = jnp.where(forced, end, token)
            stopped = jnp.zeros_like(stopped)
        over = ended | stopped
        return jnp.where(over, pad, token), jnp.where(over, 0.0, logprob), forced

    def record(loop, index, token, logprob, forced):
        """Writes token `index` of every sample."""
        ended = (token == end) & (loop.end_index < 0)
        return loop.replace(
            token_ids=loop.token_ids.at[..., index].set(token),
            logprobs=loop.logprobs.at[..., index].set(logprob),
            end_index=jnp.where(ended, index, loop.end_index),
            stopped=(loop.stopped | (token == eos)) & ~ended & (loop.end_index < 0),
            forced=loop.forced | forced,
        )

    def running(loop):
        done = ((loop.end_index >= 0) & (loop.end_index < loop.step)) | (
            loop.stopped & (not force)
        )
        return (loop.step < limit) & ~done.all()

    def body(loop):
        """Caches token `step` and draws the one after it."""
        index = loop.step
        token = loop.token_ids[..., index][..., None]
        position = prefix.length + index + prefix.rope_delta[:, None, None]
        position = jnp.broadcast_to(position, (3, batch, samples, 1))
        before = jnp.arange(limit) < index
        context = [
            (prefix.cache, prefix.mask[:, None, None, :]),
            (loop.cache, before[None, None, None, :]),
        ]
        hidden, kv = model.apply(
            {"params": params}, token, position, jnp.ones((1, 1, 1, 1), bool), context,
            method="extend",
        )
        cache = jax.tree.map(
            lambda a, new: jax.lax.dynamic_update_slice_in_dim(a, new, index, axis=-2),
            loop.cache,
            kv,
        )
        drawn = choose(hidden[..., 0, :], index + 1, loop.end_index >= 0, loop.stopped)
        return record(loop.replace(cache=cache), index + 1, *drawn).replace(step=index + 1)

    heads, size = config.language.num_kv_heads, config.language.head_dim
    empty = jnp.zeros(
        (config.language.num_layers, batch, samples, heads, limit, size), prefix.cache.k.dtype
    )
    no = jnp.zeros((batch, samples), bool)
    # One column past the limit takes the token drawn after the last one, and is dropped.
    loop = _Loop(
        step=jnp.int32(0),
        token_ids=jnp.full((batch, samples, limit + 1), pad, jnp.int32),
        logprobs=jnp.zeros((batch, samples, limit + 1), jnp.float32),
        end_index=jnp.full((batch, samples), -1, jnp.int32),
        stopped=no,
        forced=no,
        cache=KVCache(k=empty, v=empty),
    )
    hidden = jnp.broadcast_to(
        prefix.last_hidden[:, None], (batch, samples, prefix.last_hidden.shape[-1])
    )
    loop = record(loop, 0, *choose(hidden, 0, no, no))
    loop = jax.lax.while_loop(running, body, loop)
    end_index = jnp.where(loop.end_index < limit, loop.end_index, -1)
    return Generation(
        token_ids=loop.token_ids[..., :limit],
        logprobs=loop.logprobs[..., :limit],
        end_index=end_index,
        num_tokens=jnp.minimum(loop.step + (end_index < 0).any(), limit),
        cache=loop.cache,
        forced=loop.forced,
    )
