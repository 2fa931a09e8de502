"""How likely the language model finds a trajectory, by its discrete trajectory tokens."""

import jax
import jax.numpy as jnp

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.decode.generate import Generation
from alpamayo_jax.decode.prefix import Prefix
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.ops.losses import token_cross_entropy
from alpamayo_jax.tokens import trajectory
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.types import Array, KVCache


def trajectory_logprob(
    params: dict, prefix: Prefix, generation: Generation, config: ModelConfig, actions: Array
) -> Array:
    """Log-probability of each sample's actions as discrete tokens, after its own reasoning.

    One teacher-forced pass per sample over `<|traj_future_start|>` and all but the last token; the
    flow has no cheap density, and the language model was trained on exactly these tokens (paper,
    section 5.1). Samples run one after the other, so logits are held for one at a time.

    Args:
      params: of the whole policy.
      prefix: the prompts.
      generation: the samples' reasoning; each must have its end token.
      config: model.
      actions: float32 [B, K, W, 2], normalised.

    Returns:
      float32 [B, K]; -inf for a sample without an end token.
    """
    model = Alpamayo(config)
    tokens = config.trajectory_tokens
    start = special_token_id(config, "traj_future_start")
    ids = tokens.traj_token_start_idx + trajectory.encode_future(actions, tokens)
    batch, _, size = ids.shape
    slots = jnp.arange(generation.token_ids.shape[-1])

    def one(sample):
        ids_k, end_k, cache_k = sample
        fed = jnp.concatenate([jnp.full((batch, 1), start, ids_k.dtype), ids_k[:, :-1]], axis=-1)
        offset = prefix.length + end_k + prefix.rope_delta
        positions = jnp.broadcast_to(
            (offset[:, None] + jnp.arange(size))[:, None], (3, batch, 1, size)
        )
        context = [
            (prefix.cache, prefix.mask[:, None, None, :]),
            (jax.tree.map(lambda a: a[:, :, None], cache_k),
             (slots < end_k[:, None])[:, None, None, :]),
        ]
        causal = jnp.tril(jnp.ones((1, 1, size, size), bool))
        hidden, _ = model.apply(
            {"params": params}, fed[:, None], positions, causal, context, method="extend"
        )
        logits = model.apply({"params": params}, hidden[:, 0], method="logits")
        return -token_cross_entropy(logits, ids_k).sum(-1)

    cache = KVCache(*(jnp.moveaxis(a, 2, 0) for a in (generation.cache.k, generation.cache.v)))
    end = jnp.moveaxis(generation.end_index, 1, 0)
    logprob = jax.lax.map(one, (jnp.moveaxis(ids, 1, 0), jnp.maximum(end, 0), cache))
    return jnp.where(generation.end_index >= 0, jnp.moveaxis(logprob, 0, 1), -jnp.inf)
