"""Reasoning: K token sequences per prompt on one shared prefix, in one compiled loop.

Letters: B batch, K samples, N most new tokens, S prompt slots, V vocabulary, L layers, G key-value
heads, H head size.
"""

from typing import Callable

import flax.struct
import jax
import jax.numpy as jnp

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.decode.prefix import Prefix
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.decode.trace import Rules, Trace
from alpamayo_jax.models.alpamayo import Alpamayo
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
    trace: Trace
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
    model, rules = Alpamayo(config, **stack), Rules(config, settings, answer)
    batch, samples, limit = prefix.mask.shape[0], settings.num_samples, rules.limit

    def drawn(hidden, index):
        return rules.draw(model.apply({"params": params}, hidden, method="logits"), rng, index)

    def running(loop):
        return ~rules.finished(loop.trace, loop.step).all()

    def body(loop):
        """Caches token `step` and draws the one after it."""
        index = loop.step
        token = loop.trace.token_ids[..., index][..., None]
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
        trace, _ = rules.write(loop.trace, index + 1, *drawn(hidden[..., 0, :], index + 1))
        return _Loop(index + 1, trace, cache)

    trace = begin(rules, prefix, drawn)
    cache = empty_cache(config, prefix, samples, limit)
    loop = jax.lax.while_loop(running, body, _Loop(jnp.int32(0), trace, cache))
    return generation(rules, loop.trace, loop.cache, loop.step)


def begin(
    rules: Rules, prefix: Prefix, drawn: Callable[[Array, int], tuple[Array, Array]]
) -> Trace:
    """The first token of every sample; `drawn(hidden [B, K, D], index)` draws."""
    batch, samples = prefix.mask.shape[0], rules.settings.num_samples
    hidden = prefix.last_hidden[:, None]
    hidden = jnp.broadcast_to(hidden, (batch, samples, hidden.shape[-1]))
    return rules.write(rules.begin(batch, samples), 0, *drawn(hidden, 0))[0]


def empty_cache(config: ModelConfig, prefix: Prefix, samples: int, slots: int) -> KVCache:
    """Room for `slots` new tokens of every sample, [L, B, K, G, slots, H]."""
    language = config.language
    empty = jnp.zeros(
        (language.num_layers, len(prefix.mask), samples, language.num_kv_heads, slots,
         language.head_dim),
        prefix.cache.k.dtype,
    )  # fmt: skip
    return KVCache(k=empty, v=empty)


def generation(rules: Rules, trace: Trace, cache: KVCache, steps: Array) -> Generation:
    """What was generated, when `steps` tokens of the longest sample are in the cache."""
    limit = rules.limit
    end_index = jnp.where(trace.end_index < limit, trace.end_index, -1)
    return Generation(
        token_ids=trace.token_ids[..., :limit],
        logprobs=trace.logprobs[..., :limit],
        end_index=end_index,
        num_tokens=jnp.minimum(steps + (end_index < 0).any(), limit),
        cache=cache,
        forced=trace.forced,
    )
