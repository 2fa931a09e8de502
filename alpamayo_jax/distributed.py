"""Several processes as one machine: start-up, agreement, and batches of which each holds its rows.

Call `initialise` before anything of JAX is computed. One process per host sees all of its devices.
"""

import dataclasses
import hashlib
import importlib.util
import os
import pathlib
import re
from typing import Any, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alpamayo_jax.config import ConfigError
from alpamayo_jax.sharding import AxisRules

LAUNCHES = ("auto", "none", "explicit", "slurm", "kubernetes", "tpu")

_ADDRESS, _COUNT, _INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID")
_FIRST_PORT, _PORTS = 61_440, 4096  # ephemeral ports; a job's number picks one
_DIGEST = 8  # bytes


@dataclasses.dataclass(frozen=True)
class Processes:
    """Who takes part in a run.

    Attributes:
      coordinator: "host:port" of process 0.
      count: how many processes.
      index: which one this is.
      local_devices: indices of the GPUs that are this process's; None: all it sees.
    """

    coordinator: str
    count: int
    index: int
    local_devices: tuple[int, ...] | None = None

    def __post_init__(self):
        if not 0 <= self.index < self.count or ":" not in self.coordinator:
            raise ConfigError(
                f"process {self.index} of {self.count} at coordinator {self.coordinator!r}: the "
                f"address must be host:port and the index in [0, count)"
            )


def find_processes(
    launch: str = "auto", environ: Mapping[str, str] = os.environ
) -> Processes | None:
    """What the environment says about the processes of this run; None: this one is alone.

    In this order, unless `launch` picks one:
      explicit: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID.
      kubernetes: the first two of these; an indexed Job's JOB_COMPLETION_INDEX is the process.
      slurm: what `srun` sets. With several tasks per node each takes the GPU of its local number.

    Args:
      launch: one of `LAUNCHES`; "tpu" has nothing to find here.
      environ: variables.

    Raises:
      ConfigError: an unknown launch, or variables that are missing or make no sense.
    """
    if launch not in LAUNCHES:
        raise ConfigError(f"launch {launch!r} is unknown; known: {', '.join(LAUNCHES)}")
    index = _INDEX
    if launch == "kubernetes" or (_INDEX not in environ and "JOB_COMPLETION_INDEX" in environ):
        index = "JOB_COMPLETION_INDEX"
    wanted = (_ADDRESS, _COUNT, index)
    present = [name for name in wanted if name in environ]
    if launch in ("explicit", "kubernetes") or (launch == "auto" and _COUNT in present):
        _require(environ, wanted, launch)
        count, number = _numbers(environ, _COUNT, index)
        return Processes(environ[_ADDRESS], count, number)
    if launch == "slurm" or (launch == "auto" and all(name in environ for name in _SLURM)):
        _require(environ, _SLURM, "slurm")
        return _slurm(environ)
    return None


def initialise(
    launch: str = "auto", environ: Mapping[str, str] = os.environ, timeout_s: int = 300
) -> tuple[int, int]:
    """Joins the processes of this run, if there are others.

    Args:
      launch: see `find_processes`; "auto" also finds TPU pods, "none" never joins anything.
      environ: variables.
      timeout_s: how long to wait for the others.

    Returns:
      (index of this process, number of processes).

    Raises:
      ConfigError: see `find_processes`; or the others did not come.
    """
    found = find_processes(launch, environ)
    if found is not None and found.count > 1:
        try:
            jax.distributed.initialize(
                found.coordinator,
                found.count,
                found.index,
                local_device_ids=found.local_devices,
                cluster_detection_method="deactivate",
                initialization_timeout=timeout_s,
            )
        except RuntimeError as error:
            raise ConfigError(
                f"process {found.index} of {found.count} could not join the run at "
                f"{found.coordinator} within {timeout_s} s; check that all processes started, that "
                f"the port is open, and that JAX was not used before: {error}"
            ) from error
    elif launch == "tpu" or (launch == "auto" and found is None and _on_tpu_host(environ)):
        jax.distributed.initialize(initialization_timeout=timeout_s)
    return jax.process_index(), jax.process_count()


def require_agreement(values: Mapping[str, Any], what: str = "configuration") -> None:
    """Compares flat `values` among all processes; all of them raise, or none.

    Args:
      values: name -> anything with an exact `repr`, such as a flattened configuration.
      what: for the message.

    Raises:
      ConfigError: names the entries that differ, with this process's values.
    """
    if jax.process_count() == 1:
        return
    names = sorted(values)
    if not _agree([_digest(repr(names))])[0]:
        raise ConfigError(
            f"the processes do not have the same entries in their {what}; process "
            f"{jax.process_index()} has {', '.join(names)}. Start all from the same files and flags"
        )
    same = _agree([_digest(repr(values[name])) for name in names])
    differ = [f"{name}={values[name]!r}" for name, equal in zip(names, same) if not equal]
    if differ:
        raise ConfigError(
            f"the processes disagree on the {what}; process {jax.process_index()} of "
            f"{jax.process_count()} has {', '.join(differ)}. Start all from the same files and flags"
        )


def wait_for_all(what: str) -> None:
    """Returns once every process has called it with the same words."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def row_shard(mesh: Mesh, rules: AxisRules) -> tuple[int, int]:
    """(which part of every global batch this process feeds, how many parts there are).

    Processes that share rows, because a model axis spans them, have the same part and must feed the
    same data.

    Raises:
      ConfigError: the rows of a process overlap those of another without being the same.
    """
    parts = int(np.prod([mesh.shape[axis] for axis in rules.batch], dtype=int))
    where = NamedSharding(mesh, PartitionSpec(rules.batch or None))
    rows: dict[int, set[int]] = {}
    for device, (index,) in where.devices_indices_map((parts,)).items():
        rows.setdefault(device.process_index, set()).update(range(parts)[index])
    blocks = sorted({tuple(sorted(own)) for own in rows.values()})
    if sum(map(len, blocks)) != parts or len({len(block) for block in blocks}) != 1:
        raise ConfigError(
            f"mesh {dict(mesh.shape)} does not give each process the same number of rows of its "
            f"own: {blocks}; let the axes {', '.join(rules.batch)} span whole processes"
        )
    return blocks.index(tuple(sorted(rows[jax.process_index()]))), len(blocks)


def global_batch(local: Any, shardings: Any) -> Any:
    """Arrays of the whole batch out of the rows that each process holds.

    Args:
      local: NumPy arrays, the rows of this process; all processes have equally many.
      shardings: like `local`, from `sharding.batch_shardings` of the global sizes.
    """
    if jax.process_count() == 1:
        return jax.device_put(local, shardings)
    return jax.tree.map(
        lambda array, where: jax.make_array_from_process_local_data(where, np.asarray(array)),
        local,
        shardings,
    )


def _agree(digests: list[bytes]) -> np.ndarray:
    """Per digest, whether all processes have the same one."""
    own = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), _DIGEST)
    everyone = np.asarray(multihost_utils.process_allgather(own))
    return (everyone == everyone[:1]).all(axis=(0, 2))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST).digest()


def _require(environ: Mapping[str, str], names: tuple[str, ...], launch: str) -> None:
    missing = [name for name in names if not environ.get(name)]
    if missing:
        raise ConfigError(f"launch {launch!r} needs {', '.join(missing)} in the environment")


def _numbers(environ: Mapping[str, str], *names: str) -> list[int]:
    for name in names:
        if not environ[name].isdigit():
            raise ConfigError(f"{name}={environ[name]!r} in the environment must be a number")
    return [int(environ[name]) for name in names]


def _slurm(environ: Mapping[str, str]) -> Processes:
    job, count, index = _numbers(environ, "SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_PROCID")
    nodes = environ["SLURM_STEP_NODELIST"]
    # "node7", "node7,other", "node[07-15,20],other": the first name.
    first = re.match(r"([^\[,]+)(?:\[([^\],-]+))?", nodes)
    if first is None:
        raise ConfigError(f"SLURM_STEP_NODELIST={nodes!r} names no node")
    host = "".join(part or "" for part in first.groups())
    several = environ.get("SLURM_STEP_TASKS_PER_NODE", "1").split("(")[0].split(",")[0] != "1"
    given = environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    local = None
    if several and len(given) != 1 or several and given == [""]:
        local = tuple(_numbers(environ, "SLURM_LOCALID"))
    return Processes(f"{host}:{_FIRST_PORT + job % _PORTS}", count, index, local)


def _on_tpu_host(environ: Mapping[str, str]) -> bool:
    if environ.get("JAX_PLATFORMS", "tpu") not in ("", "tpu"):
        return False
    if "TPU_WORKER_HOSTNAMES" in environ or "MEGASCALE_COORDINATOR_ADDRESS" in environ:
        return True
    chips = any(pathlib.Path(path).exists() for path in ("/dev/accel0", "/dev/vfio/0"))
    return chips and importlib.util.find_spec("libtpu") is not None
