"""Whether a training job fits its machines, found without them.

The train step is compiled ahead of time for a mesh of virtual devices from shapes alone: no
parameter is ever made. The partitioner that runs is the one that will run on the cluster, so the
collectives and the sizes of what each device holds are its own.
"""

import dataclasses
import math
import time
from typing import Any

import jax
import jax.numpy as jnp

from alpamayo_jax import convert
from alpamayo_jax.collectives import by_kind, collectives, largest
from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.machine import Machine
from alpamayo_jax.presets import preset
from alpamayo_jax.settings import PrecisionSettings, StageSettings
from alpamayo_jax.sharding import AxisRules, Layout, batch_shardings, make_mesh
from alpamayo_jax.tokens.images import smart_resize
from alpamayo_jax.train import lora, partition
from alpamayo_jax.train.flops import train_flops
from alpamayo_jax.train.optimiser import Optimiser, make_optimiser
from alpamayo_jax.train.stages import (
    check_reached,
    check_stage,
    lora_config,
    optimiser_config,
    stage_objective,
    training_config,
)
from alpamayo_jax.train.state import TrainState, abstract_state, state_shardings
from alpamayo_jax.train.step import make_train_step
from alpamayo_jax.types import ModelInputs, TrainBatch
from alpamayo_jax.virtual import virtual_devices

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


def make_plan(
    job: Job, machine: Machine, compiler: str = "cpu", rules: AxisRules = AxisRules()
) -> dict[str, Any]:
    """Compiles the job's step and reports what every device holds and sends.

    Args:
      job: what to train.
      machine: for which mesh and chips.
      compiler: "cpu" or "cuda", see `virtual.virtual_devices`.
      rules: logical axis -> mesh axes.

    Returns:
      What `experiments/plan.py` writes; see there.

    Raises:
      ConfigError: no such devices, or something that does not divide, by name.
    """
    config, count = job.model(), machine.num_devices
    virtual = virtual_devices(compiler, machine.chip, count)
    mesh = make_mesh(**machine.sizes, devices=list(virtual.devices)[:count])
    stage, ema = job.stage, job.stage.ema_decay > 0
    params, optimiser = trained_parts(job)
    state = abstract_state(params, optimiser, ema)
    placed = state_shardings(config, mesh, rules, optimiser, params=params, ema=ema)
    batch = job.batch(stage.batch_size)
    rows = batch_shardings(batch, mesh, rules)

    begin = time.perf_counter()
    step = make_train_step(
        stage_objective(stage, config, remat=stage.remat, layout=Layout(mesh, rules)),
        optimiser,
        accumulate=stage.accumulate,
        ema_decay=stage.ema_decay or None,
        compute_dtype=config.precision.compute,
        shardings=placed,
        batch_sharding=rows,
    )
    lowered = step.lower(state, batch, _key())
    traced = time.perf_counter()
    compiled = lowered.compile(compiler_options=dict(virtual.options))
    done = time.perf_counter()

    inputs = compiled.input_shardings[0][0]
    found = collectives(compiled.as_text(), count)
    memory = compiled.memory_analysis()
    plain = stage_objective(stage, config)
    flops = stage.batch_size * train_flops(plain, optimiser.factors, params, job.batch(1))
    parts = {
        "parameters": held_bytes(state.params, inputs.params),
        "optimiser": held_bytes(state.opt_state, inputs.opt_state),
        "average": held_bytes(state.ema, inputs.ema),
        "batch": held_bytes(batch, rows),
        "gradients": held_bytes(
            optimiser.trainable(state.params), optimiser.trainable(inputs.params)
        ),
        "activations": kept_bytes(job, machine, rules),
        "temporaries": memory.temp_size_in_bytes,
    }
    total = memory.argument_size_in_bytes + memory.output_size_in_bytes
    total += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    usable = machine.chip.usable * machine.chip.memory_bytes
    trained = jax.tree.leaves(optimiser.trainable(params))
    return {
        "preset": job.preset,
        "stage": dataclasses.asdict(stage),
        "precision": dataclasses.asdict(config.precision),
        "batch": stage.batch_size,
        "length": batch.labels_mask.shape[1],
        "mesh": machine.sizes,
        "devices": count,
        "device": machine.chip.name,
        "compiler": compiler,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "trained_parameters": sum(leaf.size for leaf in trained),
        "bytes_per_device": parts | {"total": total},
        "memory_bytes": machine.chip.memory_bytes,
        "usable_bytes": usable,
        "fits": total <= usable,
        "collectives": by_kind(found),
        "largest_collectives": largest(found, 12),
        "collective_bytes": round(sum(one.times * one.bytes for one in found)),
        "whole_by_rule": whole_by_rule(state.params, placed.params),
        "replicated_against_rules": replicated_against_rules(state, placed, inputs),
        "flops": flops,
        "seconds_at_peak": flops / count / machine.chip.peak_flops,
        "trace_seconds": traced - begin,
        "compile_seconds": done - traced,
    }


def held_bytes(arrays: Any, shardings: Any) -> int:
    """Bytes of a tree of arrays or shapes that one device holds."""

    def held(leaf, sharding):
        return math.prod(sharding.shard_shape(leaf.shape)) * jnp.dtype(leaf.dtype).itemsize

    return sum(jax.tree.leaves(jax.tree.map(held, arrays, shardings)))


def whole_by_rule(params: dict, shardings: dict) -> dict[str, int]:
    """Bytes of the parameters that the rules leave whole on every device, by path."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {
        partition.path_name(path): leaf.size * leaf.dtype.itemsize
        for (path, leaf), where in zip(leaves, jax.tree.leaves(shardings), strict=True)
        if where.is_fully_replicated
    }


def replicated_against_rules(state: TrainState, wanted: TrainState, got: TrainState) -> list[str]:
    """Paths of state arrays of which a device holds more than the rules say.

    Args:
      state: arrays or shapes.
      wanted: shardings by the rules.
      got: shardings of the compiled program.
    """
    leaves = jax.tree_util.tree_leaves_with_path(state)
    pairs = zip(leaves, jax.tree.leaves(wanted), jax.tree.leaves(got), strict=True)
    return [
        partition.path_name(path)
        for (path, leaf), rule, real in pairs
        if math.prod(real.shard_shape(leaf.shape)) > math.prod(rule.shard_shape(leaf.shape))
    ]


def trained_parts(job: Job) -> tuple[dict, Optimiser]:
    """Shapes of the parameters, with adapters if the stage has some, and their optimiser.

    Raises:
      ConfigError: the loss reaches nothing that trains.
    """
    params, adapters = convert.param_shapes(job.model()), lora_config(job.stage)
    if adapters is not None:
        params = jax.eval_shape(lambda p, key: lora.add_adapters(p, adapters, key), params, _key())
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

    program = jax.make_jaxpr(kept)(trainable, frozen, batch, _key()).jaxpr
    arguments = {id(v) for v in (*program.invars, *program.constvars)}
    saved = {id(v): v.aval for v in program.outvars if id(v) not in arguments}
    size = sum(aval.size * aval.dtype.itemsize for aval in saved.values())
    return size // math.prod(machine.sizes[axis] for axis in rules.length)


def _key() -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.key(0))
