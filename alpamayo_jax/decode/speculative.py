"""Reasoning with a draft: consecutive time steps explain themselves alike.

The draft is what was said a step ago. One pass of the model reads a block of it, and every token is
then drawn as plain sampling draws it: from the model's own probabilities, with the key of its place.
As long as the drawn token is the draft's, the next position of the block is already computed. A
draft that names token x with certainty is so accepted with probability p(x), and what stands in its
place otherwise follows p without x: rejection sampling for a point mass (Leviathan et al. 2023,
arXiv 2211.17192), with temperature, nucleus and masks in p. Moreover the same key gives the same
tokens as `generate`, up to the rounding of logits, so the draft decides the time alone.

Letters: B batch, K samples, M tokens of a block, N most new tokens, S tokens of a draft.
"""

from typing import Any

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.decode.generate import Generation, begin, empty_cache, generation
from alpamayo_jax.decode.prefix import Prefix
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.decode.trace import Rules, Trace
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.types import Array, KVCache


@flax.struct.dataclass
class Draft:
    """What may be said next, token by token.

    Attributes:
      token_ids: int32 [B, K, S].
      length: int32 [B, K], tokens of each draft; 0 for none.
    """

    token_ids: Array
    length: Array


@flax.struct.dataclass
class Speculation:
    """What a draft was good for.

    Attributes:
      proposed: int32 [B, K], tokens of the draft that were read by a pass.
      accepted: int32 [B, K], those that were said.
      passes: int32 [], passes of the language model after the prefill.
      num_tokens: int32 [B, K], tokens that were said.
    """

    proposed: Array
    accepted: Array
    passes: Array
    num_tokens: Array

    @property
    def acceptance_rate(self) -> float:
        """Share of the proposed tokens that was accepted, 0 where nothing was proposed."""
        return float(np.sum(self.accepted) / max(int(np.sum(self.proposed)), 1))


def draft_of(token_ids: Any, ended: Any, size: int, end: int) -> Draft:
    """A draft of earlier tokens, cut or padded to `size`, on the host.

    Args:
      token_ids: int [B, K, N], as `Generation.token_ids`.
      ended: bool [B, K], whether a sample has its end token; one that has none ran on to N.
      size: S.
      end: the end token.
    """
    ids = np.asarray(token_ids)[..., :size]
    found = ids == end
    length = np.where(np.asarray(ended) & found.any(-1), found.argmax(-1) + 1, ids.shape[-1])
    ids = np.pad(ids, (*[(0, 0)] * (ids.ndim - 1), (0, size - ids.shape[-1])))
    return Draft(ids.astype(np.int32), length.astype(np.int32))


@flax.struct.dataclass
class _Loop:
    """`at` is the place in the draft of the token that follows the last one; -1 off the draft."""

    cached: Array  # int32 [B, K]; the token after the cached ones is written but not cached
    at: Array  # int32 [B, K]
    trace: Trace
    cache: KVCache
    proposed: Array
    accepted: Array
    passes: Array


def speculate(
    params: dict,
    prefix: Prefix,
    draft: Draft,
    config: ModelConfig,
    settings: SampleSettings,
    rng: jax.Array,
    *,
    answer: bool = False,
    **stack,
) -> tuple[Generation, Speculation]:
    """As `generate`, in fewer passes where the draft is right.

    A sample that leaves its draft goes on without it, and takes it up again where the last two
    tokens stand in it, nearest to where it would be. A pass reads one token per sample when no
    sample has a draft.

    Args:
      params: of the whole policy.
      prefix: the prefilled prompts.
      draft: a guess for every sample.
      config: model.
      settings: sampling; `draft_block` is M.
      rng: as in `generate`.
      answer: as in `generate`.
      **stack: fields of `Alpamayo`: `unroll`, `layout`.

    Raises:
      ConfigError: reasoning without `force_end`, whose samples may end without an end token.
    """
    if not (settings.force_end or answer):
        raise ConfigError("speculative reasoning needs force_end; decode without a draft")
    model, rules = Alpamayo(config, **stack), Rules(config, settings, answer)
    batch, samples, limit = prefix.mask.shape[0], settings.num_samples, rules.limit
    most = settings.draft_block
    chex.assert_shape(draft.token_ids, (batch, samples, None))
    chex.assert_shape(draft.length, (batch, samples))

    def drawn(hidden, index):
        return rules.draw(model.apply({"params": params}, hidden, method="logits"), rng, index)

    def read(loop: _Loop, size: int) -> _Loop:
        """One pass over the last token and `size` - 1 of the draft, for samples that go on."""
        going = ~rules.finished(loop.trace, loop.cached)
        fed, known = _block(loop, draft, size)
        here = loop.cached[..., None] + jnp.arange(size)
        positions = prefix.length + here + prefix.rope_delta[:, None, None]
        own = jnp.arange(loop.cache.k.shape[-2]) < loop.cached[..., None, None]
        context = [(prefix.cache, prefix.mask[:, None, None, :]), (loop.cache, own)]
        hidden, kv = model.apply(
            {"params": params}, fed, jnp.broadcast_to(positions, (3, *positions.shape)),
            jnp.tril(jnp.ones((1, 1, size, size), bool)), context, method="extend",
        )  # fmt: skip
        cache = jax.tree.map(lambda a, new: _store(a, new, loop.cached), loop.cache, kv)
        tokens, logprobs = jax.vmap(drawn, in_axes=(2, 2), out_axes=2)(hidden, here + 1)

        trace, cached, active = loop.trace, loop.cached, going
        for place in range(size):
            trace, said = rules.write(
                trace, here[..., place] + 1, tokens[..., place], logprobs[..., place], active
            )
            cached = jnp.where(active, here[..., place] + 1, cached)
            if place + 1 < size:
                right = known[..., place + 1] & (fed[..., place + 1] == said)
                active &= right & ~rules.finished(trace, cached)
        accepted = jnp.where(going, cached - loop.cached - 1, 0)
        proposed = jnp.where(going, known[..., 1:].sum(-1), 0)
        expected = jnp.where(loop.at >= 0, loop.at + accepted, cached)
        return _Loop(
            cached=cached,
            at=_align(trace.token_ids, cached, draft, expected),
            trace=trace,
            cache=cache,
            proposed=loop.proposed + proposed,
            accepted=loop.accepted + accepted,
            passes=loop.passes + 1,
        )

    def running(loop):
        return ~rules.finished(loop.trace, loop.cached).all()

    def body(loop):
        going = ~rules.finished(loop.trace, loop.cached)
        helped = (going & (loop.at >= 0)).any()
        return jax.lax.cond(helped, lambda l: read(l, most), lambda l: read(l, 1), loop)

    trace = begin(rules, prefix, drawn)
    nothing = jnp.zeros((batch, samples), jnp.int32)
    loop = _Loop(
        cached=nothing,
        at=_align(trace.token_ids, nothing, draft, nothing),
        trace=trace,
        # A block may reach past the limit; what it writes there is dropped.
        cache=empty_cache(config, prefix, samples, limit + most),
        proposed=nothing,
        accepted=nothing,
        passes=jnp.int32(0),
    )
    loop = jax.lax.while_loop(running, body, loop)
    cache = jax.tree.map(lambda a: a[..., :limit, :], loop.cache)
    made = generation(rules, loop.trace, cache, loop.cached.max())
    said = jnp.where(made.end_index >= 0, made.end_index + 1, limit)
    return made, Speculation(loop.proposed, loop.accepted, loop.passes, said)


def _block(loop: _Loop, draft: Draft, size: int) -> tuple[Array, Array]:
    """What a pass reads [B, K, size], and which of it is there: the last token, then the draft."""
    last = jnp.take_along_axis(loop.trace.token_ids, loop.cached[..., None], -1)
    at = loop.at[..., None] + jnp.arange(size - 1)
    known = (loop.at[..., None] >= 0) & (at < draft.length[..., None])
    at = jnp.clip(at, 0, draft.token_ids.shape[-1] - 1)
    guess = jnp.where(known, jnp.take_along_axis(jnp.asarray(draft.token_ids), at, -1), 0)
    known = jnp.concatenate([jnp.ones_like(last, bool), known], -1)
    return jnp.concatenate([last, guess], -1), known


def _store(cache: Array, new: Array, start: Array) -> Array:
    """Writes new [L, B, K, G, M, H] at slots `start` [B, K] of cache [L, B, K, G, slots, H]."""

    def one(a, b, at):
        return jax.lax.dynamic_update_slice_in_dim(a, b, at, axis=-2)

    over_samples = jax.vmap(one, in_axes=(1, 1, 0), out_axes=1)
    return jax.vmap(over_samples, in_axes=(1, 1, 0), out_axes=1)(cache, new, start)


def _align(token_ids: Array, index: Array, draft: Draft, expected: Array) -> Array:
    """Where in the draft the samples stand.

    Args:
      token_ids: int32 [B, K, N + 1], written.
      index: int32 [B, K], of the last token written.
      draft: with S tokens.
      expected: int32 [B, K], where in the draft the last token would stand.

    Returns:
      int32 [B, K], the place after the nearest occurrence of the last token; off the expected place
      the token before it has to match too. -1 where there is none.
    """
    ids, places = jnp.asarray(draft.token_ids), jnp.arange(draft.token_ids.shape[-1])
    last = jnp.take_along_axis(token_ids, index[..., None], -1)
    before = jnp.take_along_axis(token_ids, jnp.maximum(index - 1, 0)[..., None], -1)
    previous = jnp.pad(ids, ((0, 0), (0, 0), (1, 0)))[..., :-1]
    pair = (previous == before) & (places > 0) & (index > 0)[..., None]
    hit = (ids == last) & (pair | (places == expected[..., None]))
    # After the draft's last token there is nothing to propose.
    hit &= places + 1 < draft.length[..., None]
    distance = jnp.where(hit, jnp.abs(places - expected[..., None]), places.size)
    return jnp.where(hit.any(-1), jnp.argmin(distance, -1) + 1, -1)
