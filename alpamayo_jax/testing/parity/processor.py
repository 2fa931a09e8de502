"""Images to pixel values and observations to model inputs, against the recorded processor."""

import numpy as np

from alpamayo_jax.config import ModelConfig, PromptConfig
from alpamayo_jax.convert import read_config
from alpamayo_jax.testing.parity.base import Check, Reference, compare
from alpamayo_jax.tokens.images import image_patches
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import Tokenizer
from alpamayo_jax.types import CameraFrames, Observation

MODULE = "processor"
CHECKPOINT = "tiny_checkpoint"
REQUIRES = (
    "processor.npz",
    "processor_A.npz",
    "processor_B.npz",
    "processor_C.npz",
    "model.npz",
    CHECKPOINT,
)
UINT8_LEVEL = 1e-2  # one level of 255, after normalisation to [-1, 1]


def checks(reference: Reference) -> list[Check]:
    """Compares single images on both resize paths, mixed sizes, and the model's own inputs."""
    config, _ = read_config(reference.path(CHECKPOINT))
    results = []
    for name in "ABC":
        results += _single_image(reference, name, config)
    results += _mixed(reference, config)
    results += _model_inputs(reference, config)
    return results


def observations(
    frames: list[np.ndarray], xyz: np.ndarray, rot: np.ndarray
) -> list[Observation]:
    """Observations from recorded frames [I, 3, H, W] per row and histories [B, 1, S, ...].

    Release 1 does not tell cameras from frames, so all frames are given to one camera.
    """
    return [
        Observation(
            cameras=(CameraFrames(1, images.transpose(0, 2, 3, 1), np.zeros(len(images))),),
            ego_history_xyz=xyz[row, 0],
            ego_history_rot=rot[row, 0],
            clip_id=f"recorded row {row}",
        )
        for row, images in enumerate(frames)
    ]


def flat_patches(pixel_values: np.ndarray, image_grid: np.ndarray) -> np.ndarray:
    """Patches [N, patch_dim] of all present images of a batch, without padding."""
    counts = image_grid.prod(-1)
    return np.concatenate([
        pixel_values[b, i, : counts[b, i]] for b, i in zip(*np.nonzero(counts))
    ])


def flat_grid(image_grid: np.ndarray) -> np.ndarray:
    """Grids [N, 3] (time, height, width) of all present images of a batch."""
    present = image_grid[image_grid.prod(-1) > 0]
    return np.concatenate([np.ones((len(present), 1), present.dtype), present], axis=1)


def _release_patches(image: np.ndarray, config: ModelConfig, float_resize: bool):
    # The single images were recorded with the release's own pixel limits.
    limits = PromptConfig(float_resize=float_resize)
    return image_patches(image.transpose(1, 2, 0), config.vision, limits)


def _single_image(reference: Reference, name: str, config: ModelConfig) -> list[Check]:
    recorded = reference.arrays(f"processor_{name}.npz")
    fixed, grid = _release_patches(recorded["image"], config, float_resize=False)
    floating, _ = _release_patches(recorded["image"], config, float_resize=True)
    # Image C already has the final size: nothing is resized, so nothing may differ.
    tolerance = 0.0 if name == "C" else UINT8_LEVEL
    return [
        compare(MODULE, f"image {name} grid", [(1, *grid)], recorded["image_grid_thw"], 0),
        compare(
            MODULE,
            f"image {name} pixels, uint8 path",
            fixed,
            recorded["pixel_values_uint8path"],
            tolerance,
        ),
        compare(
            MODULE,
            f"image {name} pixels, float path",
            floating[::9],
            recorded["pixel_values_floatpath_every9"],
            tolerance,
        ),
    ]


def _mixed(reference: Reference, config: ModelConfig) -> list[Check]:
    recorded = reference.arrays("processor.npz")
    images = [reference.arrays(f"processor_{name}.npz")["image"] for name in "BCB"]
    parts = [_release_patches(image, config, float_resize=False) for image in images]
    sums = np.concatenate([patches.sum(-1, dtype=np.float64) for patches, _ in parts])
    grids = [(1, *grid) for _, grid in parts]
    return [
        compare(MODULE, "mixed sizes grid", grids, recorded["mixed_grid_thw"], 0),
        compare(
            MODULE, "mixed sizes sum per patch", sums, recorded["mixed_rowsum"], UINT8_LEVEL,
            relative=True,
        ),
    ]


def _model_inputs(reference: Reference, config: ModelConfig) -> list[Check]:
    recorded = reference.arrays("model.npz")
    processor = Processor(config, Tokenizer.from_directory(reference.path(CHECKPOINT), config))
    results = []
    for prefix, ids, frames in (
        ("", "input_ids_raw", ["frames"]),
        ("D:", "D:input_ids", ["frames", "frames2"]),
    ):
        got = processor.inputs(
            observations(
                [recorded[name] for name in frames],
                recorded[f"{prefix}ego_history_xyz"],
                recorded[f"{prefix}ego_history_rot"],
            )
        )
        for quantity, value, want, tolerance in (
            ("input ids", got.input_ids, recorded[ids], 0),
            ("mask", got.attention_mask, recorded[f"{prefix}attention_mask"], 0),
            ("grid", flat_grid(got.image_grid), recorded[f"{prefix}image_grid_thw"], 0),
            (
                "pixels",
                flat_patches(got.pixel_values, got.image_grid),
                recorded[f"{prefix}pixel_values"],
                UINT8_LEVEL,
            ),
        ):
            label = f"model prompt {prefix or 'A:'} {quantity}"
            results.append(compare(MODULE, label, value, want, tolerance))
    return results
