"""Many devices of one kind, by name or by the axes of their mesh."""

import dataclasses
import math
import re
from typing import Mapping

from alpamayo_jax import hardware
from alpamayo_jax.config import ConfigError
from alpamayo_jax.sharding import MESH_AXES

# Widths of all presets divide by it; a larger machine holds copies of the parameters.
_MOST_FSDP = 64


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices of one kind in a mesh.

    Attributes:
      sizes: mesh axis -> size, of every axis.
      chip: one device.
    """

    sizes: dict[str, int]
    chip: hardware.Chip

    @property
    def num_devices(self) -> int:
        return math.prod(self.sizes.values())


def parse_machine(mesh: str, device: str = "", split: Mapping[str, int] | None = None) -> Machine:
    """A machine by name ("8xH100", "v5e-256") or by axes ("data:1,fsdp:8,tensor:1").

    Unless `split` says otherwise, a name splits parameters over as many devices as divide every
    preset, at most 64, and copies them beyond that. Numbers in TPU names are as in Google's: v5p-8
    has 4 devices, v5e-8 has 8.

    Args:
      mesh: name or axes; axes left out have size 1.
      device: kind of device, see `hardware.CHIPS`; default: that of the name, or H100.
      split: mesh axis -> size of named machines, one may be -1: whatever is left.

    Raises:
      ConfigError: neither a name nor axes, an unknown device, or a split that does not fit.
    """
    gpus, tpus = re.fullmatch(r"(\d+)x([\w\-]+)", mesh), re.fullmatch(r"(v\d\w)-(\d+)", mesh)
    if gpus or tpus:
        count, kind = (int(gpus[1]), gpus[2]) if gpus else (int(tpus[2]), tpus[1])
        count = max(count // 2, 1) if kind == "v5p" else count
        fsdp = math.gcd(count, _MOST_FSDP)
        sizes = _filled(split, count) if split else {"data": count // fsdp, "fsdp": fsdp}
        device = device or kind
    else:
        sizes = {}
        for part in mesh.split(","):
            named = re.fullmatch(r"(\w+):(\d+)", part.strip())
            if not named or named[1] not in MESH_AXES or named[1] in sizes or named[2] == "0":
                raise ConfigError(
                    f"mesh {mesh!r}: {part!r} is not AXIS:SIZE with an axis of "
                    f"{', '.join(MESH_AXES)}, each once; or name machines, as in 8xH100 or v5e-256"
                )
            sizes[named[1]] = int(named[2])
    sizes = {axis: sizes.get(axis, 1) for axis in MESH_AXES}
    if min(sizes.values()) < 1:
        raise ConfigError(f"mesh {mesh!r} has no device")
    return Machine(sizes, hardware.chip(device or "H100"))


def _filled(split: Mapping[str, int], count: int) -> dict[str, int]:
    fixed = math.prod(size for size in split.values() if size != -1)
    sizes = {axis: count // fixed if size == -1 else size for axis, size in split.items()}
    if math.prod(sizes.values()) != count or list(split.values()).count(-1) > 1:
        asked = ", ".join(f"{axis}={size}" for axis, size in split.items())
        raise ConfigError(f"mesh {asked} does not fit {count} device(s)")
    return sizes
