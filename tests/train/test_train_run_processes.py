"""A run of two processes: equal to one, resumed exactly, stopped together."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from alpamayo_jax.train.run import run_in_folder
from alpamayo_jax.train.writers import read_json_lines
from process_run import PROCESSES_STAGE
from small_runs import folder, small_training, write_clips

WORKER = pathlib.Path(__file__).resolve().parent / "process_run.py"
ROOT = WORKER.parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


def start(clips, out, slow_s=0.0):
    """Both processes."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "PYTHONPATH": path}
    return [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(clips), str(out)],
            env=os.environ | common | {"JAX_PROCESS_ID": str(i), "SLOW_S": str(slow_s)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]


def finish(processes):
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err[-2000:]


def wait_for_lines(out, count, processes):
    deadline = time.monotonic() + 300
    while len(read_json_lines(out / "metrics.jsonl")) < count:
        assert all(p.poll() is None for p in processes) and time.monotonic() < deadline
        time.sleep(0.01)


def params(out, step=PROCESSES_STAGE.steps):
    with np.load(out / f"params{step}.npz") as arrays:
        return [arrays[name] for name in arrays]


@pytest.fixture(scope="module")
def undisturbed(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    finish(start(clips, out))
    return out


def losses(out):
    return [line["loss"] for line in read_json_lines(out / "metrics.jsonl")]


def test_two_processes_train_as_one(clips, undisturbed, tmp_path):
    run_in_folder(
        small_training(clips, PROCESSES_STAGE), folder(tmp_path), log_every=1, progress=False
    )
    np.testing.assert_allclose(losses(undisturbed), losses(tmp_path), rtol=1e-4)


def test_killed_and_resumed(clips, undisturbed, tmp_path):
    processes = start(clips, tmp_path)
    wait_for_lines(tmp_path, 5, processes)
    for process in processes:
        process.kill()
        process.communicate()
    finish(start(clips, tmp_path))
    for found, expected in zip(params(tmp_path), params(undisturbed), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert losses(tmp_path) == losses(undisturbed)


def test_a_signal_to_one_stops_both_at_the_same_step(clips, undisturbed, tmp_path):
    processes = start(clips, tmp_path, slow_s=0.3)
    wait_for_lines(tmp_path, 2, processes)
    processes[1].send_signal(signal.SIGTERM)
    finish(processes)
    stopped = len(losses(tmp_path))
    assert stopped < PROCESSES_STAGE.steps
    newest = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert newest == stopped and (tmp_path / f"params{stopped}.npz").exists()
    finish(start(clips, tmp_path))
    for found, expected in zip(params(tmp_path), params(undisturbed), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_one_process_goes_on_where_two_stopped(clips, undisturbed, tmp_path):
    """Another number of hosts is another mesh: same data, same steps, other rounding."""
    processes = start(clips, tmp_path)
    wait_for_lines(tmp_path, 5, processes)
    for process in processes:
        process.kill()
        process.communicate()
    run_in_folder(
        small_training(clips, PROCESSES_STAGE), folder(tmp_path), log_every=1, progress=False
    )
    np.testing.assert_allclose(losses(tmp_path), losses(undisturbed), rtol=1e-4)
