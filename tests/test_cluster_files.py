"""The launch files under configs/cluster: they parse, and say what the code understands."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from alpamayo_jax.distributed import find_processes
from alpamayo_jax.hardware import CHIPS

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "configs" / "cluster"


@pytest.fixture
def manifests():
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all((FOLDER / "gke.yaml").read_text()))


def test_slurm_runs_one_process_per_node(tmp_path):
    """With srun replaced by a note of what it was given."""
    fake = tmp_path / "srun"
    fake.write_text('#!/bin/sh\nenv > seen.txt\necho "$@" > asked.txt\n')
    fake.chmod(0o755)
    command = ["bash", FOLDER / "slurm.sh", "--config=a b", "--workdir=out"]
    own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "XLA_FLAGS": "--own"}
    subprocess.run(command, check=True, cwd=tmp_path, env=os.environ | own)
    asked = (tmp_path / "asked.txt").read_text()
    assert "experiments/train.py --launch=slurm --config=a b --workdir=out" in asked
    lines = (tmp_path / "seen.txt").read_text().splitlines()
    seen = dict(line.split("=", 1) for line in lines if "=" in line)
    assert seen["XLA_FLAGS"].endswith(" --own")
    assert seen["JAX_COMPILATION_CACHE_DIR"].startswith(str(tmp_path))
    assert float(seen["XLA_PYTHON_CLIENT_MEM_FRACTION"]) == CHIPS["H100"].usable


def test_kubernetes_processes_find_each_other(manifests):
    service, job = manifests
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    found = find_processes("kubernetes", env | {"JOB_COMPLETION_INDEX": "3"})
    assert found.count == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert found.index == 3
    host, port = found.coordinator.split(":")
    assert host == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert [{"containerPort": int(port)}] == container["ports"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert float(env["XLA_PYTHON_CLIENT_MEM_FRACTION"]) == CHIPS["H100"].usable
    assert "--launch=kubernetes" in container["command"]


def test_xla_knows_the_flags(manifests):
    """An unknown flag would end every process at its start."""
    (container,) = manifests[1]["spec"]["template"]["spec"]["containers"]
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    lines = (FOLDER / "slurm.sh").read_text()
    flags = re.findall(r"^ +(--xla\S+)", lines, re.MULTILINE)
    assert flags == env["XLA_FLAGS"].split()
    program = "import jax; print(jax.device_count())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_configurations_they_name_exist():
    for file in FOLDER.iterdir():
        for name in re.findall(r"configs/\w+\.py", file.read_text()):
            assert (FOLDER.parents[1] / name).exists(), f"{file.name} names {name}"
