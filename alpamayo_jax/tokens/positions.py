"""Multimodal rotary position ids of a prompt, computed on the host (released model, Qwen3-VL)."""

import chex
import numpy as np

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.types import InputError

PAD_POSITION = 1  # what the reference gives to padding; nothing attends to it


def mrope_positions(
    input_ids: np.ndarray,
    attention_mask: np.ndarray,
    image_grid: np.ndarray,
    config: ModelConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Position of every token on the time, height and width axes.

    Text counts up on all three axes alike. The tokens of an image that starts at position s stand
    at (s, s + row, s + column) of its merged grid, and what follows goes on after the largest.

    Args:
      input_ids: int [B, T].
      attention_mask: bool [B, T], False on padding.
      image_grid: int [B, I, 2], patches in height and width in the order of the prompt; (0, 0) for
        an absent image.
      config: ids and merge size.

    Returns:
      position_ids int32 [3, B, T], and rope_delta int32 [B] with which a later token in slot p of
      the cache has position p + rope_delta.

    Raises:
      InputError: the image tokens of a row do not match its grids.
    """
    chex.assert_rank([input_ids, attention_mask, image_grid], [2, 2, 3])
    chex.assert_equal_shape([input_ids, attention_mask])
    chex.assert_shape(image_grid, (len(input_ids), None, 2))
    batch, length = input_ids.shape
    positions = np.full((3, batch, length), PAD_POSITION, np.int32)
    deltas = np.zeros(batch, np.int32)
    for row in range(batch):
        present = np.flatnonzero(attention_mask[row])
        is_image = input_ids[row, present] == config.text_tokens.image_token_id
        merged = image_grid[row] // config.vision.spatial_merge_size
        values = _row_positions(is_image, merged[merged.prod(-1) > 0], row)
        positions[:, row, present] = values
        deltas[row] = values.max(initial=-1) + 1 - length
    return positions, deltas


def _row_positions(is_image: np.ndarray, grids: np.ndarray, row: int) -> np.ndarray:
    """Positions [3, N] of the N unpadded tokens of one row."""
    where = np.flatnonzero(is_image)
    counts = grids.prod(-1)
    if counts.sum() != len(where):
        raise InputError(
            f"row {row} of the batch has {len(where)} image tokens, but its {len(grids)} image "
            f"grid(s) have {counts.sum()}"
        )
    # A text token advances by one; an image as a whole advances by its longer side.
    steps = np.ones(len(is_image), np.int64)
    steps[where] = 0
    ends = np.cumsum(counts)
    for index, (count, end) in enumerate(zip(counts, ends)):
        span = where[end - count : end]
        if span[-1] - span[0] != count - 1:
            raise InputError(
                f"row {row} of the batch: the tokens of image {index} are not together"
            )
        steps[span[-1]] = grids[index].max()
    start = np.concatenate([[0], np.cumsum(steps)])[:-1]
    positions = np.tile(start, (3, 1))
    for (height, width), count, end in zip(grids, counts, ends):
        span = where[end - count : end]
        positions[:, span] = start[span[0]]
        rows, columns = np.divmod(np.arange(count), width)
        positions[1, span] += rows
        positions[2, span] += columns
    return positions
