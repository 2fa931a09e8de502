"""Suite "kernels": every operation with more than one implementation, at the shapes of a real model.

On a GPU or TPU all implementations take turns within one process, each beside the floor of this
device, its speed beside XLA's and how far its result is from XLA's. Elsewhere XLA is measured at small
shapes, and of the others it is shown for which chips they lower (and compile, where the compilers are
installed) at the real ones: their speed is not known there.
"""

import dataclasses
import functools
from typing import Any, Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from alpamayo_jax.benchmark import floors
from alpamayo_jax.benchmark.timing import Times, alternate
from alpamayo_jax.config import ModelConfig
from alpamayo_jax.kernels import lowering
from alpamayo_jax.kernels.banded_solve import banded_solve
from alpamayo_jax.kernels.banded_solve import shapes as banded_shapes
from alpamayo_jax.kernels.cases import Case
from alpamayo_jax.kernels.decode_attention import decode_attention
from alpamayo_jax.kernels.decode_attention import shapes as decode_shapes
from alpamayo_jax.kernels.deformable_sampling import deformable_sampling
from alpamayo_jax.kernels.deformable_sampling import shapes as deformable_shapes
from alpamayo_jax.kernels.dispatch import Unsupported
from alpamayo_jax.kernels.flow_attention import flow_attention
from alpamayo_jax.kernels.flow_attention import shapes as flow_shapes
from alpamayo_jax.kernels.prefill_attention import prefill_attention
from alpamayo_jax.kernels.prefill_attention import shapes as prefill_shapes
from alpamayo_jax.kernels.quantised_matvec import quantised_matvec
from alpamayo_jax.kernels.quantised_matvec import shapes as matvec_shapes
from alpamayo_jax.kernels.rms_norm import rms_norm
from alpamayo_jax.kernels.rms_norm import shapes as norm_shapes
from alpamayo_jax.kernels.swiglu import shapes as swiglu_shapes
from alpamayo_jax.kernels.swiglu import swiglu
from alpamayo_jax.presets import preset, with_compressor

NOT_MEASURED = "not measured"
TARGETS = ("h100", "b200", "v5e")  # one of each kind of `lowering.TARGETS`
_CPU_FLOPS = 2e9  # of the largest case that a CPU measures as it is


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation of `kernels`.

    Attributes:
      function: of a case's arguments and options, and of `implementation`.
      cases: those of the 10B policy.
      small: those that a CPU measures.
      others: implementations beside "xla".
    """

    function: Callable[..., Any]
    cases: Callable[[], Sequence[Case]]
    small: Callable[[], Sequence[Case]]
    others: tuple[str, ...] = ("pallas",)

    def call(self, case: Case, implementation: str, backward: bool) -> Callable[..., Any]:
        """A function of a case's arguments: the result, or the gradient of its sum."""
        run = functools.partial(self.function, implementation=implementation, **case.options)
        if not backward:
            return run

        def total(*arguments):
            return sum(leaf.astype(jnp.float32).sum() for leaf in jax.tree.leaves(run(*arguments)))

        return jax.grad(total, case.wrt)


def _of_models(function: Callable[..., Any], shapes: Any, *others: str, **small) -> Operation:
    """An operation whose cases are made for a model; `small` are their arguments for CPUs."""
    return Operation(
        function,
        lambda: shapes.cases(preset("r1_10b")),
        lambda: shapes.cases(small_model(), **small),
        ("pallas", *others),
    )


def _light(shapes: Any) -> Callable[[], Sequence[Case]]:
    return lambda: [case for case in shapes.CASES if case.flops <= _CPU_FLOPS]


OPERATIONS: Mapping[str, Operation] = {
    "prefill_attention": Operation(
        prefill_attention, lambda: prefill_shapes.CASES, _light(prefill_shapes)
    ),
    "decode_attention": Operation(
        decode_attention, lambda: decode_shapes.CASES, _light(decode_shapes)
    ),
    "rms_norm": Operation(rms_norm, lambda: norm_shapes.CASES, _light(norm_shapes)),
    "swiglu": Operation(swiglu, lambda: swiglu_shapes.CASES, _light(swiglu_shapes)),
    "quantised_matvec": _of_models(quantised_matvec, matvec_shapes, "triton", samples=(1,)),
    "flow_attention": _of_models(flow_attention, flow_shapes, prompt=441, tokens=16),
    "deformable_sampling": _of_models(deformable_sampling, deformable_shapes, tokens=15),
    "banded_solve": _of_models(banded_solve, banded_shapes, systems=(1, 64)),
}


def small_model() -> ModelConfig:
    """What CPUs measure: the moderate policy, with the triplane of the tiny one."""
    tiny = with_compressor(preset("tiny"), "triplane")
    return dataclasses.replace(preset("moderate"), scene=tiny.scene)


def run(
    *,
    rounds: int = 5,
    operations: Sequence[str] = tuple(OPERATIONS),
    targets: Sequence[str] = TARGETS,
) -> dict[str, Any]:
    """Measures operations one after the other.

    Args:
      rounds: repetitions that count.
      operations: their names.
      targets: without an accelerator, chips to lower for.

    Returns:
      phases: "OPERATION/CASE/IMPLEMENTATION", and ".../backward/IMPLEMENTATION" where training needs
      a gradient -> `Times.row`, `floor`, `ratio_to_floor`; of implementations beside XLA also
      `speedup` (XLA's time over theirs) and `error` (largest difference to XLA's result over its
      largest value). What was not measured has `status` alone, and None for the times.
      defaults: operation -> the fastest implementation in all of its cases that agrees with XLA;
      "xla" where nothing was measured.
    """
    accelerated = jax.default_backend() != "cpu"
    peaks = floors.measure_peaks(preset("r1_10b") if accelerated else small_model())
    phases: dict[str, dict[str, Any]] = {}
    for name in operations:
        operation, found = OPERATIONS[name], {}
        for case in operation.cases() if accelerated else operation.small():
            others = operation.others if accelerated else ()
            found |= measure(operation, case, peaks, rounds, others)
        if not accelerated:
            for case in operation.cases():
                found |= statuses(operation, case, targets)
        phases |= {f"{name}/{part}": row for part, row in found.items()}
    return {
        "phases": phases,
        "peaks": dataclasses.asdict(peaks),
        "defaults": {name: fastest(name, phases) for name in operations},
        "notes": [] if accelerated else [f"kernels for accelerators: {NOT_MEASURED} here"],
    }


def measure(
    operation: Operation, case: Case, peaks: floors.Peaks, rounds: int, others: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """One case on this device: part -> row, see `run`."""
    arguments = jax.jit(lambda: _varied(case.arguments()))()
    found: dict[str, dict[str, Any]] = {}
    for backward in (False, True) if case.wrt else (False,):
        label = f"{case.name}/backward/" if backward else f"{case.name}/"
        calls, results = {}, {}
        for implementation in ("xla", *others):
            try:
                program = jax.jit(operation.call(case, implementation, backward))
                results[implementation] = jax.block_until_ready(program(*arguments))
            except Exception as error:
                # What the compiler of this device refuses is a result; without XLA there is none.
                if implementation == "xla":
                    raise
                found[label + implementation] = _unknown(f"fails: {_first_line(error)}")
                continue
            calls[implementation] = functools.partial(_run, program, arguments)
        times = alternate(calls, rounds)
        for implementation, one in times.items():
            row = _row(one, case, peaks, backward)
            if implementation != "xla":
                row["speedup"] = times["xla"].median / one.median
                row["error"] = difference(results[implementation], results["xla"])
            found[label + implementation] = row
    return found


def statuses(
    operation: Operation, case: Case, targets: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """For which chips the other implementations lower and compile: part -> row with `status`."""
    found = {}
    for implementation in operation.others:
        for backward in (False, True) if case.wrt else (False,):
            label = f"{case.name}/backward/" if backward else f"{case.name}/"
            call = operation.call(case, implementation, backward)
            said = [f"{target}: {_status(call, case.specs(), target)}" for target in targets]
            status = "; ".join([*said, NOT_MEASURED])
            found[label + implementation] = _unknown(status)
    return found


def difference(found: Any, wanted: Any) -> float:
    """The largest difference between two trees of arrays, over the largest value of the second."""
    worst = 0.0
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
        scale = jnp.maximum(jnp.abs(b).max(), jnp.finfo(jnp.float32).tiny)
        worst = max(worst, float(jnp.abs(a - b).max() / scale))
    return worst


def fastest(name: str, phases: Mapping[str, Mapping[str, Any]], tolerance: float = 2e-2) -> str:
    """The implementation that is faster than XLA in every case of an operation, or "xla".

    A result further than `tolerance` from XLA's does not count; bfloat16 rounds to 1 in 256.
    """
    speeds: dict[str, list[float]] = {}
    for part, row in phases.items():
        operation, *_, implementation = part.split("/")
        if operation == name and implementation != "xla":
            agrees = row.get("speedup") is not None and row["error"] <= tolerance
            speeds.setdefault(implementation, []).append(row["speedup"] if agrees else 0.0)
    best = {implementation: min(speed) for implementation, speed in speeds.items()}
    winner = max(best, key=best.get, default="xla")
    return winner if best.get(winner, 0.0) > 1.0 else "xla"


def _varied(tree: Any) -> Any:
    """Normal values where an array has the same one everywhere: of those a wrong sum may be right."""

    def vary(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating) or leaf.dtype.itemsize < 2:
            return leaf
        drawn = jax.random.normal(jax.random.key(leaf.size), leaf.shape).astype(leaf.dtype)
        return jnp.where(leaf.min() == leaf.max(), drawn, leaf)

    return jax.tree.map(vary, tree)


def _run(program, arguments):
    jax.block_until_ready(program(*arguments))


def _row(times: Times, case: Case, peaks: floors.Peaks, backward: bool) -> dict[str, Any]:
    # A gradient reads the arguments and writes as much again, at twice the operations.
    factor = 2.0 if backward else 1.0
    floor = floors.Work(factor * case.flops, factor * case.moved).seconds(peaks)
    return times.row() | {"floor": floor, "ratio_to_floor": times.median / floor}


def _unknown(status: str) -> dict[str, Any]:
    return {"median": None, "spread": None, "status": status}


def _status(call: Callable[..., Any], specs: Sequence[Any], target: str) -> str:
    try:
        if lowering.can_compile(target):
            lowering.compile_ahead(call, *specs, target=target)
            return "compiles"
        lowering.lower(call, *specs, target=target)
        return "lowers"
    except Unsupported as error:
        return f"none ({_first_line(error)})"
    except Exception as error:  # what a compiler refuses has no common type
        return f"fails ({_first_line(error)})"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
