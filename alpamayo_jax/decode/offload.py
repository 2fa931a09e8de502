"""Policies larger than the device: layers wait in host memory and come when they are computed.

Every pass over a tower then reads its layers over the bus: once per prefill, once per decoded token
and once per flow step, so this is for cards on which the policy does not run otherwise. What a layer
computes is the same, up to the rounding of products that a compiler fuses in another way.
"""

from typing import Any, Mapping

import jax
from jax.sharding import Sharding, SingleDeviceSharding

from alpamayo_jax.config import ConfigError

# The towers, whose layers are stacked, hold nearly everything.
TOWERS = ("vlm/visual/blocks", "vlm/language_model/layers", "expert/layers")
HOST = "pinned_host"  # the only host memory that a device reads on its own


def offloaded(params: Mapping[str, Any], device: jax.Device | None = None) -> dict:
    """The parameters, with the matrices of the towers' layers in host memory.

    Args:
      params: of a whole policy, wherever they are; also quantised ones.
      device: that computes; default: the first.

    Raises:
      ConfigError: the device has no pinned host memory.
    """
    device = device or jax.devices()[0]
    kinds = [memory.kind for memory in device.addressable_memories()]
    if HOST not in kinds:
        raise ConfigError(
            f"layers cannot be offloaded: {device} has memories {kinds}, and none is {HOST}"
        )
    places = placement(params, device)
    return jax.tree.map(jax.device_put, dict(params), places)


def placement(params: Mapping[str, Any], device: jax.Device) -> dict:
    """Where every parameter goes: a tree of shardings like the parameters (or their shapes)."""
    here = SingleDeviceSharding(device)
    waiting = SingleDeviceSharding(device, memory_kind=HOST)

    def place(path: tuple, leaf: Any) -> Sharding:
        name = "/".join(str(getattr(key, "key", "")) for key in path)
        inside = any(name.startswith(f"{tower}/") for tower in TOWERS)
        # Vectors are too small to be worth a copy of their own.
        return waiting if inside and leaf.ndim > 2 else here

    return jax.tree_util.tree_map_with_path(place, dict(params))


def device_bytes(params: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of parameters by where they are: "device", "host", and "layer", the largest layer, of
    which two are on the device at a time when layers are offloaded."""
    found = {"device": 0, "host": 0, "layer": 0}
    layer: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(params)):
        waits = leaf.sharding.memory_kind == HOST
        found["host" if waits else "device"] += leaf.nbytes
        if waits:
            name = "/".join(str(getattr(key, "key", "")) for key in path)
            tower = next(t for t in TOWERS if name.startswith(f"{t}/"))
            layer[tower] = layer.get(tower, 0) + leaf.nbytes // leaf.shape[0]
    return {**found, "layer": max(layer.values(), default=0)}
