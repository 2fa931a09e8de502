"""Suite "policy" of a model that this machine cannot run: its programs, compiled but not measured.

Every phase is compiled from shapes for a GPU that need not be there, or where its compiler is not
installed for this CPU. What the program computes and moves stands beside what it would have to. No
number here is a time that anything took, but for the compiler's own.
"""

import dataclasses
import logging
import time
from typing import Any, Callable, Sequence

import jax
import jax.numpy as jnp

from alpamayo_jax import hardware
from alpamayo_jax.benchmark import first, floors
from alpamayo_jax.benchmark.policy import Case, prompt_reader
from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode import act
from alpamayo_jax.decode.draw import draw
from alpamayo_jax.decode.generate import Generation
from alpamayo_jax.decode.sample import sample_program
from alpamayo_jax.layers.stack import separate
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.plan.traffic import program_bytes
from alpamayo_jax.plan.virtual import Virtual, bandwidth, virtual_devices
from alpamayo_jax.train.flops import program_flops
from alpamayo_jax.types import KVCache

CHIP = "H100"
_LARGEST_ON_CPU = 2 * 2**30  # bytes of parameters


def too_large(one: Case) -> bool:
    """Whether this machine has nothing but CPUs, and the model is not for them."""
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(param_shapes(one.config)))
    return size > _LARGEST_ON_CPU and first.backend() == "cpu"


def run(
    one: Case, *, samples: Sequence[int] = (1, 6, 16), chip: str = CHIP, apart: bool = True
) -> dict[str, Any]:
    """Compiles a case.

    Args:
      one: model and observation.
      samples: numbers of samples.
      chip: whose program is made, and whose data sheet the floors are taken from.
      apart: see `programs`.

    Returns:
      phases: name -> `median` and `spread` (null: nothing is measured), `status`, `floor` (seconds,
      from the data sheet), `flops` and `bytes` that the phase needs, `program_flops` and
      `program_bytes` of the compiled program, the ratios of these to the former, `moved` (bytes by
      what moves them), `compile` (seconds), `memory_mib`. compiled_for; peaks; notes.
    """
    target = hardware.chip(chip)
    virtual, compiler = _compiler(target)
    peaks = floors.Peaks(target.peak_flops, bandwidth(target), measured=False)
    rows = {}
    for count in samples:
        work = floors.phases(one.config, one.shapes, count)
        seconds = floors.end_to_end_seconds(work, one.shapes, peaks)
        for phase, (function, args) in programs(one, count, apart=apart).items():
            per_sample = phase in ("decode_token", "flow_step", "end_to_end")
            name = f"{phase}/{count}_samples" if per_sample else phase
            if name in rows:
                continue
            logging.getLogger(__name__).info("compiling %s", name)
            floor = seconds if phase == "end_to_end" else work[phase].seconds(peaks)
            rows[name] = _compiled(function, args, virtual, work[phase], floor, phase)
    where = chip if compiler == "cuda" else "this CPU"
    return {
        "phases": rows,
        "compiled_for": where,
        "peaks": dataclasses.asdict(peaks),
        "case": dataclasses.asdict(one),
        "notes": (
            f"Nothing was run: programs compiled for {where}, floors from the data sheet of {chip}.",
        ),
    }


def programs(one: Case, samples: int, *, apart: bool = True) -> dict[str, tuple[Callable, tuple]]:
    """Phase -> a function and the shapes of its arguments.

    Args:
      one: model and observation.
      samples: K.
      apart: every layer's parameters in arrays of their own (`layers.stack.separate`); False has
        programs that loop over stacked layers.
    """
    config, model = one.config, Alpamayo(one.config)
    settings = one.settings(samples)
    params = param_shapes(config)
    params = jax.eval_shape(separate, params) if apart else params
    inputs, rng = jax.eval_shape(lambda: (one.inputs(), jax.random.key(0)))
    read = prompt_reader(config)
    see = lambda p, i: model.apply({"params": p}, i, method="scene_tokens")  # noqa: E731
    scene = jax.eval_shape(see, params, inputs)
    prefix = jax.eval_shape(read, params, inputs, scene)
    language = config.language
    shape = (1, samples, language.num_kv_heads, one.tokens, language.head_dim)
    own = jax.ShapeDtypeStruct((language.num_layers, *shape), prefix.cache.k.dtype)
    said = jax.eval_shape(
        lambda: Generation(
            token_ids=jnp.zeros((1, samples, one.tokens), jnp.int32),
            logprobs=jnp.zeros((1, samples, one.tokens)),
            end_index=jnp.zeros((1, samples), jnp.int32),
            num_tokens=jnp.int32(0),
            cache=KVCache(k=jnp.zeros(own.shape, own.dtype), v=jnp.zeros(own.shape, own.dtype)),
        )
    )
    noise = jax.eval_shape(lambda r: act.initial_noise(r, 1, config, settings), rng)

    def token(params, prefix, cache, ids, index, rng):
        """One turn of the loop of `decode.generate`."""
        position = prefix.length + index + prefix.rope_delta[:, None, None]
        before = jnp.arange(one.tokens) < index
        context = [
            (prefix.cache, prefix.mask[:, None, None, :]),
            (cache, before[None, None, None, :]),
        ]
        hidden, new = model.apply(
            {"params": params}, ids, jnp.broadcast_to(position, (3, 1, samples, 1)),
            jnp.ones((1, 1, 1, 1), bool), context, method="extend",
        )  # fmt: skip
        logits = model.apply({"params": params}, hidden[..., 0, :], method="logits")
        drawn, _ = draw(logits, rng, index, settings)
        put = jax.lax.dynamic_update_slice_in_dim
        return drawn, jax.tree.map(lambda a, b: put(a, b, index, axis=-2), cache, new)

    ids = jax.ShapeDtypeStruct((1, samples, 1), jnp.int32)
    index = jax.ShapeDtypeStruct((), jnp.int32)
    once = dataclasses.replace(settings, flow_steps=1)
    return {
        "vision": (see, (params, inputs)),
        "prefill": (read, (params, inputs, scene)),
        "decode_token": (token, (params, prefix, said.cache, ids, index, rng)),
        "flow_step": (
            lambda p, x, g, n: act.sample_actions(p, x, g, config, once, n),
            (params, prefix, said, noise),
        ),
        "end_to_end": (
            lambda p, i, r: sample_program(p, i, r, config, settings), (params, inputs, rng),
        ),
    }  # fmt: skip


def _compiler(target: hardware.Chip) -> tuple[Virtual, str]:
    try:
        return virtual_devices("cuda", target, 1), "cuda"
    except ConfigError as error:
        logging.getLogger(__name__).info("%s; compiling for this CPU", error)
        return virtual_devices("cpu", target, 1), "cpu"


def _compiled(
    function: Callable, args: tuple, virtual: Virtual, work: floors.Work, floor: float, phase: str
) -> dict[str, Any]:
    place = jax.sharding.SingleDeviceSharding(virtual.devices[0])
    placed = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), args)
    # The caches of decoding are updated in place, as in its loop.
    donated = (2,) if phase == "decode_token" else ()
    begin = time.perf_counter()
    program = jax.jit(function, donate_argnums=donated).lower(*placed)
    program = program.compile(compiler_options=dict(virtual.options))
    seconds = time.perf_counter() - begin
    analysis = program.memory_analysis()
    sizes = (analysis.argument_size_in_bytes, analysis.output_size_in_bytes,
             analysis.temp_size_in_bytes, -analysis.alias_size_in_bytes)  # fmt: skip
    row = {
        "median": None,
        "spread": None,
        "status": "not measured",
        "floor": floor,
        "flops": work.flops,
        "bytes": work.bytes,
        "compile": seconds,
        "memory_mib": sum(sizes) / 2**20,
    }
    if phase != "end_to_end":  # whose loop runs as long as the samples talk
        moved = program_bytes(program.as_text())
        flops = program_flops(function, *args)
        row |= {
            "program_flops": flops,
            "program_bytes": moved.pop("total"),
            "moved": moved,
            "ratio_of_flops": flops / work.flops,
        }
        row["ratio_of_bytes"] = row["program_bytes"] / work.bytes
    return row
