"""A policy of two layers and 348 token ids, and random inputs for it: programs compile in seconds.

For tests of programs. Preset `tiny` is the smallest configuration that is worth training.
"""

import dataclasses
import functools
from typing import Any, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.clip import EGO_FROM_FORWARD_CAMERA, Pinhole
from alpamayo_jax.config import (
    ActionProjConfig,
    ActionSpaceConfig,
    ExpertConfig,
    FlexConfig,
    FlowConfig,
    LanguageConfig,
    ModelConfig,
    PromptConfig,
    SceneConfig,
    TextTokenConfig,
    TrajectoryTokenConfig,
    TriplaneConfig,
    VisionConfig,
)
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.tokens.labels import label_mask
from alpamayo_jax.tokens.positions import mrope_positions
from alpamayo_jax.tokens.vocabulary import SPECIAL_NAMES, special_token_id
from alpamayo_jax.types import CameraFrames, ModelInputs, Observation, Target, TrainBatch

# `jax.jit` that compiles in half the time, for programs that run for milliseconds, and one that is
# as thorough as outside of tests, for programs that are compared to the bit.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
full_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 3})

Grids = Sequence[Sequence[tuple[int, int]]]

NUM_TEXT_IDS = 288
NUM_WORDS = 256  # below the base tokenizer's special tokens
GRIDS = (((4, 6), (2, 4)), ((4, 4),))


def tiny_config(**sections: Any) -> ModelConfig:
    """The configuration; keywords replace whole sections, as in `presets.preset`.

    Its ids are laid out as in preset `tiny`, so `tokens.tokenizer.tiny_tokenizer` fits it.
    """
    traj_vocab_size = 72
    config = ModelConfig(
        vision=VisionConfig(
            depth=2,
            hidden_size=16,
            num_heads=2,
            intermediate_size=24,
            out_hidden_size=32,
            patch_size=4,
            num_position_embeddings=16,
            deepstack_visual_indexes=(0,),
        ),
        language=LanguageConfig(
            vocab_size=NUM_TEXT_IDS + traj_vocab_size + len(SPECIAL_NAMES),
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            head_dim=16,
            intermediate_size=48,
            mrope_section=(4, 2, 2),
        ),
        expert=ExpertConfig(hidden_size=24, num_heads=2, intermediate_size=40),
        action_proj=ActionProjConfig(hidden_size=16, num_fourier_feats=8),
        flow=FlowConfig(num_inference_steps=3),
        action=ActionSpaceConfig(n_waypoints=8),
        trajectory_tokens=TrajectoryTokenConfig(
            traj_token_start_idx=NUM_TEXT_IDS,
            traj_vocab_size=traj_vocab_size,
            tokens_per_future_traj=16,
            num_future_bins=40,
            num_history_bins=32,
        ),
        text_tokens=TextTokenConfig(
            pad_token_id=281,
            eos_token_id=283,
            vision_start_token_id=284,
            vision_end_token_id=285,
            image_token_id=287,
        ),
        prompt=PromptConfig(min_pixels=64, max_pixels=384),
    )
    return dataclasses.replace(config, **sections)


_COMPRESSORS = {
    "triplane": TriplaneConfig(
        hidden_size=12,
        num_heads=2,
        intermediate_size=16,
        num_points=2,
        image_layers=1,
        cross_layers=1,
        token_mlp_size=16,
        grid=(8, 6, 4),
        patch=(2, 3, 2),
        half_plane=True,
        range_xy=40.0,
        inner_xy=20.0,
        inner_cells_xy=4,
        range_z=(-1.0, 7.0),
        inner_top_z=3.0,
        inner_cells_z=2,
        render_size=6,
        render_hidden_size=8,
        render_points=8,
    ),
    "flex": FlexConfig(
        depth=2,
        hidden_size=16,
        num_heads=2,
        intermediate_size=24,
        tokens_per_step=3,
        num_steps=2,
    ),
}


def compressed(config: ModelConfig, compressor: str, **sizes: Any) -> ModelConfig:
    """A `tiny_config` with another vision compressor, and changed fields of its section."""
    vision = dataclasses.replace(config.vision, compressor=compressor)
    scene = SceneConfig(image_size=(16, 24))
    if compressor in _COMPRESSORS:
        own = dataclasses.replace(_COMPRESSORS[compressor], **sizes)
        scene = dataclasses.replace(scene, **{compressor: own})
    return dataclasses.replace(config, vision=vision, scene=scene)


def random_params(config: ModelConfig, seed: int = 0, scale: float = 0.3) -> dict:
    """Parameters that make every part matter: larger than `init_params`', and no zero biases."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        noise = rng.standard_normal(leaf.shape) * scale
        if leaf.ndim >= 2 and path[-1].key == "kernel":
            noise /= np.sqrt(leaf.shape[-2] * scale**2) / 1.5
        around = 1.0 if path[-1].key == "scale" else 0.0
        return jnp.asarray(around + noise, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, param_shapes(config))


def random_inputs(
    config: ModelConfig,
    grids: Grids = GRIDS,
    *,
    num_text: Sequence[int] | int = 3,
    length: int | None = None,
    num_images: int | None = None,
    num_patches: int | None = None,
    seed: int = 0,
) -> ModelInputs:
    """Prompts of images, ego history and random words that end in `<|cot_start|>`.

    A row's own content depends on `seed` and its number alone, so the same row can be built with
    other companions and other padding.

    Args:
      config: model.
      grids: for each row, the (height, width) of its images in patches.
      num_text: words per row.
      length: T; the longest row by default. Shorter rows are padded on the left.
      num_images: I; the most images of a row by default, further ones are absent.
      num_patches: P; the largest image by default.
      seed: of everything.
    """
    counts = [num_text] * len(grids) if isinstance(num_text, int) else num_text
    rows = [_prompt(config, g, n, (seed, b)) for b, (g, n) in enumerate(zip(grids, counts))]
    return _batch(config, rows, grids, length, num_images, num_patches, seed)


def random_train_batch(
    config: ModelConfig,
    grids: Grids = GRIDS,
    *,
    num_text: Sequence[int] | int = 3,
    num_reasoning: Sequence[int] | int = 4,
    length: int | None = None,
    seed: int = 0,
) -> TrainBatch:
    """Whole conversations: a prompt, reasoning of random words, the future, the end of the turn.

    The drives are arcs of random speed, acceleration and curvature. Arguments as in
    `random_inputs`; `num_reasoning` counts words of reasoning per row.
    """
    text, thoughts = (
        [n] * len(grids) if isinstance(n, int) else n for n in (num_text, num_reasoning)
    )
    rows = []
    for b, own in enumerate(grids):
        rng = np.random.default_rng((seed, b, 1))
        rows.append(
            _prompt(config, own, text[b], (seed, b))
            + rng.integers(0, NUM_WORDS, thoughts[b]).tolist()
            + _special(config, "cot_end", "traj_future_start")
            + _special(config, "traj_future") * config.trajectory_tokens.tokens_per_future_traj
            + _special(config, "traj_future_end", "im_end")
        )
    inputs = _batch(config, rows, grids, length, None, None, seed)
    _, future = zip(*(_drive(config, (seed, b)) for b in range(len(grids))))
    return TrainBatch(
        inputs=inputs,
        labels_mask=jnp.asarray(label_mask(np.asarray(inputs.input_ids), config)),
        ego_future_xyz=jnp.asarray(np.stack([xyz for xyz, _ in future])),
        ego_future_rot=jnp.asarray(np.stack([rot for _, rot in future])),
    )


def random_observation(config: ModelConfig, seed: int = 0, **fields: Any) -> Observation:
    """Two cameras of two small noise frames, and a smooth drive; keywords set other fields."""
    rng = np.random.default_rng((seed, 4))
    xyz, rot = _drive(config, (seed, 0))[0]
    cameras = tuple(
        CameraFrames(
            index,
            rng.integers(0, 256, (2, 16, 24, 3), np.uint8),
            np.array([-0.1, 0.0]),
            Pinhole(12.0, 12.0, 11.5, 7.5),
            EGO_FROM_FORWARD_CAMERA,
        )
        for index in (0, 1)
    )
    return Observation(cameras=cameras, ego_history_xyz=xyz, ego_history_rot=rot, **fields)


def random_target(config: ModelConfig, seed: int = 0, **fields: Any) -> Target:
    """How the drive of `random_observation` with the same seed goes on."""
    xyz, rot = _drive(config, (seed, 0))[1]
    return Target(ego_future_xyz=xyz, ego_future_rot=rot, **fields)


def continued(inputs: ModelInputs, new_ids: Any) -> ModelInputs:
    """Prompts with further text tokens after them, for a pass over everything at once.

    Args:
      inputs: B prompts.
      new_ids: int [B, K, N].

    Returns:
      B x K rows, the K of one prompt together, of T + N tokens.
    """
    batch, samples, size = new_ids.shape
    rows = jax.tree.map(lambda a: jnp.repeat(a, samples, axis=0), inputs.replace(position_ids=None))
    more = jnp.asarray(new_ids, jnp.int32).reshape(batch * samples, size)
    length = inputs.input_ids.shape[1]
    at = length + rows.rope_delta[:, None] + jnp.arange(size)
    before = jnp.repeat(inputs.position_ids, samples, axis=1)
    return rows.replace(
        input_ids=jnp.concatenate([rows.input_ids, more], -1),
        attention_mask=jnp.pad(rows.attention_mask, ((0, 0), (0, size)), constant_values=True),
        position_ids=jnp.concatenate([before, jnp.broadcast_to(at, (3, *at.shape))], -1),
        image_index=jnp.pad(rows.image_index, ((0, 0), (0, size)), constant_values=-1),
    )


def _special(config: ModelConfig, *names: str) -> list[int]:
    return [special_token_id(config, name) for name in names]


def _prompt(config: ModelConfig, grids, num_text: int, seed: tuple) -> list[int]:
    rng = np.random.default_rng((*seed, 0))
    ids = rng.integers(0, NUM_WORDS, num_text).tolist()
    for height, width in grids:
        tokens = height * width // config.vision.merge_unit
        ids += _special(config, "vision_start")
        ids += _special(config, "image_pad") * tokens + _special(config, "vision_end")
    ids += _special(config, "traj_history_start")
    ids += _special(config, "traj_history") * config.trajectory_tokens.tokens_per_history_traj
    return ids + _special(config, "traj_history_end", "cot_start")


def _batch(config, rows, grids, length, num_images, num_patches, seed) -> ModelInputs:
    unit, batch = config.vision.merge_unit, len(rows)
    length = length or max(map(len, rows))
    num_images = num_images or max(1, *map(len, grids))
    num_patches = num_patches or max([unit, *(h * w for own in grids for h, w in own)])
    ids = np.full((batch, length), config.text_tokens.pad_token_id, np.int32)
    mask = np.zeros((batch, length), bool)
    index = np.full((batch, length), -1, np.int32)
    pixels = np.zeros((batch, num_images, num_patches, config.vision.patch_dim), np.float32)
    grid = np.zeros((batch, num_images, 2), np.int32)
    camera = np.full((batch, num_images), -1, np.int32)
    for b, (row, own) in enumerate(zip(rows, grids)):
        ids[b, length - len(row) :], mask[b, length - len(row) :] = row, True
        slots = []
        for i, (height, width) in enumerate(own):
            size, rng = height * width, np.random.default_rng((seed, b, 2, i))
            pixels[b, i, :size] = rng.uniform(-1, 1, (size, config.vision.patch_dim))
            grid[b, i], camera[b, i] = (height, width), i
            slots.append(i * (num_patches // unit) + np.arange(size // unit))
        is_image = ids[b] == config.text_tokens.image_token_id
        index[b, is_image] = np.concatenate([*slots, np.empty(0, np.int32)])
    positions, delta = mrope_positions(ids, mask, grid, config)
    history = [_drive(config, (seed, b))[0] for b in range(batch)]
    return ModelInputs(
        input_ids=jnp.asarray(ids),
        attention_mask=jnp.asarray(mask),
        position_ids=jnp.asarray(positions),
        rope_delta=jnp.asarray(delta),
        image_index=jnp.asarray(index),
        pixel_values=jnp.asarray(pixels),
        image_grid=jnp.asarray(grid),
        camera_index=jnp.asarray(camera),
        frame_time=jnp.zeros((batch, num_images), jnp.float32),
        ego_history_xyz=jnp.asarray(np.stack([xyz for xyz, _ in history])),
        ego_history_rot=jnp.asarray(np.stack([rot for _, rot in history])),
    )


def _drive(config: ModelConfig, seed: tuple) -> tuple[tuple, tuple]:
    """(xyz, rot) of the history that ends at the origin, and of the future after it."""
    rng = np.random.default_rng((*seed, 3))
    past = config.trajectory_tokens.num_history_steps
    t = config.action.dt * np.arange(1 - past, config.action.n_waypoints + 1)
    speed, accel, kappa = rng.uniform(3, 12), rng.uniform(-1, 1), rng.uniform(-0.05, 0.05)
    s = speed * t + 0.5 * accel * t**2
    yaw = kappa * s
    xyz = np.stack([np.sin(yaw) / kappa, (1 - np.cos(yaw)) / kappa, 0 * s], -1)
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)
    c, s = np.cos(yaw), np.sin(yaw)
    rot = np.stack([c, -s, zero, s, c, zero, zero, zero, one], -1).reshape(-1, 3, 3)
    xyz, rot = xyz.astype(np.float32), rot.astype(np.float32)
    return (xyz[:past], rot[:past]), (xyz[past:], rot[past:])
