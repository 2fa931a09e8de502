"""Interleaved prediction of Flex: every prefix of the time steps is supervised in one sequence.

A row is the head of the conversation (system text and the scene tokens of all steps) and then, for
every k, the rest of the conversation that an observation of the first k steps has, with the history
and the future of that moment. The k-th rest sees the first k steps and itself
(`ops.masks.prefix_mask_of_conversations`), so a row teaches as much as all of them.
"""

from typing import Callable, Sequence

import jax
import numpy as np

from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.types import EarlierPoses, InputError, TrainBatch


def interleave(
    parts: Sequence[TrainBatch],
    config: ModelConfig,
    choose_length: Callable[[list[int]], int] = max,
) -> TrainBatch:
    """Joins the conversations about all prefixes of an observation.

    Args:
      parts: batch k of B rows is about the first k + 1 steps, as the processor makes it: with the
        history and the future at the time of its newest frame.
      config: model, whose Flex encoder attends by prefixes.
      choose_length: from how many tokens the rows have to how many the batch has, at least the most
        of them.

    Returns:
      A batch of B rows with `inputs.prefix` and `earlier`; its images, poses and future are those of
      the last part.

    Raises:
      ConfigError: the model is no Flex with `prefix`.
      InputError: the heads differ, or a part has not one step more than the one before.
    """
    if config.vision.compressor != "flex" or not config.scene.flex.prefix:
        raise ConfigError(
            "interleaved prediction needs vision.compressor 'flex' with scene.flex.prefix: under full "
            "attention early scene tokens would have seen later frames"
        )
    parts = [jax.tree.map(np.asarray, part) for part in parts]
    last = parts[-1]
    rows = [
        _row([_unpadded(part, b) for part in parts], config, b)
        for b in range(len(last.labels_mask))
    ]
    length = choose_length([len(row["input_ids"]) for row in rows])
    pad = dict(input_ids=config.text_tokens.pad_token_id, attention_mask=False, position_ids=1,
               image_index=-1, labels_mask=False, prefix=0)  # fmt: skip
    fields = {
        name: np.stack([_padded(row[name], length, value) for row in rows])
        for name, value in pad.items()
    }
    labels, positions = fields.pop("labels_mask"), fields.pop("position_ids")
    inputs = last.inputs.replace(
        **fields,
        position_ids=np.moveaxis(positions, 1, 0),
        # The last part still stands at the end, but its columns have other numbers.
        rope_delta=last.inputs.rope_delta - np.int32(length - last.labels_mask.shape[1]),
    )
    return last.replace(inputs=inputs, labels_mask=labels, earlier=_earlier(parts[:-1]))


def _earlier(parts: Sequence[TrainBatch]) -> EarlierPoses | None:
    if not parts:
        return None
    stack = lambda arrays: np.stack(list(arrays), 1)  # noqa: E731
    return EarlierPoses(
        history_xyz=stack(part.inputs.ego_history_xyz for part in parts),
        history_rot=stack(part.inputs.ego_history_rot for part in parts),
        future_xyz=stack(part.ego_future_xyz for part in parts),
        future_rot=stack(part.ego_future_rot for part in parts),
    )


def _unpadded(part: TrainBatch, b: int) -> dict[str, np.ndarray]:
    real, inputs = part.inputs.attention_mask[b], part.inputs
    return {
        "input_ids": inputs.input_ids[b, real],
        "attention_mask": real[real],
        "position_ids": inputs.position_ids[:, b, real],
        "image_index": inputs.image_index[b, real],
        "labels_mask": part.labels_mask[b, real],
    }


def _row(parts: list[dict[str, np.ndarray]], config: ModelConfig, b: int) -> dict[str, np.ndarray]:
    tokens, per_step = config.text_tokens, config.tokens_per_step
    # The head ends with the end token of the last step's scene tokens.
    heads = [np.flatnonzero(p["image_index"] >= 0)[-1] + 2 for p in parts]
    last, head = parts[-1], heads[-1]
    for k, (part, own) in enumerate(zip(parts, heads), 1):
        count = int((part["image_index"] >= 0).sum())
        same = np.array_equal(part["input_ids"][:own], last["input_ids"][:own])
        if count != k * per_step or not same:
            raise InputError(
                f"row {b}: part {k} of an interleaved conversation has {count} scene tokens, not "
                f"{k} steps of {per_step}, or another head than the last part"
            )
    starts = np.cumsum(last["input_ids"][:head] == tokens.vision_start_token_id)
    joined = {
        name: np.concatenate(
            [last[name][..., :head], *(p[name][..., own:] for p, own in zip(parts, heads))], -1
        )
        for name in last
    }
    sizes = [len(part["input_ids"]) - own for part, own in zip(parts, heads)]
    tails = [np.full(size, -k) for k, size in enumerate(sizes, 1)]
    joined["prefix"] = np.concatenate([starts, *tails]).astype(np.int32)
    return joined


def _padded(array: np.ndarray, length: int, value) -> np.ndarray:
    widths = [(0, 0)] * (array.ndim - 1) + [(length - array.shape[-1], 0)]
    return np.pad(array, widths, constant_values=value)
