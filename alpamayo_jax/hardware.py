"""What accelerators can hold and compute, and what this one was measured to compute.

Numbers are the makers' data sheets: memory in units of 10^9 bytes, dense bfloat16 products without
sparsity.
"""

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp

from alpamayo_jax.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device of a mesh.

    Attributes:
      name: what we call it.
      memory_bytes: of its own memory.
      peak_flops: bfloat16 operations per second, a multiply-add is two.
      kinds: parts of `jax.Device.device_kind` that mean this chip, lower case.
      usable: share of the memory that programs get. GPUs: what the launch files give XLA; the rest
        is for the driver, cuBLAS and NCCL.
    """

    name: str
    memory_bytes: float
    peak_flops: float
    kinds: tuple[str, ...]
    usable: float = 0.92


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("B200", 180e9, 2250e12, ("b200",)),
        Chip("H200", 141e9, 989e12, ("h200",)),
        Chip("H100", 80e9, 989e12, ("h100",)),
        Chip("A100-80", 80e9, 312e12, ("a100-sxm4-80gb", "a100 80gb", "a100-pcie-80gb")),
        Chip("A100", 40e9, 312e12, ("a100",)),
        Chip("L40S", 48e9, 362e12, ("l40s",)),
        Chip("RTX4090", 24e9, 165e12, ("rtx 4090",)),
        Chip("v5e", 16e9, 197e12, ("tpu v5 lite", "tpu v5e"), usable=0.98),
        Chip("v5p", 95e9, 459e12, ("tpu v5p", "tpu v5"), usable=0.98),
        Chip("v6e", 32e9, 918e12, ("tpu v6 lite", "tpu v6e"), usable=0.98),
    )
}


def chip(name: str) -> Chip:
    """The chip called `name`, in any case.

    Raises:
      ConfigError: no chip of that name.
    """
    by_lower = {known.lower(): value for known, value in CHIPS.items()}
    if name.lower() not in by_lower:
        raise ConfigError(f"device {name!r} is unknown; known: {', '.join(CHIPS)}")
    return by_lower[name.lower()]


def chip_of(device: jax.Device) -> Chip | None:
    """The chip that a JAX device is, or None for one that is not listed (a CPU, say)."""
    kind = device.device_kind.lower()
    for known in CHIPS.values():
        if any(part in kind for part in known.kinds):
            return known
    return None


def peak_flops(device: jax.Device | None = None) -> float:
    """bfloat16 operations per second of a device: its data sheet, or else measured once.

    Args:
      device: default the first.
    """
    device = jax.devices()[0] if device is None else device
    known = chip_of(device)
    return measured_flops(device) if known is None else known.peak_flops


@functools.cache
def measured_flops(device: jax.Device, dtype: str = "float32", size: int = 1024) -> float:
    """The best rate of a square matrix product on `device`, in operations per second.

    Args:
      device: where.
      dtype: of the operands. CPUs without narrow matrix units are fastest in float32.
      size: side of the matrices.
    """
    x = jax.device_put(jnp.ones((size, size), dtype), device)
    product = jax.jit(lambda a, b: a @ b)
    product(x, x).block_until_ready()
    best, end = float("inf"), time.perf_counter() + 0.3
    while time.perf_counter() < end:
        begin = time.perf_counter()
        product(x, x).block_until_ready()
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


@functools.cache
def measured_bandwidth(device: jax.Device, size: int = 256 * 2**20) -> float:
    """The best rate at which `device` reads or copies a large array, in bytes per second.

    A copy reads and writes. CPUs read a line before they write it, so there reading alone, which is
    what weights and caches need, is faster; whichever is.

    Args:
      device: where.
      size: bytes of the array.
    """
    x = jax.device_put(jnp.ones(size // 4, jnp.float32), device)
    best = 0.0
    for moved, program in ((2 * size, jax.jit(lambda a: a + 1)), (size, jax.jit(jnp.sum))):
        program(x).block_until_ready()
        end = time.perf_counter() + 0.3
        while time.perf_counter() < end:
            begin = time.perf_counter()
            program(x).block_until_ready()
            best = max(best, moved / (time.perf_counter() - begin))
    return best
