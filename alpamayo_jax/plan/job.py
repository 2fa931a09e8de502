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
from alpamayo_jax.presets import preset
from alpamayo_jax.settings import PrecisionSettings, StageSettings
from alpamayo_jax.sharding import AxisRules
from alpamayo_jax.tokens.images import smart_resize
from alpamayo_jax.train import partition
from alpamayo_jax.train.optimiser import Optimiser, make_optimiser
from alpamayo_jax.train.stages import (
    check_reached,
    check_stage,
    optimiser_config,
    stage_objective,
    stage_params,
    training_config,
)
from alpamayo_jax.types import ModelInputs, TrainBatch

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
      length: tokens of a conversation; 0: what the images and 192 tokens of text come to.
      cameras: per row.
      frames: per camera.
    """

    preset: str
    stage: StageSettings
    precision: PrecisionSettings = PrecisionSettings()
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
        """The preset in the job's number formats."""
        return training_config(preset(self.preset), self.precision)

    def batch(self, rows: int) -> TrainBatch:
        """Shapes of a batch of `rows` rows."""
        return abstract_batch(self.model(), rows, self.length, self.cameras, self.frames)


def abstract_batch(
    config: ModelConfig, rows: int, length: int = 0, cameras: int = 4, frames: int = 4
) -> TrainBatch:
    """Shapes of a batch of full-size recordings (1080 x 1920), `length` as in `Job`.

    Raises:
      ConfigError: the images alone are longer than `length`.
    """
    vision, prompt, waypoints = config.vision, config.prompt, config.action.n_waypoints
    side, images = vision.patch_size, cameras * frames
    factor = side * vision.spatial_merge_size
    height, width = smart_resize(*_RECORDED, factor, prompt.min_pixels, prompt.max_pixels)
    patches = (height // side) * (width // side)
    fixed = images * (patches // vision.merge_unit + 2)
    fixed += config.trajectory_tokens.tokens_per_history_traj + 2 * waypoints
    least = fixed + _TEXT_TOKENS
    length = length or -(-least // _LENGTH_STEP) * _LENGTH_STEP
    if length < fixed:
        raise ConfigError(
            f"length {length} is too short: images and trajectories alone take {fixed} tokens"
        )

    def shape(*sizes, dtype=jnp.float32):
        return jax.ShapeDtypeStruct((rows, *sizes), dtype)

    history = config.trajectory_tokens.num_history_steps
    return TrainBatch(
        inputs=ModelInputs(
            input_ids=shape(length, dtype=jnp.int32),
            attention_mask=shape(length, dtype=bool),
            position_ids=jax.ShapeDtypeStruct((3, rows, length), jnp.int32),
            rope_delta=shape(dtype=jnp.int32),
            image_index=shape(length, dtype=jnp.int32),
            pixel_values=shape(images, patches, vision.patch_dim),
            image_grid=shape(images, 2, dtype=jnp.int32),
            camera_index=shape(images, dtype=jnp.int32),
            frame_time=shape(images),
            ego_history_xyz=shape(history, 3),
            ego_history_rot=shape(history, 3, 3),
        ),
        labels_mask=shape(length, dtype=bool),
        ego_future_xyz=shape(waypoints, 3),
        ego_future_rot=shape(waypoints, 3, 3),
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
