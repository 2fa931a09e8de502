"""Which processes take part, whether they agree, and two of them against one."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from alpamayo_jax import distributed
from alpamayo_jax.config import ConfigError
from alpamayo_jax.distributed import Processes, find_processes
from alpamayo_jax.sharding import AxisRules, batch_shardings, make_mesh
from alpamayo_jax.testing.tiny import GRIDS, random_train_batch, tiny_config

EXPLICIT = {
    "JAX_COORDINATOR_ADDRESS": "first:1234", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"
}  # fmt: skip
INDEXED_JOB = {
    "JAX_COORDINATOR_ADDRESS": "job-0.svc:8476",
    "JAX_NUM_PROCESSES": "8",
    "JOB_COMPLETION_INDEX": "5",
}
SLURM = {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "gpu[007-009,012],login",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}


@pytest.mark.parametrize("launch", ["auto", "explicit"])
def test_explicit(launch):
    assert find_processes(launch, EXPLICIT) == Processes("first:1234", 4, 3)


@pytest.mark.parametrize("launch", ["auto", "kubernetes"])
def test_indexed_job(launch):
    assert find_processes(launch, INDEXED_JOB) == Processes("job-0.svc:8476", 8, 5)


def test_explicit_comes_before_the_job_index():
    assert find_processes("auto", INDEXED_JOB | {"JAX_PROCESS_ID": "1"}).index == 1


@pytest.mark.parametrize("nodes, host", [
    ("gpu[007-009,012],login", "gpu007"), ("gpu[12,14]", "gpu12"), ("a-1", "a-1"),
    ("a-1,b-2", "a-1"), ("n3.cluster,n4", "n3.cluster"),
])  # fmt: skip
def test_slurm_names_the_first_node(nodes, host):
    found = find_processes("auto", SLURM | {"SLURM_STEP_NODELIST": nodes})
    assert found == Processes(f"{host}:{61_440 + 1}", 4, 2)


@pytest.mark.parametrize("visible, devices", [("", (1,)), ("0,1,2,3", (1,)), ("2", None)])
def test_slurm_with_a_task_per_gpu(visible, devices):
    extra = {"SLURM_STEP_TASKS_PER_NODE": "2(x2)", "CUDA_VISIBLE_DEVICES": visible}
    assert find_processes("slurm", SLURM | extra).local_devices == devices


@pytest.mark.parametrize("launch", ["auto", "none", "tpu"])
def test_alone(launch):
    assert find_processes(launch, {"JAX_COORDINATOR_ADDRESS": "left:1"}) is None
    assert find_processes("none", EXPLICIT | SLURM) is None


@pytest.mark.parametrize("launch, environ, message", [
    ("mpi", {}, "'mpi' is unknown"),
    ("explicit", {}, "needs JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID"),
    ("auto", {"JAX_NUM_PROCESSES": "2"}, "needs JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID"),
    ("kubernetes", EXPLICIT, "needs JOB_COMPLETION_INDEX"),
    ("slurm", {}, "needs SLURM_JOB_ID"),
    ("auto", EXPLICIT | {"JAX_NUM_PROCESSES": "two"}, "'two' in the environment must be a number"),
    ("auto", EXPLICIT | {"JAX_PROCESS_ID": "4"}, "process 4 of 4"),
    ("auto", EXPLICIT | {"JAX_COORDINATOR_ADDRESS": "first"}, "must be host:port"),
])  # fmt: skip
def test_environments_that_make_no_sense(launch, environ, message):
    with pytest.raises(ConfigError, match=message):
        find_processes(launch, environ)


def test_one_process_joins_nothing_and_agrees_with_itself():
    assert distributed.initialise("none") == (0, 1)
    assert distributed.initialise("auto", EXPLICIT | {
        "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"
    }) == (0, 1)  # fmt: skip
    distributed.require_agreement({"a": 1})


def test_one_process_feeds_all_rows():
    mesh, rules = make_mesh(data=2, fsdp=2, tensor=2), AxisRules()
    assert distributed.row_shard(mesh, rules) == (0, 1)
    batch = jax.tree.map(np.asarray, random_train_batch(tiny_config(), GRIDS * 2))
    where = batch_shardings(batch, mesh, rules)
    placed = distributed.global_batch(batch, where)
    for ours, host, wanted in zip(*map(jax.tree.leaves, (placed, batch, where)), strict=True):
        np.testing.assert_array_equal(ours, host)
        assert ours.sharding.is_equivalent_to(wanted, ours.ndim)


def run_two(what: str, folder: pathlib.Path) -> list[dict]:
    """Two workers on this machine; what each found."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    worker = pathlib.Path(__file__).with_name("distributed_worker.py")
    root = str(worker.parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    runs = []
    for index in range(2):
        environ = os.environ | {
            "PYTHONPATH": path,
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(index),
        }
        command = [sys.executable, str(worker), what, str(folder / f"{index}.npz")]
        runs.append(
            subprocess.Popen(
                command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    try:
        outputs = [run.communicate(timeout=600)[0] for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0, 0], "\n".join(outputs)
    return [dict(np.load(folder / f"{index}.npz")) for index in range(2)]


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    from distributed_worker import train

    found = run_two("train", tmp_path)
    alone = train(jax.devices()[:4], 0, 1)
    for index, one in enumerate(found):
        assert (one["index"], one["count"], one["devices"]) == (index, 2, 4)
        assert one["row_shard"].tolist() == [index, 2]
        assert one["row_shard_tensor"].tolist() == [0, 1]
        assert f"process {index} of 2 has seed={index}." in str(one["differ"])
        assert "name" not in str(one["differ"]).split("has ")[1]
        assert f"has only_{index}, seed" in str(one["entries"])
        np.testing.assert_allclose(one["losses"], alone["losses"], rtol=1e-6)
        np.testing.assert_allclose(one["sums"], alone["sums"], rtol=1e-5)
    assert alone["losses"][-1] < alone["losses"][0]
