"""Runs of experiments/train.py: started, stopped, and read."""

import os
import pathlib
import signal
import subprocess
import sys
import time

from script_process import EXPERIMENTS, run_script

from alpamayo_jax.train.writers import read_json_lines

HERE = pathlib.Path(__file__).resolve().parent


def train(config, workdir, **knobs):
    """Trains by the configuration `config` of this folder; `stage__steps=2` is a knob."""
    flags = [f"--config.{name.replace('__', '.')}={value}" for name, value in knobs.items()]
    return run_script("train", f"--config={HERE / config}", f"--workdir={workdir}", *flags)


def train_until_stopped(config, workdir, steps):
    """Stops a run of `steps` steps by SIGTERM once it has taken one; how many it took."""
    command = [
        sys.executable, str(EXPERIMENTS / "train.py"), f"--config={HERE / config}",
        f"--workdir={workdir}", "--config.run.save_every=100",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        deadline = time.monotonic() + 300
        while not read_json_lines(workdir / "metrics.jsonl"):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    stopped = len(read_json_lines(workdir / "metrics.jsonl"))
    if stopped < steps:  # it may have been too quick to be stopped
        assert f"stopped after step {stopped}; the same command" in out
        assert not (workdir / "summary.json").exists()
    return stopped


def weights_of(workdir):
    return (workdir / "checkpoint" / "model.safetensors").read_bytes()
