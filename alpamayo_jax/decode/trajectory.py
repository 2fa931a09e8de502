"""The trajectory as tokens: what the language model says after `<|traj_future_start|>`.

Letters: B batch, K samples, M = 2 W + 1 slots: the trajectory ids and `<|traj_future_end|>`.
"""

import flax.struct
import jax
import jax.numpy as jnp

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.decode.draw import draw
from alpamayo_jax.decode.generate import Generation
from alpamayo_jax.decode.prefix import Prefix
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.types import Array, KVCache


@flax.struct.dataclass
class TrajectoryTokens:
    """What every sample says after its reasoning.

    Attributes:
      token_ids: int32 [B, K, M], padded on the right.
      logprobs: float32 [B, K, M] of the drawn tokens under the model at temperature 1 over the ids
        that could be drawn; 0 on padding.
      num_tokens: int32 [B, K]; 0 for a sample whose reasoning has no end.
    """

    token_ids: Array
    logprobs: Array
    num_tokens: Array


@flax.struct.dataclass
class _Loop:
    step: Array
    token_ids: Array
    logprobs: Array
    running: Array  # bool [B, K]
    cache: KVCache


def generate_trajectory(
    params: dict,
    prefix: Prefix,
    thought: Generation,
    config: ModelConfig,
    settings: SampleSettings,
    rng: jax.Array,
    *,
    constrained: bool = False,
    **stack,
) -> TrajectoryTokens:
    """Samples the trajectory after each sample's reasoning, up to `<|traj_future_end|>`.

    Args:
      params: of the whole policy.
      prefix: the prefilled prompts.
      thought: the samples' reasoning. A sample without an end token gets no trajectory.
      config: model.
      settings: temperature and nucleus.
      rng: key; sample k of row b does not depend on how many samples are drawn.
      constrained: only future bins can be drawn, exactly 2 W of them, and the end token is certain
        after them. Only the bins' logits are computed. False draws from the whole vocabulary, as
        the released rollouts do, until the end token, an end of text, or M tokens.
      **stack: fields of `Alpamayo`: `unroll`, `layout`.
    """
    model = Alpamayo(config, **stack)
    tokens = config.trajectory_tokens
    start = special_token_id(config, "traj_future_start")
    end = special_token_id(config, "traj_future_end")
    eos, pad = config.text_tokens.eos_token_id, config.text_tokens.pad_token_id
    bins = slice(tokens.traj_token_start_idx, tokens.history_start_idx) if constrained else None
    size = tokens.tokens_per_future_traj + 1
    feeds = size - 1 if constrained else size
    slots = jnp.arange(thought.token_ids.shape[-1])
    has_start = thought.end_index >= 0
    batch, samples = has_start.shape

    def body(loop):
        """Feeds the start token or what was drawn last, and draws token `step`."""
        index = loop.step
        fed = jnp.where(index == 0, start, loop.token_ids[..., index - 1])
        position = prefix.length + thought.end_index + index + prefix.rope_delta[:, None]
        before = jnp.arange(feeds) < index
        context = [
            (prefix.cache, prefix.mask[:, None, None, :]),
            (thought.cache, (slots < thought.end_index[..., None])[..., None, :]),
            (loop.cache, before[None, None, None, :]),
        ]
        hidden, kv = model.apply(
            {"params": params}, fed[..., None],
            jnp.broadcast_to(position[..., None], (3, batch, samples, 1)),
            jnp.ones((1, 1, 1, 1), bool), context, method="extend",
        )  # fmt: skip
        cache = jax.tree.map(
            lambda a, new: jax.lax.dynamic_update_slice_in_dim(a, new, index, axis=-2),
            loop.cache,
            kv,
        )
        logits = model.apply({"params": params}, hidden[..., 0, :], bins, method="logits")
        token, logprob = draw(logits, rng, index, settings)
        token = token if bins is None else token + bins.start
        return loop.replace(
            step=index + 1,
            token_ids=loop.token_ids.at[..., index].set(jnp.where(loop.running, token, pad)),
            logprobs=loop.logprobs.at[..., index].set(jnp.where(loop.running, logprob, 0.0)),
            running=loop.running & (token != end) & (token != eos),
            cache=cache,
        )

    heads, width = config.language.num_kv_heads, config.language.head_dim
    shape = (config.language.num_layers, batch, samples, heads, feeds, width)
    empty = jnp.zeros(shape, prefix.cache.k.dtype)
    loop = _Loop(
        step=jnp.int32(0),
        token_ids=jnp.full((batch, samples, size), pad, jnp.int32),
        logprobs=jnp.zeros((batch, samples, size), jnp.float32),
        running=has_start,
        cache=KVCache(k=empty, v=empty),
    )
    loop = jax.lax.while_loop(
        lambda loop: (loop.step < feeds) & loop.running.any(), body, loop
    )
    ids = loop.token_ids
    if constrained:
        ids = ids.at[..., -1].set(jnp.where(has_start, end, pad))
    return TrajectoryTokens(ids, loop.logprobs, _lengths(ids, has_start, end, eos))


def _lengths(ids: Array, has_start: Array, end: int, eos: int) -> Array:
    """How many tokens stand up to and including the first that ends a sample; int32 [B, K]."""
    size = ids.shape[-1]
    last = jnp.where((ids == end) | (ids == eos), jnp.arange(size), size - 1).min(-1)
    return jnp.where(has_start, last + 1, 0)
