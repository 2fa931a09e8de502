"""A train step that somebody wants to run: its model, its batch, and what its backward pass keeps.

All from shapes; no parameter is made.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from alpamayo_jax import convert
from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.plan.machine import Machine
from alpamayo_jax.ops.image_size import image_tokens
from alpamayo_jax.ops.lens import LENS_SIZE
from alpamayo_jax.presets import preset, with_compressor
from alpamayo_jax.settings import PrecisionSettings, StageSettings, VisionSettings
from alpamayo_jax.sharding import AxisRules
from alpamayo_jax.train import partition
from alpamayo_jax.train.optimiser import Optimiser, make_optimiser
from alpamayo_jax.train.stages import (
    check_reached,
    check_stage,
    interleaves,
    optimiser_config,
    stage_objective,
    stage_params,
    training_config,
)
from alpamayo_jax.types import EarlierPoses, ModelInputs, TrainBatch

# Conversation without images and trajectory: instructions, reasoning, special tokens.
_TEXT_TOKENS = 192
_LENGTH_STEP = 128
_RECORDED = 1080, 1920  # height and width


@dataclasses.dataclass(frozen=True)
class Job:
    """A train step to plan.

    Attributes:
      preset: model, see `presets`.
      stage: what is trained, on how many rows.
      precision: number formats.
      vision: how image tokens are compressed.
      length: tokens of a conversation; 0: what the images and 192 tokens of text come to.
      cameras: per row.
      frames: per camera.
    """

    preset: str
    stage: StageSettings
    precision: PrecisionSettings = PrecisionSettings()
    vision: VisionSettings = VisionSettings()
    length: int = 0
    cameras: int = 4
    frames: int = 4

    def __post_init__(self):
        if min(self.cameras, self.frames) < 1 or self.length < 0:
            raise ConfigError(
                f"a row of {self.cameras} cameras, {self.frames} frames and {self.length} tokens "
                f"is none"
            )
        check_stage("stage", self.stage, self.model())

    def model(self) -> ModelConfig:
        """The preset with the job's compressor, in its number formats."""
        model = with_compressor(preset(self.preset), self.vision.compressor, self.vision.size)
        return training_config(model, self.precision)

    def batch(self, rows: int) -> TrainBatch:
        """Shapes of a batch of `rows` rows."""
        model = self.model()
        shape = self.length, self.cameras, self.frames
        return abstract_batch(model, rows, *shape, interleaved=interleaves(self.stage, model))


def abstract_batch(
    config: ModelConfig,
    rows: int,
    length: int = 0,
    cameras: int = 4,
    frames: int = 4,
    interleaved: bool = False,
) -> TrainBatch:
    """Shapes of a batch of full-size recordings (1080 x 1920).

    Args:
      config: model.
      rows: of the batch.
      length, cameras, frames: as in `Job`.
      interleaved: rows are those of `tokens.interleaved`, a conversation per frame.

    Raises:
      ConfigError: the images alone are longer than `length`, or Flex has tokens for fewer frames.
    """
    vision, waypoints = config.vision, config.action.n_waypoints
    images, per_image = cameras * frames, image_tokens(_RECORDED, vision, config.prompt)
    # An image, or a compressed time step, stands between two tokens of its own.
    blocks, per_block = images, per_image
    if config.tokens_per_step is not None:
        blocks, per_block = frames, config.tokens_per_step
    if vision.compressor == "flex" and frames > config.scene.flex.num_steps:
        raise ConfigError(
            f"{frames} frames per camera are more than the {config.scene.flex.num_steps} time steps "
            f"that Flex has tokens for"
        )
    talks = frames if interleaved else 1
    fixed = blocks * (per_block + 2)
    fixed += talks * (config.trajectory_tokens.tokens_per_history_traj + 2 * waypoints)
    least = fixed + talks * _TEXT_TOKENS
    length = length or -(-least // _LENGTH_STEP) * _LENGTH_STEP
    if length < fixed:
        raise ConfigError(
            f"length {length} is too short: images and trajectories alone take {fixed} tokens"
        )

    def shape(*sizes, dtype=jnp.float32):
        return jax.ShapeDtypeStruct((rows, *sizes), dtype)

    views = {}
    if config.tokens_per_step is not None:
        views["step_images"] = shape(frames, cameras, dtype=jnp.int32)
    if vision.compressor == "triplane":
        views |= {"lenses": shape(images, LENS_SIZE), "ego_from_camera": shape(images, 4, 4)}
    history, earlier = config.trajectory_tokens.num_history_steps, None
    if interleaved:
        views["prefix"] = shape(length, dtype=jnp.int32)
    if talks > 1:
        earlier = EarlierPoses(
            history_xyz=shape(talks - 1, history, 3),
            history_rot=shape(talks - 1, history, 3, 3),
            future_xyz=shape(talks - 1, waypoints, 3),
            future_rot=shape(talks - 1, waypoints, 3, 3),
        )
    return TrainBatch(
        inputs=ModelInputs(
            input_ids=shape(length, dtype=jnp.int32),
            attention_mask=shape(length, dtype=bool),
            position_ids=jax.ShapeDtypeStruct((3, rows, length), jnp.int32),
            rope_delta=shape(dtype=jnp.int32),
            image_index=shape(length, dtype=jnp.int32),
            pixel_values=shape(images, per_image * vision.merge_unit, vision.patch_dim),
            image_grid=shape(images, 2, dtype=jnp.int32),
            camera_index=shape(images, dtype=jnp.int32),
            frame_time=shape(images),
            ego_history_xyz=shape(history, 3),
            ego_history_rot=shape(history, 3, 3),
            **views,
        ),
        labels_mask=shape(length, dtype=bool),
        ego_future_xyz=shape(waypoints, 3),
        ego_future_rot=shape(waypoints, 3, 3),
        earlier=earlier,
    )


def trained_parts(job: Job) -> tuple[dict, Optimiser]:
    """Shapes of the parameters, with adapters if the stage has some, and their optimiser.

    Raises:
      ConfigError: the loss reaches nothing that trains.
    """
    prepare = functools.partial(stage_params, "stage", job.stage, job.precision)
    params = jax.eval_shape(prepare, convert.param_shapes(job.model()), key_shape())
    optimiser = make_optimiser(optimiser_config("stage", job.stage), params)
    check_reached("stage", job.stage, optimiser.factors)
    return params, optimiser


def kept_bytes(job: Job, machine: Machine, rules: AxisRules = AxisRules()) -> int:
    """Bytes that the forward pass of one device's rows keeps for the backward pass.

    Counted in the types of the model, before any compiler; heads and widths that the tensor axis
    splits are counted whole.

    Args:
      job: what to train.
      machine: its mesh decides how many rows and positions a device has.
      rules: logical axis -> mesh axes.
    """
    params, optimiser = trained_parts(job)
    parts = math.prod(machine.sizes[axis] for axis in rules.batch) * job.stage.accumulate
    batch = job.batch(max(job.stage.batch_size // parts, 1))
    trainable, frozen = partition.split(params, optimiser.factors)
    objective = stage_objective(job.stage, job.model(), remat=job.stage.remat)

    def kept(trainable, frozen, batch, rng):
        def loss(trainable):
            return objective(partition.merge(trainable, frozen), batch, rng)[0]

        return jax.tree.leaves(jax.vjp(loss, trainable)[1])

    program = jax.make_jaxpr(kept)(trainable, frozen, batch, key_shape()).jaxpr
    arguments = {id(v) for v in (*program.invars, *program.constvars)}
    saved = {id(v): v.aval for v in program.outvars if id(v) not in arguments}
    size = sum(aval.size * aval.dtype.itemsize for aval in saved.values())
    return size // math.prod(machine.sizes[axis] for axis in rules.length)


def key_shape() -> jax.ShapeDtypeStruct:
    """Shape of a random key."""
    return jax.eval_shape(lambda: jax.random.key(0))
