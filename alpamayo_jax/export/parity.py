"""The gate: exported programs run on windows of drives, and compared with the model in JAX."""

import dataclasses
from typing import Any, Callable, Mapping, Sequence

import jax
import numpy as np

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.decode.sample import sample_program
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.export.driving import drive
from alpamayo_jax.export.manifest import Parity
from alpamayo_jax.export.stages import STAGES, Sizes, host_facts, make_stages
from alpamayo_jax.flow import samplers
from alpamayo_jax.types import ModelInputs

# Largest error that passes: absolute in float32; in narrower formats relative to the largest
# magnitude of the output, as rounding is.
TOLERANCES = {"fp32": 1e-4, "bf16": 0.1, "fp8": 0.1, "int8": 0.1, "nvfp4": 0.1}
_COMPARED_STEPS = 2  # of a reasoning trace; each compares whole caches
_NUDGE = 2.0**-21  # relative, four units in the last place of float32

# (stage, inputs) -> outputs, as `driving.Call`.
Run = Callable[[str, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


class Reference:
    """The model in JAX: its stages, and the library's own way from pixels to trajectories."""

    def __init__(self, config: ModelConfig, params: Mapping[str, Any], sizes: Sizes):
        self.config, self.sizes = config, sizes
        self._params = params
        self.stages = make_stages(config, params, sizes, unroll=False)
        self._calls = {name: jax.jit(stage.function) for name, stage in self.stages.items()}
        settings = SampleSettings(
            num_samples=sizes.samples, max_new_tokens=sizes.new_tokens, greedy=True
        )
        self._sample = jax.jit(
            lambda params, inputs, noise: sample_program(
                params, inputs, jax.random.key(0), config, settings, noise=noise
            )
        )

    def run(self, stage: str, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """One stage; other values than its inputs are not read."""
        made = self.stages[stage]
        inputs = {name: np.asarray(values[name]) for name in made.inputs}
        out = self._calls[stage](dict(made.weights), inputs)
        return {name: np.asarray(array) for name, array in out.items()}

    def sample(self, inputs: ModelInputs, noise: np.ndarray) -> dict[str, np.ndarray]:
        """What `decode.sample` gives: outputs as of stage "policy"."""
        out = self._sample(self._params, inputs, noise)
        generation = out.generation
        return {
            "token_ids": np.asarray(generation.token_ids)[:, 0],
            "end_index": np.asarray(generation.end_index)[:, 0],
            "actions": np.asarray(out.actions),
            "xyz": np.asarray(out.trajectory.xyz),
            "rot": np.asarray(out.trajectory.rot),
        }

    def calls(self, inputs: ModelInputs, noise: np.ndarray) -> list[tuple[str, dict, dict]]:
        """(stage, values, outputs) of every stage on one window, each on what came before it."""
        made: list[tuple[str, dict, dict]] = []
        counts: dict[str, int] = {}

        def call(stage: str, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
            out = self.run(stage, values)
            counts[stage] = counts.get(stage, 0) + 1
            if counts[stage] <= _COMPARED_STEPS:
                made.append((stage, dict(values), out))
            if stage == "flow_loop":
                made.extend(self._flow_steps(values, noise))
            return out

        given = inputs.named_arrays()
        drive(call, host_facts(self.config), given, noise, self.sizes.new_tokens)
        made.append(("policy", {**given, "noise": noise}, self.sample(inputs, noise)))
        return made

    def _flow_steps(
        self, values: Mapping[str, Any], x: np.ndarray
    ) -> list[tuple[str, dict, dict]]:
        """Stage "flow_step" at every state that the loop passes through from noise `x`."""
        values, made = {n: v for n, v in values.items() if n != "noise"}, []
        grid = samplers.time_grid(self.config.flow.num_inference_steps)
        for t, dt in zip(grid, np.diff(grid)):
            at = {**values, "x": x, "t": np.full(x.shape[:2], t, np.float32)}
            out = self.run("flow_step", at)
            made.append(("flow_step", at, out))
            x = x + dt * out["velocity"].astype(np.float32)
        return made


def noises(count: int, sizes: Sizes, waypoints: int, seed: int = 0) -> np.ndarray:
    """Noise of every window, float32 [count, 1, K, W, 2]."""
    shape = count, 1, sizes.samples, waypoints, 2
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def nudge(noise: np.ndarray) -> np.ndarray:
    """Noise that float32 can hardly tell from `noise`: every value moved by 2^-21 of itself."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], noise.shape)
    return (noise * (1.0 + _NUDGE * signs)).astype(np.float32)


class _Errors:
    """The largest differences of one stage so far, and those of JAX from itself."""

    def __init__(self):
        self.errors: dict[str, float] = {}
        self.floors: dict[str, float] = {}
        self.tokens: bool | None = None

    def passes(self, tolerance: float) -> bool:
        return bool(self.errors) and self.tokens is not False and not self.beyond(tolerance)

    def beyond(self, tolerance: float) -> list[str]:
        return [
            name
            for name, error in self.errors.items()
            if error > max(tolerance, self.floors.get(name, 0.0))
        ]

    def add(
        self, want: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray], relative: bool
    ) -> None:
        self._note(self.errors, want, got, relative)
        if "token_ids" in want:
            same = np.array_equal(want["token_ids"], got["token_ids"])
            self.tokens = same if self.tokens is None else self.tokens and same

    def allow(
        self, one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], relative: bool
    ) -> None:
        self._note(self.floors, one, other, relative)

    def _note(self, largest, want, got, relative) -> None:
        for name, expected in want.items():
            found = np.asarray(got[name])
            if expected.shape != found.shape:
                error = float("inf")
            elif np.issubdtype(expected.dtype, np.integer) or expected.dtype == bool:
                error = float((expected != found).sum())
            else:
                wide = expected.astype(np.float64)
                error = float(np.abs(wide - found.astype(np.float64)).max(initial=0.0))
                if relative:
                    error /= max(float(np.abs(wide).max(initial=0.0)), 1e-6)
            # NaN, and what is no number to JSON, is as far off as can be.
            error = error if np.isfinite(error) else 1e30
            largest[name] = max(largest.get(name, 0.0), error)


def compare(
    reference: Reference,
    run: Run,
    windows: Sequence[ModelInputs],
    *,
    runner: str,
    precision: str = "fp32",
    names: Sequence[str] = STAGES,
    tolerance: float | None = None,
    seed: int = 0,
) -> dict[str, Parity]:
    """Runs exported stages on windows and compares their outputs with those of JAX.

    Each stage gets what JAX computed before it, so that an error has one origin. Stage "policy" is
    compared with the library's own sampling: same tokens, same trajectories.

    The action projection reads sines of up to 100 turns per unit of action, so a flow can amplify the
    last bits of its state thousands of times, and two runtimes that order sums differently drift
    apart. How far JAX drifts from itself when the noise moves by four units in the last place is
    measured beside the errors (`Parity.floors`); no runtime is asked for less.

    Args:
      reference: the model in JAX, in the precision of the export.
      run: runs an exported stage.
      windows: batches of one row.
      runner: what runs it, for the manifest.
      precision: decides what an error is, see `TOLERANCES`.
      names: stages that were exported.
      tolerance: instead of that of the precision.
      seed: of the noise.
    """
    tolerance = TOLERANCES[precision] if tolerance is None else tolerance
    relative = precision != "fp32"
    found = {name: _Errors() for name in names}
    waypoints = reference.config.action.n_waypoints
    for inputs, noise in zip(windows, noises(len(windows), reference.sizes, waypoints, seed)):
        for stage, values, want in reference.calls(inputs, noise):
            if stage in found:
                found[stage].add(want, run(stage, values), relative)
                if "noise" in values:
                    nudged = {**values, "noise": nudge(values["noise"])}
                    same, other = (reference.run(stage, each) for each in (values, nudged))
                    found[stage].allow(same, other, relative)
    compute = reference.config.precision.compute
    return {
        name: Parity(
            windows=len(windows),
            runner=runner,
            reference=f"jax {jax.__version__} {jax.default_backend()}, {compute}",
            errors=each.errors,
            tolerance=tolerance,
            tokens_identical=each.tokens,
            passed=each.passes(tolerance),
            floors=each.floors,
        )
        for name, each in found.items()
    }
