"""Whether a training job fits its machines, found without them.

The train step is compiled ahead of time for a mesh of virtual devices from shapes alone: no parameter
is ever made. The partitioner that runs is the one that will run on the cluster, so the collectives
and the sizes of what each device holds are its own.
"""

import dataclasses
import math
import re
import time
from typing import Any

import jax
import jax.numpy as jnp

from alpamayo_jax import convert, hardware
from alpamayo_jax.collectives import by_kind, collectives
from alpamayo_jax.config import ConfigError, ModelConfig, PrecisionConfig
from alpamayo_jax.presets import preset
from alpamayo_jax.sharding import MESH_AXES, AxisRules, Layout, batch_shardings, make_mesh
from alpamayo_jax.tokens.images import smart_resize
from alpamayo_jax.train import partition
from alpamayo_jax.train.flops import train_flops
from alpamayo_jax.train.objectives import make_objective
from alpamayo_jax.train.optimiser import Optimiser, OptimiserConfig, make_optimiser
from alpamayo_jax.train.state import TrainState, abstract_state, state_shardings
from alpamayo_jax.train.step import make_train_step
from alpamayo_jax.types import ModelInputs, TrainBatch
from alpamayo_jax.virtual import virtual_devices

# Widths of all presets divide by it; a larger machine holds copies of the parameters.
_MOST_FSDP = 64
# Conversation without images and trajectory: instructions, reasoning, special tokens.
_TEXT_TOKENS = 192
_LENGTH_STEP = 128

STAGES = {
    "tokens": ((r"vlm/.*", 1.0), (r".*", 0.0)),
    "expert": ((r"vlm/.*", 0.0), (r".*", 1.0)),
    "joint": ((r".*", 1.0),),
}


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices of one kind in a mesh.

    Attributes:
      sizes: mesh axis -> size, of every axis.
      chip: one device.
    """

    sizes: dict[str, int]
    chip: hardware.Chip

    @property
    def num_devices(self) -> int:
        return math.prod(self.sizes.values())


@dataclasses.dataclass(frozen=True)
class Job:
    """A train step to plan.

    Attributes:
      preset: model, see `presets`.
      batch: rows per step, over all devices.
      stage: what is trained: "tokens", "expert" or "joint".
      length: tokens of a conversation; 0: what the images and 192 tokens of text come to.
      cameras: per row.
      frames: per camera.
      remat: what is computed again in the backward pass, see `layers.stack`.
      accumulate: micro-batches per step.
      params: type of the master parameters.
      compute: type of the layers.
      ema: keep a moving average of the parameters.
    """

    preset: str
    batch: int
    stage: str = "tokens"
    length: int = 0
    cameras: int = 4
    frames: int = 4
    remat: str = "full"
    accumulate: int = 1
    params: str = "float32"
    compute: str = "bfloat16"
    ema: bool = False

    def __post_init__(self):
        if self.stage not in STAGES:
            raise ConfigError(f"stage {self.stage!r} is unknown; known: {', '.join(STAGES)}")
        if min(self.batch, self.cameras, self.frames, self.accumulate) < 1 or self.length < 0:
            raise ConfigError("batch, cameras, frames and accumulate must be at least 1, length 0")

    def model(self) -> ModelConfig:
        """The preset in the job's number formats."""
        precision = PrecisionConfig(params=self.params, compute=self.compute)
        return preset(self.preset, precision=precision)


def parse_machine(mesh: str, device: str = "") -> Machine:
    """A machine by name ("8xH100", "v5e-256") or by axes ("data:1,fsdp:8,tensor:1").

    A name splits parameters over as many devices as divide every preset, at most 64, and copies
    them beyond that. Numbers in TPU names are as in Google's: v5p-8 has 4 devices, v5e-8 has 8.

    Args:
      mesh: name or axes; axes left out have size 1.
      device: kind of device, see `hardware.CHIPS`; default: that of the name, or H100.

    Raises:
      ConfigError: neither a name nor axes, or an unknown device.
    """
    gpus, tpus = re.fullmatch(r"(\d+)x([\w\-]+)", mesh), re.fullmatch(r"(v\d\w)-(\d+)", mesh)
    if gpus or tpus:
        count, kind = (int(gpus[1]), gpus[2]) if gpus else (int(tpus[2]), tpus[1])
        count = max(count // 2, 1) if kind == "v5p" else count
        fsdp = math.gcd(count, _MOST_FSDP)
        sizes = {"data": count // fsdp, "fsdp": fsdp}
        device = device or kind
    else:
        sizes = {}
        for part in mesh.split(","):
            named = re.fullmatch(r"(\w+):(\d+)", part.strip())
            if not named or named[1] not in MESH_AXES or named[1] in sizes or named[2] == "0":
                raise ConfigError(
                    f"mesh {mesh!r}: {part!r} is not AXIS:SIZE with an axis of "
                    f"{', '.join(MESH_AXES)}, each once; or name machines, as in 8xH100 or v5e-256"
                )
            sizes[named[1]] = int(named[2])
    sizes = {axis: sizes.get(axis, 1) for axis in MESH_AXES}
    if min(sizes.values()) < 1:
        raise ConfigError(f"mesh {mesh!r} has no device")
    return Machine(sizes, hardware.chip(device or "H100"))


def abstract_batch(
    config: ModelConfig, rows: int, length: int = 0, cameras: int = 4, frames: int = 4
) -> TrainBatch:
    """Shapes of a batch of full-size recordings (1080 x 1920), `length` as in `Job`.

    Raises:
      ConfigError: the images alone are longer than `length`.
    """
    vision, waypoints = config.vision, config.action.n_waypoints
    side, images = vision.patch_size, cameras * frames
    height, width = smart_resize(
        1080, 1920, side * vision.spatial_merge_size, config.prompt.min_pixels, config.prompt.max_pixels
    )
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
    params = convert.param_shapes(config)
    optimiser = make_optimiser(
        OptimiserConfig(learning_rate=1e-4, num_steps=1000, groups=STAGES[job.stage]), params
    )
    state = abstract_state(params, optimiser, job.ema)
    placed = state_shardings(config, mesh, rules, optimiser, ema=job.ema)
    batch = abstract_batch(config, job.batch, job.length, job.cameras, job.frames)
    rows = batch_shardings(batch, mesh, rules)
    layout = Layout(mesh, rules)

    begin = time.perf_counter()
    step = make_train_step(
        make_objective(job.stage, config, remat=job.remat, layout=layout),
        optimiser,
        accumulate=job.accumulate,
        ema_decay=0.999 if job.ema else None,
        compute_dtype=job.compute,
        shardings=placed,
        batch_sharding=rows,
    )
    rng = jax.eval_shape(lambda: jax.random.key(0))
    lowered = step.lower(state, batch, rng)
    traced = time.perf_counter()
    compiled = lowered.compile(compiler_options=dict(virtual.options))
    done = time.perf_counter()

    inputs = compiled.input_shardings[0][0]
    found = collectives(compiled.as_text(), count)
    memory = compiled.memory_analysis()
    one_row = abstract_batch(config, 1, job.length, job.cameras, job.frames)
    flops = job.batch * train_flops(
        make_objective(job.stage, config), optimiser.factors, params, one_row
    )
    parts = {
        "parameters": held_bytes(state.params, inputs.params),
        "optimiser": held_bytes(state.opt_state, inputs.opt_state),
        "average": held_bytes(state.ema, inputs.ema),
        "batch": held_bytes(batch, rows),
        "gradients": held_bytes(
            optimiser.trainable(state.params), optimiser.trainable(inputs.params)
        ),
        "activations": _activations(job, machine, rules, config, optimiser, params),
        "temporaries": memory.temp_size_in_bytes,
    }
    total = memory.argument_size_in_bytes + memory.output_size_in_bytes
    total += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    usable = machine.chip.usable * machine.chip.memory_bytes
    trained = jax.tree.leaves(optimiser.trainable(params))
    return {
        **dataclasses.asdict(job),
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


def _activations(
    job: Job,
    machine: Machine,
    rules: AxisRules,
    config: ModelConfig,
    optimiser: Optimiser,
    params: dict,
) -> int:
    """Bytes that the forward pass of one device's rows keeps for the backward pass.

    Counted in the types of the model, before any compiler; heads and widths that the tensor axis
    splits are counted whole.
    """
    parts = math.prod(machine.sizes[axis] for axis in rules.batch) * job.accumulate
    rows = max(job.batch // parts, 1)
    batch = abstract_batch(config, rows, job.length, job.cameras, job.frames)
    trainable, frozen = partition.split(params, optimiser.factors)
    objective = make_objective(job.stage, config, remat=job.remat)

    def kept(trainable, frozen, batch, rng):
        def loss(trainable):
            return objective(partition.merge(trainable, frozen), batch, rng)[0]

        return jax.tree.leaves(jax.vjp(loss, trainable)[1])

    rng = jax.eval_shape(lambda: jax.random.key(0))
    program = jax.make_jaxpr(kept)(trainable, frozen, batch, rng).jaxpr
    arguments = {id(v) for v in (*program.invars, *program.constvars)}
    saved = {id(v): v.aval for v in program.outvars if id(v) not in arguments}
    size = sum(aval.size * aval.dtype.itemsize for aval in saved.values())
    return size // math.prod(machine.sizes[axis] for axis in rules.length)
