"""Text, token ids, label spans and rotary positions against the recorded prompts."""

import dataclasses
import functools
import json
import re
from typing import Any, Mapping

import numpy as np

from alpamayo_jax.config import ModelConfig, PromptConfig
from alpamayo_jax.convert import read_config
from alpamayo_jax.presets import preset
from alpamayo_jax.testing.parity.base import Check, Reference, compare
from alpamayo_jax.testing.parity.processor import CHECKPOINT, flat_grid, observations
from alpamayo_jax.tokens import labels, prompt
from alpamayo_jax.tokens.images import smart_resize
from alpamayo_jax.tokens.positions import mrope_positions
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import Tokenizer
from alpamayo_jax.tokens.vocabulary import special, special_token_ids
from alpamayo_jax.types import Target

MODULE = "prompt"
STRUCTURE = "prompt_structure.json"
REQUIRES = ("processor.npz", "model.npz", "sft_loss.npz", STRUCTURE, CHECKPOINT)

# Recorded conversation -> what the assistant says or is asked for, and whether it is a whole
# conversation (else it ends where generation begins).
_CONVERSATIONS = {
    "sft": (("traj_future",), True),
    "sft_eval": (("traj_future",), False),
    "sft_cot": (("cot", "traj_future"), True),
    "rl_v1": (("cot", "traj_future"), False),
    "rl_v1_5": (("cot", "traj_future"), False),
}


def checks(reference: Reference) -> list[Check]:
    """Compares ids of tokens, the released prompt, conversations, labels and positions."""
    config, _ = read_config(reference.path(CHECKPOINT))
    tokenizer = Tokenizer.from_directory(reference.path(CHECKPOINT), config)
    structure = json.loads(reference.path(STRUCTURE).read_text(encoding="utf-8"))
    results = _token_ids(structure, tokenizer)
    results += _sizes(structure, config)
    results += _full_prompt(reference, structure, config, tokenizer)
    for name in _CONVERSATIONS:
        if f"conversation_{name}" in structure:
            results += _conversation(structure, name, config, tokenizer)
    results += _model_positions(reference, config)
    for name in ("traj", "cot"):
        results += _training_batch(reference, name, Processor(config, tokenizer))
    return results


def _same(quantity: str, got: Any, want: Any) -> Check:
    error = float(got != want)
    return Check(MODULE, quantity, error, 0.0, error)


def _token_ids(structure: Mapping[str, Any], tokenizer: Tokenizer) -> list[Check]:
    tiny = structure["special_token_ids_tiny"]
    release = preset("r1_10b")
    tokens = release.trajectory_tokens
    known = {special(name): i for name, i in special_token_ids(release).items()}
    known.update({
        "<i0>": tokens.traj_token_start_idx,
        "history_bins_start": tokens.history_start_idx,
        "vocab_size": release.language.vocab_size,
    })
    recorded = structure["release_ids_derived"] | structure["release_ids_third_party"]
    return [
        _same("special token ids, tiny", {t: tokenizer.token_id(t) for t in tiny}, tiny),
        _same("special token ids, release", {t: known.get(t) for t in recorded}, recorded),
        _same("vocabulary size, release", known["vocab_size"], structure["release_vocab_derived"]),
    ]


def _sizes(structure: Mapping[str, Any], config: ModelConfig) -> list[Check]:
    factor = config.vision.patch_size * config.vision.spatial_merge_size
    limits = PromptConfig()
    recorded = structure["smart_resize_release_limits"]
    got = {
        size: list(smart_resize(*map(int, size.split("x")), factor, limits.min_pixels,
                                limits.max_pixels))
        for size in recorded
    }
    return [_same("image sizes at the release's limits", got, recorded)]


def _full_prompt(
    reference: Reference, structure: Mapping[str, Any], config: ModelConfig, tokenizer: Tokenizer
) -> list[Check]:
    recorded = reference.arrays("processor.npz")
    want = structure["rendered_text_16_images"]
    grid = recorded["image_grid_thw"]
    text = prompt.drive_prompt([(1, len(grid))], config)
    tokens = grid.prod(-1) // config.vision.merge_unit
    ids = np.array([tokenizer.encode(_widen(text, tokens))])
    return [
        _same("full prompt text", text, want),
        compare(MODULE, "full prompt ids", ids, recorded["input_ids"], 0),
        compare(MODULE, "full prompt mask", np.ones_like(ids), recorded["attention_mask"], 0),
        _same("full prompt length", ids.shape[-1], structure["n_tokens"]),
    ]


def _widen(text: str, tokens: np.ndarray) -> str:
    """The text with as many placeholders for each image as it has tokens."""
    image = special("image_pad")
    counts = iter(tokens)
    return re.sub(re.escape(image), lambda _: image * int(next(counts)), text)


def _conversation(
    structure: Mapping[str, Any], name: str, config: ModelConfig, tokenizer: Tokenizer
) -> list[Check]:
    want = structure[f"conversation_{name}"]
    request, whole = _CONVERSATIONS[name]
    named = name.endswith("v1_5")
    config = dataclasses.replace(
        config,
        prompt=dataclasses.replace(
            config.prompt, include_camera_ids=named, include_frame_nums=named
        ),
    )
    # The text and the cameras are those of the recorded conversation; the rest is built here.
    image = special("image_pad")
    tokens = [
        len(run) // len(image)
        for run in re.findall(f"(?:{re.escape(image)})+", want)
    ]
    order = structure[f"camera_order_{name}"]
    cameras = [(index, len(tokens) // len(order)) for index in order]
    navigation = _between(want, "route") if special("route_end") in want else None
    build = prompt.drive_prompt
    if whole:
        texts = {"cot": _between(want, "cot")}
        build = functools.partial(prompt.drive_conversation, texts=texts)
    text = _widen(
        build(cameras, config, navigation=navigation, request=request), np.array(tokens)
    )
    ids = np.array([tokenizer.encode(text)])
    runs = labels.runs(labels.label_mask(ids, config)[0]) if whole else []
    return [
        _same(f"conversation {name} text", text, want),
        _same(f"conversation {name} length", ids.shape[-1], structure[f"len_{name}"]),
        _same(
            f"conversation {name} label runs", [list(r) for r in runs],
            structure[f"label_runs_{name}"],
        ),
    ]


def _between(text: str, name: str) -> str:
    """The text of component `name` of a whole conversation, spaces and all."""
    return text.partition(special(f"{name}_start"))[2].partition(special(f"{name}_end"))[0]


def _model_positions(reference: Reference, config: ModelConfig) -> list[Check]:
    recorded = reference.arrays("model.npz")
    results = []
    for prefix, ids, delta in (
        ("", "input_ids_raw", "mrope_deltas"), ("D:", "D:input_ids", "D:rope_deltas")
    ):
        rows = len(recorded[ids])
        positions, deltas = mrope_positions(
            recorded[ids],
            recorded[f"{prefix}attention_mask"].astype(bool),
            recorded[f"{prefix}image_grid_thw"].reshape(rows, -1, 3)[..., 1:],
            config,
        )
        # Recorded once per sample, which share a prompt.
        want = recorded[delta][:: len(recorded[delta]) // rows]
        label = prefix or "A:"
        results.append(compare(MODULE, f"rope delta, {label}", deltas[:, None], want, 0))
        if not prefix:
            want = recorded["mrope_position_ids"]
            results.append(compare(MODULE, f"rotary positions, {label}", positions, want, 0))
    return results


def _training_batch(reference: Reference, name: str, processor: Processor) -> list[Check]:
    recorded = reference.arrays("sft_loss.npz")
    ids, mask = recorded[f"{name}:input_ids"], recorded[f"{name}:attention_mask"]
    grid = recorded[f"{name}:image_grid_thw"].reshape(len(ids), -1, 3)
    xyz, rot = recorded[f"{name}:ego_future_xyz"][:, 0], recorded[f"{name}:ego_future_rot"][:, 0]
    texts = [processor.tokenizer.decode(row[keep > 0]) for row, keep in zip(ids, mask)]
    # Only sizes matter here, so black images that need no resizing stand in for the recorded ones.
    size = processor.config.vision.patch_size
    batch = processor.train_batch(
        observations(
            [np.zeros((len(g), 3, *(g[0, 1:] * size)), np.uint8) for g in grid],
            recorded[f"{name}:ego_history_xyz"],
            recorded[f"{name}:ego_history_rot"],
        ),
        [
            Target(xyz[row], rot[row], reasoning=_between(text, "cot"))
            for row, text in enumerate(texts)
        ],
        components=("cot", "traj_future") if name == "cot" else ("traj_future",),
    )
    inputs = batch.inputs
    # The first action token stands in the slot after the cached prefix.
    first = recorded[f"s2_{name}:expert_position_ids"][0, :, 0] - recorded[f"s2_{name}:kv_len"]
    return [
        compare(MODULE, f"training {name} ids", inputs.input_ids, ids, 0),
        compare(MODULE, f"training {name} mask", inputs.attention_mask, mask, 0),
        compare(
            MODULE, f"training {name} labels", batch.labels_mask,
            recorded[f"{name}:labels_mask"], 0,
        ),
        compare(
            MODULE, f"training {name} grid", flat_grid(inputs.image_grid),
            recorded[f"{name}:image_grid_thw"], 0,
        ),
        compare(MODULE, f"training {name} rope delta", inputs.rope_delta, first, 0),
    ]
