"""The part of a prompt's computation that all its samples share."""

import flax.struct
import jax.numpy as jnp

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.tokens import history, trajectory
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.types import Array, KVCache, ModelInputs, SceneTokens


@flax.struct.dataclass
class Prefix:
    """A prefilled prompt.

    Attributes:
      cache: [L, B, G, S, H].
      mask: bool [B, S], False on left padding.
      last_hidden: [B, D], of the last prompt token.
      rope_delta: int32 [B].
    """

    cache: KVCache
    mask: Array
    last_hidden: Array
    rope_delta: Array

    @property
    def length(self) -> int:
        """S, the padded length of the prompt."""
        return self.mask.shape[-1]


def fuse_history(inputs: ModelInputs, config: ModelConfig) -> Array:
    """Input ids [B, T] with the history placeholders replaced by the history's token ids."""
    tokens = config.trajectory_tokens
    bins = history.encode_history(inputs.ego_history_xyz, inputs.ego_history_rot, tokens)
    placeholder = special_token_id(config, "traj_history")
    return trajectory.fuse(inputs.input_ids, tokens, placeholder, bins)


def prefill(
    params: dict,
    inputs: ModelInputs,
    config: ModelConfig,
    scene: SceneTokens | None = None,
    **stack,
) -> Prefix:
    """Encodes the images and runs the prompt once, however many samples follow.

    With `scene`, scene tokens computed earlier, the pixels are not read. `stack` are fields of
    `Alpamayo`: `remat`, `unroll`, `layout`.
    """
    hidden, cache = Alpamayo(config, **stack).apply(
        {"params": params}, inputs, fuse_history(inputs, config), scene, method="prefill"
    )
    return Prefix(
        cache=cache,
        mask=jnp.asarray(inputs.attention_mask),
        last_hidden=hidden[:, -1],
        rope_delta=jnp.asarray(inputs.rope_delta),
    )
