"""Suite "first": seconds from the start of a process to its first trajectory.

Everything counts that a user waits for: imports, parameters, tracing, compilation, one run.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, Mapping, Sequence

import jax
import numpy as np

from alpamayo_jax.benchmark.policy import Case
from alpamayo_jax.decode.sample import sample_program

_IMPORTED = time.time()
_LIMIT_S = 1800  # of a child; a program of the largest model compiles in a few minutes


class ChildFailed(RuntimeError):
    """A process of its own could not do what it was started for."""


def run(make: Callable[[], tuple[Case, dict]], samples: int = 1) -> dict[str, Any]:
    """Samples once in this process, then once more.

    Args:
      make: gives the case and the parameters of its policy.
      samples: K.

    Returns:
      phases: "imports", "parameters", "compile", "run" and "second_run"; "first_trajectory" is the
      sum of the first four.
    """
    seconds = {"imports": time.time() - process_start()}
    begin = time.perf_counter()

    def lap() -> float:
        nonlocal begin
        last, begin = begin, time.perf_counter()
        return begin - last

    one, params = make()
    jax.block_until_ready(params)
    seconds["parameters"] = lap()
    inputs, rng = jax.device_put(one.inputs()), jax.random.key(0)
    settings = one.settings(samples)
    program = jax.jit(lambda p, i, r: sample_program(p, i, r, one.config, settings))
    program = program.lower(params, inputs, rng).compile()
    seconds["compile"] = lap()
    np.asarray(program(params, inputs, rng).trajectory.xyz)
    seconds["run"] = lap()
    seconds["first_trajectory"] = sum(seconds.values())
    begin = time.perf_counter()
    np.asarray(program(params, inputs, rng).trajectory.xyz)
    seconds["second_run"] = lap()
    return {"phases": {name: once(value) for name, value in seconds.items()}}


def in_new_processes(arguments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Runs this suite twice in processes of its own: on an empty compilation cache, and on the full.

    Call it before this process uses an accelerator; two seldom fit.

    Args:
      arguments: flags of `experiments/benchmark.py` that say which model.

    Returns:
      "first_trajectory/empty_cache" and "first_trajectory/full_cache" -> a row, its `parts`.

    Raises:
      ChildFailed: a process failed; with what it said last.
    """
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": os.path.join(folder, "xla")}
        command = [sys.executable, sys.argv[0], "--suite=first", *arguments, f"--workdir={folder}"]
        for cache in ("empty_cache", "full_cache"):
            _child(command, environment)
            summary = json.loads((pathlib.Path(folder) / "summary.json").read_text())
            parts = {name: row["median"] for name, row in summary["phases"].items()}
            rows[f"first_trajectory/{cache}"] = once(parts.pop("first_trajectory"), parts=parts)
    return rows


def backend() -> str:
    """The backend that JAX would choose, without choosing it: what holds an accelerator keeps it."""
    return _child([sys.executable, "-c", "import jax; print(jax.default_backend())"]).split()[-1]


def _child(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        raise ChildFailed(f"{command[2]} was not done after {_LIMIT_S} s") from None
    if done.returncode:
        raise ChildFailed(f"{command[2]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def once(seconds: float, **more: Any) -> dict[str, Any]:
    """A row of something that was done once."""
    return {"median": seconds, "spread": [seconds, seconds], "times": 1, **more}


def process_start() -> float:
    """When this process began, seconds since 1970; where the system does not say, its imports."""
    try:
        own = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        boot = next(
            float(line.split()[1])
            for line in pathlib.Path("/proc/stat").read_text().splitlines()
            if line.startswith("btime")
        )
        return boot + int(own[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, StopIteration):
        return _IMPORTED
