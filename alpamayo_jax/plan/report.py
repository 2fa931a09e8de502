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

from alpamayo_jax.plan.collectives import by_kind, collectives, largest
from alpamayo_jax.plan.job import Job, kept_bytes, key_shape, trained_parts
from alpamayo_jax.plan.machine import Machine
from alpamayo_jax.plan.virtual import virtual_devices
from alpamayo_jax.sharding import AxisRules, Layout, batch_shardings, make_mesh
from alpamayo_jax.train import partition
from alpamayo_jax.train.flops import train_flops
from alpamayo_jax.train.stages import stage_objective
from alpamayo_jax.train.state import TrainState, abstract_state, state_shardings
from alpamayo_jax.train.step import make_train_step


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
    lowered = step.lower(state, batch, key_shape())
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
        "compressor": config.vision.compressor,
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
