"""Joins training batches that were made one by one."""

from typing import Sequence

import chex
import jax
import numpy as np

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.ops.lens import absent_lens
from alpamayo_jax.types import InputError, ModelInputs, TrainBatch

# Values of the padding.
_TOKENS = {"attention_mask": False, "position_ids": 1, "image_index": -1}
_IMAGES = {"pixel_values": 0.0, "image_grid": 0, "camera_index": -1, "frame_time": 0.0}
# What compressors read beside; absent images have the padding of `tokens.views`.
_VIEWS = {"lenses": absent_lens(), "ego_from_camera": np.eye(4, dtype=np.float32)}


def concatenate(batches: Sequence[TrainBatch], config: ModelConfig) -> TrainBatch:
    """Rows of several batches as one, equal to what the processor makes of all rows at once.

    Shorter rows are padded on the left, absent images and patches are zeros at the end.

    Args:
      batches: host batches, B_i rows of T_i tokens and I_i images of P_i patches.
      config: gives the pad token and how many patches make one image token.

    Returns:
      The batch of sum B_i rows, max T_i tokens, max I_i images, max P_i patches.
    """
    inputs = [batch.inputs for batch in batches]
    for one in inputs:
        chex.assert_rank([one.input_ids, one.position_ids, one.pixel_values], [2, 3, 4])
    length = max(one.input_ids.shape[1] for one in inputs)
    images = max(one.pixel_values.shape[1] for one in inputs)
    patches = max(one.pixel_values.shape[2] for one in inputs)
    rows = [_padded(batch, length, images, patches, config) for batch in batches]
    if inputs[0].step_images is not None:
        steps, slots = (max(one.step_images.shape[axis] for one in inputs) for axis in (1, 2))
        rows = [_more_steps(row, steps, slots) for row in rows]
    # `position_ids` is the one array whose batch axis is not the first.
    positions = np.concatenate([row.inputs.position_ids for row in rows], 1)
    rest = [row.replace(inputs=row.inputs.replace(position_ids=None)) for row in rows]
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves, 0), *rest)
    return joined.replace(inputs=joined.inputs.replace(position_ids=positions))


def lengthen(batch: TrainBatch, length: int, config: ModelConfig) -> TrainBatch:
    """The batch padded on the left to `length` tokens, which is at least what it has."""
    pixels = batch.inputs.pixel_values
    return _padded(batch, length, pixels.shape[1], pixels.shape[2], config)


def truncate_after(batch: TrainBatch, token_id: int) -> TrainBatch:
    """The batch up to the last token `token_id` of its rows, as when that had just been written.

    Rows are padded on the left and end alike, so the token stands in the same column in all of them.
    Columns keep their numbers, so `rope_delta` still holds.

    Args:
      batch: host batch with T tokens.
      token_id: present in every row.

    Raises:
      InputError: a row lacks the token, or it stands elsewhere than in the first row.
    """
    found = np.asarray(batch.inputs.input_ids) == token_id
    last = found.shape[1] - 1 - np.argmax(found[:, ::-1], axis=1)
    if not found.any(1).all() or (last != last[0]).any():
        raise InputError(
            f"rows of a batch must have token {token_id} in one column to be cut there, got "
            f"{[int(c) if row.any() else None for c, row in zip(last, found)]}"
        )
    stop, inputs = int(last[0]) + 1, batch.inputs
    return batch.replace(
        inputs=inputs.replace(
            input_ids=inputs.input_ids[:, :stop],
            attention_mask=inputs.attention_mask[:, :stop],
            position_ids=inputs.position_ids[:, :, :stop],
            image_index=inputs.image_index[:, :stop],
            prefix=None if inputs.prefix is None else inputs.prefix[:, :stop],
        ),
        labels_mask=batch.labels_mask[:, :stop],
    )


def _padded(
    batch: TrainBatch, length: int, images: int, patches: int, config: ModelConfig
) -> TrainBatch:
    inputs: ModelInputs = batch.inputs
    shift = length - inputs.input_ids.shape[1]
    unit = config.vision.merge_unit
    old, new = inputs.pixel_values.shape[2] // unit, patches // unit
    if config.tokens_per_step is None:
        # Every image takes as many scene tokens as the widest, so a wider one moves those behind.
        index = inputs.image_index
        moved = np.where(index < 0, index, index // old * new + index % old).astype(index.dtype)
        inputs = inputs.replace(image_index=moved)
    fields = {
        name: _pad(getattr(inputs, name), -1, (shift, 0), value)
        for name, value in {"input_ids": config.text_tokens.pad_token_id, **_TOKENS}.items()
    }
    for name, value in _IMAGES.items():
        array = getattr(inputs, name)
        fields[name] = _pad(array, 1, (0, images - array.shape[1]), value)
    pixels = fields["pixel_values"]
    fields["pixel_values"] = _pad(pixels, 2, (0, patches - pixels.shape[2]), 0.0)
    for name, value in _VIEWS.items():
        array = getattr(inputs, name)
        if array is not None:
            missing = (len(array), images - array.shape[1], *value.shape)
            more = np.broadcast_to(value, missing).astype(array.dtype)
            fields[name] = np.concatenate([array, more], 1)
    if inputs.prefix is not None:
        fields["prefix"] = _pad(inputs.prefix, -1, (shift, 0), 0)
    # The cache slots of all later tokens move, their positions stay.
    fields["rope_delta"] = inputs.rope_delta - np.int32(shift)
    return batch.replace(
        inputs=inputs.replace(**fields), labels_mask=_pad(batch.labels_mask, -1, (shift, 0), False)
    )


def _more_steps(batch: TrainBatch, steps: int, slots: int) -> TrainBatch:
    own = batch.inputs.step_images
    own = _pad(_pad(own, 1, (0, steps - own.shape[1]), -1), 2, (0, slots - own.shape[2]), -1)
    return batch.replace(inputs=batch.inputs.replace(step_images=own))


def _pad(array: np.ndarray, axis: int, width: tuple[int, int], value: float) -> np.ndarray:
    if not any(width):
        return array
    widths = [(0, 0)] * array.ndim
    widths[axis] = width
    return np.pad(array, widths, constant_values=value)
