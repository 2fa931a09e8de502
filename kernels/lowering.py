"""Lowering and compiling for accelerators that are not there.

`lower` needs JAX alone and shows that a kernel can be expressed for a chip. `compile_ahead` makes the
machine code, where the compiler is installed: jax-cuda13-plugin and jax-cuda13-pjrt for NVIDIA GPUs,
libtpu for TPUs; no GPU, TPU or driver is needed. Neither shows that the code is fast, or right.
"""

import contextlib
import dataclasses
import importlib.util
import os
from typing import Any, Callable, Iterator

import jax
from jax.experimental import topologies
from jax.sharding import AbstractDevice, AbstractMesh, SingleDeviceSharding, use_abstract_mesh

from alpamayo_jax.config import ConfigError
from alpamayo_jax.kernels.dispatch import Unsupported

# The custom calls that hold a kernel's code.
KERNEL_CALLS = ("__gpu$xla.gpu.triton", "mosaic_gpu_v2", "tpu_custom_call", "triton_kernel_call")


@dataclasses.dataclass(frozen=True)
class Target:
    """A chip to lower or compile for. GPU numbers are the maker's tuning guides and data sheets.

    Attributes:
      name: what we call it.
      platform: "cuda" or "tpu".
      device_kind: what JAX calls it.
      topology: the name the TPU compiler knows it by.
      capability: CUDA compute capability.
      cores: streaming multiprocessors.
      shared_memory: bytes that one block may take.
      shared_memory_core: bytes of one multiprocessor.
      threads_core: threads that one multiprocessor holds.
      l2_bytes: second-level cache.
      memory_bytes: device memory.
      bandwidth: of device memory, bytes per second.
      clock_ghz: of the multiprocessors.
    """

    name: str
    platform: str
    device_kind: str
    topology: str = ""
    capability: tuple[int, int] = (0, 0)
    cores: int = 1
    shared_memory: int = 0
    shared_memory_core: int = 0
    threads_core: int = 2048
    l2_bytes: int = 0
    memory_bytes: int = 0
    bandwidth: int = 0
    clock_ghz: float = 1.0

    def description(self) -> str:
        """What XLA's compiler for GPUs wants to know."""
        major, minor = self.capability
        return f"""
        gpu_device_info {{
          cuda_compute_capability {{ major: {major} minor: {minor} }}
          core_count: {self.cores}
          fpus_per_core: 128
          threads_per_warp: 32
          threads_per_block_limit: 1024
          threads_per_core_limit: {self.threads_core}
          registers_per_block_limit: 65536
          registers_per_core_limit: 65536
          shared_memory_per_block: 49152
          shared_memory_per_block_optin: {self.shared_memory}
          shared_memory_per_core: {self.shared_memory_core}
          block_dim_limit_x: 2147483647
          block_dim_limit_y: 65535
          block_dim_limit_z: 65535
          l2_cache_size: {self.l2_bytes}
          clock_rate_ghz: {self.clock_ghz}
          memory_bandwidth: {self.bandwidth}
          device_memory_size: {self.memory_bytes}
        }}
        platform_name: "CUDA"
        device_description_str: "{self.device_kind}"
        dnn_version_info {{ major: 9 minor: 7 }}
        runtime_version {{ major: 13 }}
        """


TARGETS = {
    target.name: target
    for target in (
        Target(
            "h100", "cuda", "NVIDIA H100", capability=(9, 0), cores=132, shared_memory=232448,
            shared_memory_core=233472, l2_bytes=52428800, memory_bytes=80 * 10**9,
            bandwidth=3350 * 10**9, clock_ghz=1.98,
        ),
        Target(
            "b200", "cuda", "NVIDIA B200", capability=(10, 0), cores=148, shared_memory=232448,
            shared_memory_core=233472, l2_bytes=132644864, memory_bytes=180 * 10**9,
            bandwidth=7700 * 10**9, clock_ghz=1.965,
        ),
        Target(
            "rtx_pro_6000", "cuda", "NVIDIA RTX PRO 6000 Blackwell", capability=(12, 0), cores=188,
            shared_memory=101376, shared_memory_core=131072, threads_core=1536, l2_bytes=134217728,
            memory_bytes=96 * 10**9, bandwidth=1792 * 10**9, clock_ghz=2.6,
        ),
        Target("v5e", "tpu", "TPU v5 lite", topology="v5e:2x2"),
        Target("v6e", "tpu", "TPU v6 lite", topology="v6e:2x2"),
    )
}  # fmt: skip
GPUS = tuple(name for name, known in TARGETS.items() if known.platform == "cuda")
TPUS = tuple(name for name, known in TARGETS.items() if known.platform == "tpu")


def find_target(name: str) -> Target:
    """The chip called `name`.

    Raises:
      ConfigError: no such chip.
    """
    if name not in TARGETS:
        raise ConfigError(f"target {name!r} is unknown; known: {', '.join(TARGETS)}")
    return TARGETS[name]


@contextlib.contextmanager
def abstract_device(name: str) -> Iterator[Target]:
    """Code traced inside is for the chip `name`: kernels choose their body and sizes for it."""
    chip = find_target(name)
    gpu = chip.platform == "cuda"
    device = AbstractDevice(
        device_kind=chip.device_kind,
        num_cores=None if gpu else 1,
        platform="gpu" if gpu else "tpu",
    )
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=device)):
        yield chip


def lower(function: Callable[..., Any], *specs: Any, target: str) -> jax.stages.Lowered:
    """The program of function(*specs) for a chip.

    Args:
      function: of arrays (close over everything else).
      *specs: trees of `jax.ShapeDtypeStruct` or arrays.
      target: a name of `TARGETS`.

    Raises:
      ConfigError: unknown target.
      Unsupported, or what Pallas raises: the function cannot be expressed for it.
    """
    with abstract_device(target) as chip:
        # A wrapper of its own: JAX's cache of traces must not hand out one made for another chip.
        traced = jax.jit(lambda *args: function(*args)).trace(*specs)
        return traced.lower(lowering_platforms=(chip.platform,))


def kernels_in(lowered: jax.stages.Lowered) -> int:
    """How many kernels of ours a lowered program calls."""
    text = lowered.as_text()
    return sum(text.count(f"@{call}(") + text.count(f'"{call}"') for call in KERNEL_CALLS)


def can_compile(name: str) -> bool:
    """Whether this process has the compiler for chip `name`."""
    if find_target(name).platform == "tpu":
        return importlib.util.find_spec("libtpu") is not None
    found = importlib.util.find_spec("jax_plugins")
    return found is not None and importlib.util.find_spec("jax_plugins.xla_cuda13") is not None


def compile_ahead(function: Callable[..., Any], *specs: Any, target: str) -> jax.stages.Compiled:
    """The machine code of function(*specs) for one chip.

    Args:
      function, *specs, target: as of `lower`.

    Raises:
      ConfigError: unknown target.
      Unsupported: its compiler is not installed.
      jax.errors.JaxRuntimeError: the compiler rejects the program; for example, one that wants more
        shared memory than a block has.
    """
    chip = find_target(target)
    if not can_compile(target):
        packages = "libtpu" if chip.platform == "tpu" else "jax-cuda13-plugin, jax-cuda13-pjrt"
        raise Unsupported(f"no compiler for {target}; install {packages}")
    sharding = SingleDeviceSharding(_devices(chip)[0])
    with abstract_device(target):
        placed = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), specs
        )
        traced = jax.jit(lambda *args: function(*args), out_shardings=sharding).trace(*placed)
        lowered = traced.lower(lowering_platforms=(chip.platform,))
    options = {}
    if chip.platform == "cuda":
        # Tuning times programs on a GPU; without it, only cuBLAS products are sure to compile.
        options = {"xla_gpu_autotune_level": "0", "xla_gpu_enable_triton_gemm": False}
    return lowered.compile(compiler_options=options)


def _devices(chip: Target) -> list[Any]:
    if chip.platform == "tpu":
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # ask no cloud server for its metadata
        return topologies.get_topology_desc(chip.topology, "tpu").devices
    return topologies.get_topology_desc(
        chip.device_kind.lower().replace(" ", "_"),
        platform="cuda",
        target_config=chip.description(),
        topology="1x1x1",
    ).devices
