"""Runs scripts of experiments/ as processes of their own.

Importing JAX takes seconds, so the processes are forked from one that has done it; apart from that
each is what `python experiments/NAME.py` is: own memory, own flags, own exit code, own streams.
"""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import pathlib
import runpy
import sys
import tempfile
import time

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"
_PRELOADED = ("alpamayo_jax.reporting", "alpamayo_jax.recipe", "ml_collections.config_flags")

# What evaluate.py is asked for too, so that the two share one compiled program.
NUM_SAMPLES, BATCH_SIZE, MAX_NEW_TOKENS, NUM_FRAMES = 2, 2, 8, 2
SHORT = {
    "data.num_clips": 2,
    "data.num_test_clips": 1,
    "data.train_stride_s": 4.0,
    "data.num_frames": NUM_FRAMES,
    "tokens.steps": 2,
    "tokens.batch_size": 2,
    "sft.steps": 2,
    "sft.batch_size": 2,
    "grpo.steps": 2,
    "grpo.batch_size": 2,
    "rl.num_samples": 2,
    "rl.max_reasoning_tokens": MAX_NEW_TOKENS,
    "rl.eval_windows": 2,
    "rl.eval_samples": 2,
    "rl.picture_every": 1,
    "expert.steps": 2,
    "expert.batch_size": 2,
    "expert.noises_per_row": 2,
    "eval.num_samples": NUM_SAMPLES,
    "eval.batch_size": BATCH_SIZE,
    "eval.max_new_tokens": MAX_NEW_TOKENS,
    "eval.max_windows": 3,
    "eval.pictures": 1,
    "closed_loop.scenes": 2,
    "closed_loop.seconds": 5.0,
    "closed_loop.plan_every": 10,
}


@dataclasses.dataclass(frozen=True)
class Done:
    """Exit code, and the two streams as text."""

    returncode: int
    stdout: str
    stderr: str


@dataclasses.dataclass(frozen=True)
class PipelineRun:
    """What the pipeline printed, and its workdir."""

    done: Done
    workdir: pathlib.Path

    @property
    def checkpoint(self) -> pathlib.Path:
        return self.workdir / "checkpoint"


def pipeline_flags(workdir: pathlib.Path, **knobs) -> list[str]:
    """Flags of a run with little to do; `knobs` as data__root=..."""
    values = SHORT | {name.replace("__", "."): value for name, value in knobs.items()}
    config = EXPERIMENTS.parent / "configs" / "tiny.py"
    given = [f"--config.{name}={value}" for name, value in values.items()]
    return [f"--config={config}", f"--workdir={workdir}", *given]


def run_script(name: str, *args: str, limit_s: float = 600.0) -> Done:
    """`python experiments/NAME.py ARGS`; raises `TimeoutError` after `limit_s` seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    with tempfile.TemporaryDirectory() as folder:
        files = [os.path.join(folder, stream) for stream in ("stdout", "stderr")]
        script = str(EXPERIMENTS / f"{name}.py")
        process = context.Process(target=_run, args=(script, list(map(str, args)), files))
        process.start()
        process.join(limit_s)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"{name}.py took more than {limit_s} s")
        out, err = (pathlib.Path(f).read_text(encoding="utf-8") for f in files)
        return Done(process.exitcode, out, err)


@contextlib.contextmanager
def started(name: str, *args: str, says: str, limit_s: float = 300.0):
    """A script that goes on until it is ended; yields the line of its stdout that has `says`.

    It gets SIGTERM in the end, and must then be gone within a minute with exit code 0.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    with tempfile.TemporaryDirectory() as folder:
        files = [os.path.join(folder, stream) for stream in ("stdout", "stderr")]
        script = str(EXPERIMENTS / f"{name}.py")
        process = context.Process(target=_run, args=(script, list(map(str, args)), files))
        process.start()
        try:
            yield _line(process, files, says, limit_s)
            process.terminate()
            process.join(60.0)
            assert process.exitcode == 0, pathlib.Path(files[1]).read_text()[-2000:]
        finally:
            process.kill()


def _line(process, files: list[str], says: str, limit_s: float) -> str:
    end = time.monotonic() + limit_s
    while time.monotonic() < end and process.is_alive():
        out = pathlib.Path(files[0])
        lines = out.read_text().splitlines(keepends=True) if out.exists() else []
        for line in lines:
            if says in line and line.endswith("\n"):
                return line
        time.sleep(0.2)
    err = pathlib.Path(files[1])
    raise AssertionError(err.read_text()[-2000:] if err.exists() else "it did not start")


def _run(script: str, args: list[str], files: list[str]) -> None:
    for file, stream in zip(files, (1, 2)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream)
    sys.argv = [script, *args]
    runpy.run_path(script, run_name="__main__")


def assert_refused(done: Done, name: str, *words: str) -> None:
    """The script gave up with exit code 2 and one sentence of its own that has `words`."""
    own = [line for line in done.stderr.splitlines() if line.startswith(f"{name}.py: ")]
    assert done.returncode == 2, done.stderr
    assert len(own) == 1 and done.stderr.splitlines()[-1] == own[0], done.stderr
    assert "Traceback" not in done.stderr
    assert [word for word in words if word not in own[0]] == [], own[0]


def snapshot(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file below a folder, by name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def read_summary(workdir: pathlib.Path) -> dict:
    """What a script wrote to `summary.json` of its workdir."""
    return json.loads((workdir / "summary.json").read_text())
