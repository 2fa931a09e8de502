"""Devices to compile for that are not there."""

import dataclasses
import math
from typing import Any, Mapping, Sequence

import jax
from jax.experimental import topologies

from alpamayo_jax.config import ConfigError
from alpamayo_jax.hardware import Chip
from alpamayo_jax.kernels.lowering import find_target

COMPILERS = ("cpu", "cuda")
_GPUS_PER_HOST = 8

_BANDWIDTH = {"H100": 3.35e12, "H200": 4.8e12}  # bytes per second


@dataclasses.dataclass(frozen=True)
class Virtual:
    """Where a program can be compiled.

    Attributes:
      devices: at least as many as asked for.
      options: that its compiler needs.
    """

    devices: Sequence[Any]
    options: Mapping[str, Any]


def start_cpus(count: int) -> None:
    """Makes this process one of `count` virtual CPUs; before its first computation, or never."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", count)


def virtual_devices(compiler: str, chip: Chip, count: int) -> Virtual:
    """`count` devices of a compiler: CPUs in place of any chip, or the chip itself.

    "cpu" works everywhere, see `start_cpus`. "cuda" gives the program that
    the GPU will run; it needs the packages jax-cuda13-plugin and jax-cuda13-pjrt, but neither a GPU
    nor a driver.

    Args:
      compiler: one of `COMPILERS`.
      chip: what the program is for.
      count: how many.

    Raises:
      ConfigError: an unknown compiler, one that is not installed or does not know the chip, or JAX
        already runs on fewer CPUs.
    """
    if compiler == "cuda":
        return Virtual(_gpus(chip, count), {
            # Tuning times programs on a GPU; without it, only cuBLAS products are sure to compile.
            "xla_gpu_autotune_level": "0",
            "xla_gpu_enable_triton_gemm": False,
        })  # fmt: skip
    if compiler != "cpu":
        raise ConfigError(f"compiler {compiler!r} is unknown; known: {', '.join(COMPILERS)}")
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise ConfigError(
            f"{count} devices are needed, JAX runs on {len(devices)} CPU device(s); call "
            f"start_cpus before the first computation"
        )
    # Nobody runs the program: machine code need not be fast, only quick to make.
    return Virtual(devices, {"xla_backend_optimization_level": 0})


def _gpus(chip: Chip, count: int) -> Sequence[Any]:
    if chip.name not in _BANDWIDTH:
        raise ConfigError(
            f"compiler 'cuda' knows {', '.join(_BANDWIDTH)}, not {chip.name}; use compiler 'cpu'"
        )
    per_host = math.gcd(count, _GPUS_PER_HOST)
    # An H200 is an H100 with another memory.
    target = dataclasses.replace(
        find_target("h100"),
        device_kind=f"NVIDIA {chip.name}",
        memory_bytes=round(chip.memory_bytes),
        bandwidth=round(_BANDWIDTH[chip.name]),
    )
    try:
        topology = topologies.get_topology_desc(
            f"nvidia_{chip.name.lower()}",
            platform="cuda",
            target_config=target.description(),
            topology=f"1x{count // per_host}x{per_host}",
        )
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise ConfigError(
            f"compiler 'cuda' cannot start ({error}); install jax-cuda13-plugin and "
            f"jax-cuda13-pjrt in the version of jax"
        ) from None
    return topology.devices


def bandwidth(chip: Chip) -> float:
    """Bytes per second of a chip's memory, from its data sheet.

    Raises:
      ConfigError: it is not known here.
    """
    if chip.name not in _BANDWIDTH:
        raise ConfigError(f"the bandwidth of {chip.name} is not known; known: {', '.join(_BANDWIDTH)}")
    return _BANDWIDTH[chip.name]
