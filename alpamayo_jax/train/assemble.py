"""The parts of a stage from its settings, where they belong: state, step, batches, placement."""

import dataclasses
import functools
import itertools
from typing import Any, Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import SingleDeviceSharding

from alpamayo_jax import convert, hardware
from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.data.interleaving import with_moments
from alpamayo_jax.data.pipeline import batch_plan, training_batches
from alpamayo_jax.data.sources import ClipSource, Window
from alpamayo_jax.decode.policy import Policy, adopt_compressor
from alpamayo_jax.distributed import global_batch, row_shard
from alpamayo_jax.models.init import init_params, param_shapes
from alpamayo_jax.settings import DataSettings, MeshSettings, PrecisionSettings, StageSettings
from alpamayo_jax.sharding import (
    AxisRules,
    Layout,
    Mesh,
    batch_shardings,
    field_axes,
    make_mesh,
    param_shardings,
)
from alpamayo_jax.train import ema, lora
from alpamayo_jax.train.flops import train_flops
from alpamayo_jax.train.objective import Objective
from alpamayo_jax.train.objectives import OBJECTIVES
from alpamayo_jax.train.optimiser import Optimiser, make_optimiser
from alpamayo_jax.train.run import Training
from alpamayo_jax.train.stages import (
    check_reached,
    check_stage,
    interleaves,
    last_token,
    optimiser_config,
    stage_objective,
    stage_params,
    training_config,
)
from alpamayo_jax.train.state import TrainState, abstract_state, create_state, state_shardings
from alpamayo_jax.train.step import make_train_step
from alpamayo_jax.types import TrainBatch

# Numbers folded into keys; steps are below.
_VALIDATION_KEY, _LORA_KEY = 2**31 - 1, 2**31


@dataclasses.dataclass(frozen=True)
class Start:
    """What a stage begins with.

    Attributes:
      policy: its parameters may be shapes; then they are made or read where they belong.
      directory: checkpoint directory to read them from; None: random ones.
      seed: of random parameters, of the order of the data and of the noise.
    """

    policy: Policy
    directory: str | None
    seed: int


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows of the clips of a source."""

    source: ClipSource
    windows: Sequence[Window]


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a stage changes, and where it lies.

    Attributes:
      model: configuration with the number formats of training.
      devices: the mesh, or None for one device.
      layout: of activations on it, or None.
      optimiser: of the stage.
      like: shapes, types and shardings of the state.
      where: its shardings.
      shard: (which part of every batch this process feeds, how many parts there are).
      params: makes the parameters that the stage begins with.
      create: makes the state before the first step.
    """

    model: ModelConfig
    devices: Mesh | None
    layout: Layout | None
    optimiser: Optimiser
    like: TrainState
    where: TrainState
    shard: tuple[int, int]
    params: Callable[[], dict]
    create: Callable[[], TrainState]


def prepare(
    name: str,
    stage: StageSettings,
    start: Start,
    mesh: MeshSettings = MeshSettings(),
    precision: PrecisionSettings = PrecisionSettings(),
) -> Parts:
    """All of a stage but its objective and its batches; arguments as in `make_training`.

    Raises:
      ConfigError: settings that do not fit each other or the devices.
    """
    check_stage(name, stage, start.policy.config)
    model = training_config(start.policy.config, precision)
    devices = make_devices(mesh)
    adapter_key = jax.random.fold_in(jax.random.key(start.seed), _LORA_KEY)
    begin_with = functools.partial(stage_params, name, stage, precision, rng=adapter_key)
    shapes, has_ema = jax.eval_shape(begin_with, param_shapes(model)), stage.ema_decay > 0
    optimiser = make_optimiser(optimiser_config(name, stage), shapes)
    check_reached(name, stage, optimiser.factors)
    like = abstract_state(shapes, optimiser, has_ema)
    if devices is None:
        where = jax.tree.map(lambda _: SingleDeviceSharding(jax.devices()[0]), like)
    else:
        rules, options = AxisRules(), dict(params=shapes, ema=has_ema)
        where = state_shardings(model, devices, rules, optimiser, **options)
    like = jax.tree.map(
        lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s), like, where
    )
    shard, shards = (0, 1) if devices is None else row_shard(devices, AxisRules())
    if stage.batch_size % shards:
        raise ConfigError(f"{name}.batch_size {stage.batch_size} does not split over {shards} parts")

    def params() -> dict:
        return begin_with(_initial_params(start, model, devices))

    def create() -> TrainState:
        state = create_state(params(), optimiser, has_ema, shardings=where)
        # Placed on purpose, as a state that is read is: then both run the same program.
        return jax.device_put(state, where)

    return Parts(
        model=model,
        devices=devices,
        layout=None if devices is None else Layout(devices),
        optimiser=optimiser,
        like=like,
        where=where,
        shard=(shard, shards),
        params=params,
        create=create,
    )


def make_training(
    name: str,
    stage: StageSettings,
    start: Start,
    train: Windows,
    data: DataSettings,
    *,
    mesh: MeshSettings = MeshSettings(),
    precision: PrecisionSettings = PrecisionSettings(),
    held_out: Windows | None = None,
    validation_batches: int = 0,
    count_flops: bool = False,
) -> Training:
    """Parts that fit each other.

    Args:
      name: of the stage, for messages.
      stage: what is trained, and how.
      start: policy and seed.
      train: what to train on.
      data: how batches are made.
      mesh: devices.
      precision: number formats while training.
      held_out: what to validate on.
      validation_batches: how many batches of it; 0: none.
      count_flops: trace the step and find the devices' peak, for MFU.

    Raises:
      ConfigError: settings that do not fit each other or the devices.
    """
    parts = prepare(name, stage, start, mesh, precision)
    model, devices, shard, shards = parts.model, parts.devices, *parts.shard
    objective = stage_objective(stage, model, remat=stage.remat, layout=parts.layout)
    interleaved = interleaves(stage, model)
    if interleaved:
        train = _with_moments(train, data)
        held_out = held_out and _with_moments(held_out, data)
    batches = functools.partial(
        training_batches,
        processor=start.policy.processor,
        batch_size=stage.batch_size // shards,
        seed=start.seed,
        num_frames=data.num_frames,
        pad_to=data.max_length,
        stop_after=last_token(stage, start.policy.config),
        components=stage.components or None,
        num_workers=data.num_workers,
        cache_windows=data.cache_mb > 0,
        cache_mb=data.cache_mb,
        shard_index=shard,
        shard_count=shards,
        pack_lengths=data.pack_lengths,
        interleaved=interleaved,
    )
    dataset = batches(train.source, train.windows)
    place, batch_where, flops, peak = _as_it_is, None, None, (None, "")
    if devices is not None or count_flops:
        example = global_shapes(_first(dataset), shards)
    if devices is not None:
        batch_where = batch_shardings(example, devices, AxisRules())
        place = functools.partial(global_batch, shardings=batch_where)
    if count_flops:
        plain = stage_objective(stage, model)
        flops = train_flops(plain, parts.optimiser.factors, parts.like.params, example)
        peak = peak_flops(devices)
    rng = jax.random.key(start.seed)
    rng = jax.random.fold_in(rng, list(OBJECTIVES).index(stage.objective))
    validate = None
    if validation_batches and held_out is not None:
        validate = _validation(
            objective, batches(held_out.source, held_out.windows), validation_batches, place, rng
        )

    return Training(
        name=name,
        step=make_train_step(
            objective,
            parts.optimiser,
            accumulate=stage.accumulate,
            ema_decay=stage.ema_decay or None,
            compute_dtype=model.precision.compute,
            shardings=None if devices is None else parts.where,
            batch_sharding=batch_where,
        ),
        create=parts.create,
        like=parts.like,
        batches=dataset,
        place=place,
        windows=functools.partial(_describe, train, stage, start, data),
        num_steps=stage.steps,
        rng=rng,
        flops=flops,
        peak=peak[0],
        peak_source=peak[1],
        validate=validate,
    )


def make_devices(mesh: MeshSettings) -> Mesh | None:
    """The mesh; None for one device, which needs no placement.

    Raises:
      ConfigError: the sizes do not fit the devices.
    """
    sizes = dataclasses.asdict(mesh)
    if jax.process_count() == 1 and set(sizes.values()) == {1}:
        return None
    found = make_mesh(**sizes)
    return found if found.size > 1 else None


def peak_flops(devices: Mesh | None) -> tuple[float, str]:
    """Operations per second of all devices at best, and where the number comes from.

    CPU devices of a host share its cores.
    """
    device, peak = jax.devices()[0], hardware.peak_flops()
    chip = hardware.chip_of(device)
    if chip is not None:
        count = 1 if devices is None else devices.size
        return peak * count, f"{count} x {chip.name}, bfloat16, data sheet"
    said = f"{jax.process_count()} x {device.device_kind}, float32 matrix product, measured"
    return peak * jax.process_count(), said


def final_params(state: TrainState) -> dict:
    """What a finished run is for: the moving average of the parameters where there is one."""
    if state.ema is None:
        return state.params
    return ema.averaged_params(state.params, state.ema)


def trained_policy(policy: Policy, state: TrainState) -> Policy:
    """The policy with a state's parameters, in the number format of the policy's configuration.

    The moving average takes the place of the parameters where there is one; adapters are merged. On
    several hosts each gets all parameters, in its memory.
    """
    params = final_params(state)
    dtype = jnp.dtype(policy.config.precision.params)
    params = jax.tree.map(lambda p: p.astype(dtype), lora.merge(params))
    if jax.process_count() > 1:
        params = jax.tree.map(lambda p: multihost_utils.process_allgather(p, tiled=True), params)
    return dataclasses.replace(policy, params=params)


def _initial_params(start: Start, model: ModelConfig, devices: Mesh | None) -> dict:
    shapes, where = param_shapes(model), None
    if devices is not None:
        where = param_shardings(convert.logical_axes(model), shapes, devices, AxisRules())
    if not isinstance(jax.tree.leaves(start.policy.params)[0], jax.ShapeDtypeStruct):
        dtype = jnp.dtype(model.precision.params)
        params = jax.tree.map(lambda p: jnp.asarray(p, dtype), start.policy.params)
        return params if where is None else jax.device_put(params, where)
    if start.directory:
        return _stored_params(start, model, devices, where)
    init = jax.jit(functools.partial(init_params, model), out_shardings=where)
    return init(jax.random.key(start.seed))


def _with_moments(which: Windows, data: DataSettings) -> Windows:
    windows = with_moments(which.source, which.windows, data.num_frames)
    return dataclasses.replace(which, windows=windows)


def _stored_params(
    start: Start, model: ModelConfig, devices: Mesh | None, where: dict | None
) -> dict:
    """The checkpoint's parameters; another compressor than its own begins with random ones."""
    stored, _ = convert.read_config(start.directory)
    stored = dataclasses.replace(
        model,
        vision=dataclasses.replace(model.vision, compressor=stored.vision.compressor),
        scene=stored.scene,
    )
    own = where
    if devices is not None and stored != model:
        axes, shapes = convert.logical_axes(stored), param_shapes(stored)
        own = param_shardings(axes, shapes, devices, AxisRules())
    params = convert.load_params(
        start.directory, stored, shardings=own, dtype=model.precision.params
    )
    params = adopt_compressor(params, stored, model, jax.random.key(start.seed))
    return params if where is None else jax.device_put(params, where)


def _first(dataset: Any) -> TrainBatch:
    iterator = iter(dataset)
    try:
        return next(iterator)
    finally:
        getattr(iterator, "close", lambda: None)()


def global_shapes(batch: Any, parts: int) -> Any:
    """Shapes of a batch of all processes, from the rows of one of `parts` equal ones."""

    def shape(path, array):
        sizes = list(array.shape)
        sizes[field_axes(path).index("batch")] *= parts
        return jax.ShapeDtypeStruct(tuple(sizes), array.dtype)

    return jax.tree_util.tree_map_with_path(shape, batch)


def _as_it_is(batch: TrainBatch) -> TrainBatch:
    return batch


def _describe(
    train: Windows, stage: StageSettings, start: Start, data: DataSettings, number: int
) -> list[dict[str, Any]]:
    options = dict(batch_size=stage.batch_size, seed=start.seed, num_frames=data.num_frames)
    options |= dict(components=stage.components or None, pack_lengths=data.pack_lengths)
    plan = batch_plan(train.source, train.windows, start.policy.processor, **options)
    named = getattr(train.source, "clip_name", lambda clip: train.source.clip(clip).clip_id)
    return [{"clip_id": named(clip), "t0": float(t0)} for clip, t0 in plan[number][0]]


def _validation(objective: Objective, dataset: Any, count: int, place: Any, rng: jax.Array):
    loss = jax.jit(lambda params, batch, key: objective(params, batch, key)[0])
    held: list[TrainBatch] = []

    def validate(state: TrainState) -> float:
        if not held:
            held.extend(itertools.islice(iter(dataset), count))
        keys = [jax.random.fold_in(rng, _VALIDATION_KEY - i) for i in range(count)]
        losses = [loss(state.params, place(batch), key) for batch, key in zip(held, keys)]
        return float(np.mean(jax.device_get(losses)))

    return validate
