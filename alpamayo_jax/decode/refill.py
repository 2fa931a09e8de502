"""A prompt most of whose keys and values are known from the prompt before it.

Letters: B = 1 row, S slots of the padded prompt, Q slots that are computed.
"""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.decode.prefix import Prefix, fuse_history
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.ops.rope import mrope_table, rotate
from alpamayo_jax.types import Array, KVCache, ModelInputs, SceneTokens

BLOCK = 32  # computed slots are rounded up to multiples of this, so that few programs are compiled


@dataclasses.dataclass(frozen=True)
class Reuse:
    """Which slots keep earlier keys and values; NumPy, on the host.

    Attributes:
      source: int32 [S], the slot of the earlier prompt, -1 for slots that are computed.
      shift: int32 [3, S], how far its position has moved on each axis.
      fresh: int32 [Q], the computed slots in order, -1 in front as filling.
    """

    source: np.ndarray
    shift: np.ndarray
    fresh: np.ndarray

    @property
    def moved(self) -> bool:
        """Whether any kept key stands at another position than before."""
        return bool(self.shift.any())


def plan_reuse(
    old: tuple[np.ndarray, np.ndarray],
    new: tuple[np.ndarray, np.ndarray],
    mask: np.ndarray,
    *,
    moved: bool,
) -> Reuse:
    """What a prompt can take over from the one before.

    Keys and values depend on a token, its position, and everything before it. They are exact on the
    part up to the first token that differs. With `moved` those of image tokens behind it are kept
    too, if the same token of the same frame was in the earlier prompt: keys are turned to the new
    position, and what they have seen before themselves is out of date.

    Args:
      old: the earlier prompt: what stands in its slots, int64 [S'] (at least 0: text; below -1:
        images; -1: padding), and positions int32 [3, S'].
      new: the same of the new prompt, S slots.
      mask: bool [S], False on padding.
      moved: keep frames that have moved.
    """
    (old_names, old_positions), (names, positions) = old, new
    size, here, there = len(names), np.flatnonzero(mask), np.flatnonzero(old_names != -1)
    source, shift = np.full(size, -1, np.int32), np.zeros((3, size), np.int32)
    count = min(len(here), len(there))
    same = names[here[:count]] == old_names[there[:count]]
    same &= (positions[:, here[:count]] == old_positions[:, there[:count]]).all(0)
    head = count if same.all() else int(same.argmin())
    source[here[:head]] = there[:head]
    if moved:
        places = {int(old_names[slot]): int(slot) for slot in there if old_names[slot] < -1}
        for slot in here[head:]:
            found = places.get(int(names[slot]), -1)
            source[slot] = found
            if found >= 0:
                shift[:, slot] = positions[:, slot] - old_positions[:, found]
    source[here[-1]] = -1  # what is said next is read off the last token
    shift[:, source < 0] = 0
    computed = np.flatnonzero(mask & (source < 0))
    filling = -len(computed) % BLOCK
    fresh = np.concatenate([np.full(filling, -1), computed]).astype(np.int32)
    return Reuse(source, shift, fresh)


def refill(
    params: dict,
    inputs: ModelInputs,
    scene: SceneTokens,
    cache: KVCache,
    source: Array,
    shift: Array | None,
    fresh: Array,
    config: ModelConfig,
    **stack: Any,
) -> Prefix:
    """`prefill` of one prompt that computes some slots and takes the others from `cache`.

    Args:
      params: of the whole policy.
      inputs: the prompt, one row.
      scene: its scene tokens.
      cache: of the earlier prompt, [L, 1, G, S', H].
      source: as in `Reuse`.
      shift: as in `Reuse`, or None where nothing has moved.
      fresh: as in `Reuse`.
      config: model.
      **stack: fields of `Alpamayo`.
    """
    size = inputs.input_ids.shape[1]
    chex.assert_shape([inputs.input_ids, source[None]], (1, size))
    kept, at = source >= 0, jnp.maximum(fresh, 0)
    kept_cache = jax.tree.map(lambda a: jnp.take(a, jnp.maximum(source, 0), axis=-2), cache)
    if shift is not None:
        kept_cache = kept_cache.replace(k=_turned(kept_cache.k, shift, config))
    before = kept & (jnp.arange(size) < fresh[:, None])
    computed = inputs.replace(
        attention_mask=(fresh >= 0)[None],
        position_ids=jnp.asarray(inputs.position_ids)[:, :, at],
        image_index=jnp.asarray(inputs.image_index)[:, at],
    )
    hidden, made = Alpamayo(config, **stack).apply(
        {"params": params}, computed, fuse_history(inputs, config)[:, at], scene,
        [(kept_cache, before[None])], method="prefill",
    )  # fmt: skip
    # Filling is written past the end, that is, nowhere.
    into = jnp.where(fresh >= 0, fresh, size)
    return Prefix(
        cache=jax.tree.map(
            lambda a, b: a.at[..., into, :].set(b.astype(a.dtype), mode="drop"), kept_cache, made
        ),
        mask=jnp.asarray(inputs.attention_mask),
        last_hidden=hidden[:, -1],
        rope_delta=jnp.asarray(inputs.rope_delta),
    )


def _turned(keys: Array, shift: Array, config: ModelConfig) -> Array:
    """Rotated keys [L, 1, G, S, H] at positions [3, S] further on: rotations add up."""
    language = config.language
    cos, sin = mrope_table(shift, language.head_dim, language.mrope_section, language.rope_theta)
    heads_last = jnp.swapaxes(keys.astype(jnp.float32), -3, -2)  # [L, 1, S, G, H]
    return jnp.swapaxes(rotate(heads_last, cos, sin), -3, -2).astype(keys.dtype)
