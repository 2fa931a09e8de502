"""The parts of a stage from its settings, where they belong: state, step, batches, placement."""

import dataclasses
import functools
import itertools
from typing import Any, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax import convert, hardware
from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.data.pipeline import batch_windows, training_batches
from alpamayo_jax.data.sources import ClipSource, Window
from alpamayo_jax.decode.policy import Policy
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
from alpamayo_jax.train import ema
from alpamayo_jax.train.flops import train_flops
from alpamayo_jax.train.objective import Objective
from alpamayo_jax.train.objectives import OBJECTIVES
from alpamayo_jax.train.optimiser import make_optimiser
from alpamayo_jax.train.run import Training
from alpamayo_jax.train.stages import (
    check_stage,
    optimiser_config,
    stage_objective,
    training_config,
)
from alpamayo_jax.train.state import TrainState, abstract_state, create_state, state_shardings
from alpamayo_jax.train.step import make_train_step
from alpamayo_jax.types import TrainBatch

_VALIDATION_KEY = 2**31 - 1


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
    check_stage(name, stage, start.policy.config)
    model = training_config(start.policy.config, precision)
    devices = make_devices(mesh)
    layout = None if devices is None else Layout(devices)
    objective = stage_objective(stage, model, remat=stage.remat, layout=layout)
    shapes, has_ema = param_shapes(model), stage.ema_decay > 0
    optimiser = make_optimiser(optimiser_config(name, stage), shapes)
    like = abstract_state(shapes, optimiser, has_ema)
    where = None
    if devices is not None:
        where = state_shardings(model, devices, AxisRules(), optimiser, ema=has_ema)
        like = jax.tree.map(
            lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s), like, where
        )
    batches = functools.partial(
        training_batches,
        processor=start.policy.processor,
        batch_size=_rows_per_host(stage.batch_size),
        seed=start.seed,
        num_frames=data.num_frames,
        pad_to=data.max_length,
        components=data.components or None,
        num_workers=data.num_workers,
        cache_windows=data.cache_mb > 0,
        cache_mb=data.cache_mb,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
    dataset = batches(train.source, train.windows)
    place, batch_where, flops = _as_it_is, None, None
    if devices is not None or count_flops:
        example = _global_shapes(_first(dataset))
    if devices is not None:
        batch_where = batch_shardings(example, devices, AxisRules())
        place = functools.partial(jax.tree.map, jax.make_array_from_process_local_data, batch_where)
    if count_flops:
        plain = stage_objective(stage, model)
        flops = train_flops(plain, optimiser.factors, shapes, example)
    rng = jax.random.key(start.seed)
    rng = jax.random.fold_in(rng, list(OBJECTIVES).index(stage.objective))
    validate = None
    if validation_batches and held_out is not None:
        validate = _validation(
            objective, batches(held_out.source, held_out.windows), validation_batches, place, rng
        )

    def create() -> TrainState:
        params = _initial_params(start, model, devices)
        return create_state(params, optimiser, has_ema, shardings=where)

    return Training(
        name=name,
        step=make_train_step(
            objective,
            optimiser,
            accumulate=stage.accumulate,
            ema_decay=stage.ema_decay or None,
            compute_dtype=model.precision.compute,
            shardings=where,
            batch_sharding=batch_where,
        ),
        create=create,
        like=like,
        batches=dataset,
        place=place,
        windows=functools.partial(_describe, train, stage.batch_size, start.seed),
        num_steps=stage.steps,
        rng=rng,
        flops=flops,
        peak=peak_flops(devices) if count_flops else None,
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


def peak_flops(devices: Mesh | None) -> float:
    """Operations per second of all devices at best. CPU devices of a host share its cores."""
    peak = hardware.peak_flops()
    if jax.devices()[0].platform == "cpu":
        return peak * jax.process_count()
    return peak * (1 if devices is None else devices.size)


def trained_policy(
    policy: Policy, state: TrainState, *, params_type: str | None = None
) -> Policy:
    """The policy with a state's parameters, their moving average if there is one, on the host.

    Args:
      policy: what training began with; its configuration stays.
      state: at the end.
      params_type: number format; by default that of the policy's configuration.
    """
    params = state.params
    if state.ema is not None:
        params = ema.averaged_params(params, state.ema)
    dtype = jnp.dtype(params_type or policy.config.precision.params)
    return dataclasses.replace(policy, params=jax.tree.map(lambda p: p.astype(dtype), params))


def _initial_params(start: Start, model: ModelConfig, devices: Mesh | None) -> dict:
    shapes, where = param_shapes(model), None
    if devices is not None:
        where = param_shardings(convert.logical_axes(model), shapes, devices, AxisRules())
    if not isinstance(jax.tree.leaves(start.policy.params)[0], jax.ShapeDtypeStruct):
        dtype = jnp.dtype(model.precision.params)
        params = jax.tree.map(lambda p: jnp.asarray(p, dtype), start.policy.params)
        return params if where is None else jax.device_put(params, where)
    if start.directory:
        dtype = model.precision.params
        return convert.load_params(start.directory, model, shardings=where, dtype=dtype)
    init = jax.jit(functools.partial(init_params, model), out_shardings=where)
    return init(jax.random.key(start.seed))


def _rows_per_host(batch_size: int) -> int:
    if batch_size % jax.process_count():
        raise ConfigError(f"batch_size {batch_size} does not split over {jax.process_count()} hosts")
    return batch_size // jax.process_count()


def _first(dataset: Any) -> TrainBatch:
    iterator = iter(dataset)
    try:
        return next(iterator)
    finally:
        getattr(iterator, "close", lambda: None)()


def _global_shapes(batch: TrainBatch) -> TrainBatch:
    def shape(path, array):
        sizes = list(array.shape)
        sizes[field_axes(path).index("batch")] *= jax.process_count()
        return jax.ShapeDtypeStruct(tuple(sizes), array.dtype)

    return jax.tree_util.tree_map_with_path(shape, batch)


def _as_it_is(batch: TrainBatch) -> TrainBatch:
    return batch


def _describe(train: Windows, batch_size: int, seed: int, number: int) -> list[dict[str, Any]]:
    rows = batch_windows(train.windows, batch_size, seed)[number]
    return [{"clip_id": train.source.clip(clip).clip_id, "t0": float(t0)} for clip, t0 in rows]


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
