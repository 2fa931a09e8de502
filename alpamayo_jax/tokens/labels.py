"""Which tokens of a training conversation are targets (released recipes)."""

from typing import Sequence

import chex
import numpy as np

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.tokens.prompt import ASSISTANT_COMPONENTS
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.types import InputError


def label_mask(
    input_ids: np.ndarray,
    config: ModelConfig,
    components: Sequence[str] = ASSISTANT_COMPONENTS,
) -> np.ndarray:
    """Marks each component from its start to its end token, and the end of the assistant's turn.

    Args:
      input_ids: int [B, T], whole conversations, left-padded.
      config: ids of the special tokens.
      components: what to train; components that a row does not have are no error.

    Returns:
      bool [B, T].

    Raises:
      InputError: a component starts without ending or the other way round, or a row has no end of
        turn.
    """
    chex.assert_rank(input_ids, 2)
    mask = np.zeros(input_ids.shape, bool)
    for row, ids in enumerate(input_ids):
        for name in components:
            for first, last in _spans(ids, config, name, row):
                mask[row, first : last + 1] = True
        ends = np.flatnonzero(ids == config.text_tokens.eos_token_id)
        if not len(ends):
            raise InputError(f"row {row} of the batch has no end of the assistant's turn")
        mask[row, ends[-1]] = True
    return mask


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of every run of True in a mask [T]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(first), int(end) - 1) for first, end in zip(edges[::2], edges[1::2])]


def _spans(ids: np.ndarray, config: ModelConfig, name: str, row: int) -> list[tuple[int, int]]:
    starts = np.flatnonzero(ids == special_token_id(config, f"{name}_start"))
    ends = np.flatnonzero(ids == special_token_id(config, f"{name}_end"))
    # The release pairs whatever it finds and fails silently; an unbalanced row is an error here.
    if len(starts) != len(ends) or (starts >= ends).any() or (ends[:-1] >= starts[1:]).any():
        raise InputError(
            f"row {row} of the batch: component {name!r} starts at {starts.tolist()} and ends at "
            f"{ends.tolist()}; each start needs its end"
        )
    return list(zip(starts.tolist(), ends.tolist()))
