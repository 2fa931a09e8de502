"""Names and ids of the tokens that the release adds to the Qwen vocabulary.

After the base tokenizer's ids come `traj_vocab_size` trajectory tokens `<i0>`, `<i1>`, ... and then
the special tokens `<|name|>` in a fixed order (released model). Every id therefore follows from the
configuration; a tokenizer is only checked against it.
"""

import functools
import types
from typing import Mapping

from alpamayo_jax.config import ConfigError, ModelConfig, TrajectoryTokenConfig

# In the order of their ids. `image_pad` stands between `traj_future` and `vectorized_wm` in the
# release's list, but the base tokenizer has it already, so it takes no new id.
SPECIAL_NAMES = (
    "prompt_start",
    "prompt_end",
    "image_start",
    "image_pre_tkn",
    "image_end",
    "traj_history_start",
    "traj_history_pre_tkn",
    "traj_history_end",
    "cot_start",
    "cot_end",
    "meta_action_start",
    "meta_action_end",
    "traj_future_start",
    "traj_future_pre_tkn",
    "traj_future_end",
    "traj_history",
    "traj_future",
    "vectorized_wm",
    "vectorized_wm_start",
    "vectorized_wm_end",
    "vectorized_wm_pre_tkn",
    "route_start",
    "route_pad",
    "route_end",
    "question_start",
    "question_end",
    "answer_start",
    "answer_end",
)

# Alpamayo 1.5 spells these `_padding_0` to `_padding_8`, in this order, with the same ids.
_PADDING_NAMES = (
    "image_pre_tkn",
    "traj_history_pre_tkn",
    "meta_action_start",
    "meta_action_end",
    "traj_future_pre_tkn",
    "vectorized_wm",
    "vectorized_wm_start",
    "vectorized_wm_end",
    "vectorized_wm_pre_tkn",
)

# Base tokens whose ids the configuration holds: name -> field of `TextTokenConfig`.
_BASE_FIELDS = {
    "endoftext": "pad_token_id",
    "im_end": "eos_token_id",
    "vision_start": "vision_start_token_id",
    "vision_end": "vision_end_token_id",
    "image_pad": "image_token_id",
}


def special(name: str) -> str:
    """Text of special token `name`."""
    return f"<|{name}|>"


def trajectory_token(index: int) -> str:
    """Text of trajectory token `index`."""
    return f"<i{index}>"


def padding_spelling(name: str) -> str | None:
    """How Alpamayo 1.5 spells special token `name` where it differs, else None."""
    if name not in _PADDING_NAMES:
        return None
    return special(f"_padding_{_PADDING_NAMES.index(name)}")


def future_ids(config: TrajectoryTokenConfig) -> range:
    """Ids of the future-trajectory bins."""
    return range(config.traj_token_start_idx, config.history_start_idx)


def history_ids(config: TrajectoryTokenConfig) -> range:
    """Ids of the history bins."""
    start = config.history_start_idx
    return range(start, start + config.num_history_bins)


@functools.lru_cache(maxsize=32)
def special_token_ids(config: ModelConfig) -> Mapping[str, int]:
    """Name -> id of the added special tokens and of the base tokens that the model refers to.

    Raises:
      ConfigError: the bins need more than `traj_vocab_size` ids, or the ids reach past
        `language.vocab_size`.
    """
    tokens = config.trajectory_tokens
    bins = tokens.num_future_bins + tokens.num_history_bins
    if bins > tokens.traj_vocab_size:
        raise ConfigError(
            f"trajectory_tokens: {tokens.num_future_bins} future and {tokens.num_history_bins} "
            f"history bins do not fit traj_vocab_size {tokens.traj_vocab_size}"
        )
    first = tokens.traj_token_end_idx
    end = first + len(SPECIAL_NAMES)
    if end > config.language.vocab_size:
        raise ConfigError(
            f"language.vocab_size {config.language.vocab_size} is too small: {len(SPECIAL_NAMES)} "
            f"special tokens start at id {first}, so it must be at least {end}"
        )
    ids = {name: getattr(config.text_tokens, field) for name, field in _BASE_FIELDS.items()}
    ids.update({name: first + i for i, name in enumerate(SPECIAL_NAMES)})
    return types.MappingProxyType(ids)


def special_token_id(config: ModelConfig, name: str) -> int:
    """Id of special token `name`, e.g. "traj_future_start" or "image_pad".

    Raises:
      ConfigError: no special token of that name, or an inconsistent vocabulary.
    """
    ids = special_token_ids(config)
    if name not in ids:
        raise ConfigError(f"special token {name!r} is unknown; known: {', '.join(sorted(ids))}")
    return ids[name]
