"""Low-rank adapters on linear layers: train two narrow matrices beside a frozen kernel.

An adapter is three parameters beside a layer's `kernel` [..., in, out]: `lora_a` [..., in, r],
`lora_b` [..., r, out] and `lora_scale` [...], where "..." is the layer axis of stacked layers. The
layer adds x lora_a lora_b lora_scale (see `layers.linear`), so adapters are optimised, sharded and
stored like any parameter, and the model does not know about them.
"""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp

from alpamayo_jax.config import ConfigError
from alpamayo_jax.convert.table import flatten, nest

NAMES = ("lora_a", "lora_b", "lora_scale")
TRAINED = r".*/lora_[ab]"  # for groups of the optimiser


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Which layers get adapters.

    Attributes:
      rank: r.
      alpha: the adapter's product counts alpha / rank.
      targets: patterns of whole layer paths, such as "vlm/language_model/layers/self_attn/.*".
    """

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = (r"vlm/language_model/layers/.*",)

    def __post_init__(self):
        if self.rank < 1 or not self.targets:
            raise ConfigError(f"adapters of rank {self.rank} on {self.targets} are none")


def add_adapters(params: dict, config: LoraConfig, rng: jax.Array) -> dict:
    """Parameters with new adapters, which change nothing yet: `lora_b` is 0.

    Args:
      params: nested dict; shapes under `jax.eval_shape`.
      config: rank and layers.
      rng: key of `lora_a`, normal with variance 1 / in.

    Raises:
      ConfigError: a pattern that matches no linear layer, a layer that has an adapter already, or a
        rank that is no smaller than the kernel.
    """
    flat = flatten(params)
    layers = {"/".join(path[:-1]): path[:-1] for path in flat if path[-1] == "kernel"}
    unused = [t for t in config.targets if not any(re.fullmatch(t, name) for name in layers)]
    if unused:
        raise ConfigError(f"adapter target(s) {', '.join(unused)} match no linear layer")
    chosen = {n: p for n, p in layers.items() if any(re.fullmatch(t, n) for t in config.targets)}
    for number, (name, path) in enumerate(sorted(chosen.items())):
        if (*path, "lora_a") in flat:
            raise ConfigError(f"layer {name} has an adapter already; merge it first")
        *stack, wide, out = flat[*path, "kernel"].shape
        if config.rank >= min(wide, out):
            raise ConfigError(f"layer {name} is {wide} x {out}: no rank {config.rank} below that")
        key = jax.random.fold_in(rng, number)
        flat |= {
            (*path, "lora_a"): jax.random.normal(key, (*stack, wide, config.rank)) * wide**-0.5,
            (*path, "lora_b"): jnp.zeros((*stack, config.rank, out)),
            (*path, "lora_scale"): jnp.full(stack, config.alpha / config.rank, jnp.float32),
        }
    return nest(flat)


def merge(params: dict) -> dict:
    """Parameters without adapters that compute the same: kernel + lora_a lora_b lora_scale.

    The sum is made in float32 and rounded to the kernel's type.
    """

    def merged(kernel, a, b, scale):
        product = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
        wide = kernel.astype(jnp.float32) + product * scale[..., None, None]
        return wide.astype(kernel.dtype)

    flat = flatten(params)
    out = {path: leaf for path, leaf in flat.items() if path[-1] not in NAMES}
    for path in flat:
        if path[-1] == "lora_a":
            layer = path[:-1]
            parts = (flat[*layer, name] for name in ("kernel", *NAMES))
            out[*layer, "kernel"] = jax.jit(merged)(*parts)
    return nest(out)


def switched_off(params: dict) -> dict:
    """The same arrays with adapters that add nothing: what the policy was before they trained."""
    flat = flatten(params)
    off = {path: jnp.zeros_like(leaf) for path, leaf in flat.items() if path[-1] == "lora_scale"}
    return nest(flat | off)


def axes_with_adapters(axes: dict, params: dict) -> dict:
    """Logical axes (see `convert.logical_axes`) of parameters that may have adapters.

    `lora_a` is split like the kernel's input, `lora_b` like its output; the rank stays whole.
    """
    known: dict[tuple, Any] = flatten(axes)
    out = {}
    for path in flatten(params):
        if path[-1] not in NAMES:
            out[path] = known.get(path)
            continue
        *stack, wide, narrow = known[*path[:-1], "kernel"]
        out[path] = {
            "lora_a": (*stack, wide, None),
            "lora_b": (*stack, None, narrow),
            "lora_scale": tuple(stack),
        }[path[-1]]
    return nest({path: names for path, names in (known | out).items() if names is not None})
