"""Parameters with quantised kernels, which the model computes with as they are."""

import dataclasses
from typing import Any, Mapping

import jax
import jax.numpy as jnp

from alpamayo_jax.config import ConfigError
from alpamayo_jax.convert.table import flatten, nest
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.ops.number_formats import quantise, scale_of
from alpamayo_jax.quantise.ranges import Ranges
from alpamayo_jax.quantise.recipe import Recipe, chosen_layers


def quantise_params(
    params: Mapping[str, Any], recipe: Recipe, ranges: Ranges | None = None
) -> dict:
    """Quantises the kernels that a recipe chooses; everything else stays as it is.

    Args:
      params: of a whole policy, as trained or loaded.
      recipe: what becomes what.
      ranges: of the activations; needed where the recipe quantises them.

    Returns:
      The parameters: a chosen `kernel` is a `Quantised`, and has an `input_scale` float32 [] or [L]
      beside it where its inputs are quantised too. Scales are exact in the type of the kernel, so
      that a program in that type computes with the same ones.

    Raises:
      ConfigError: activations without ranges, or parameters that are quantised already.
      InputError: a layer that was not calibrated.
    """
    if recipe.activations and ranges is None:
        raise ConfigError(
            f"{recipe.format} activations need calibrated ranges; calibrate on clips, or quantise "
            f"weights alone ({recipe.format}_weights)"
        )
    leaves = dict(flatten(params))
    for path in chosen_layers(params, recipe):
        keys = tuple(path.split("/"))
        kernel = leaves[(*keys, "kernel")]
        leaves[(*keys, "kernel")] = quantise(kernel, recipe.format, recipe.axis)
        if recipe.activations:
            largest = jnp.asarray(ranges.at(path, recipe.percentile))
            leaves[(*keys, "input_scale")] = scale_of(largest, recipe.format, kernel.dtype)
    return nest(leaves)


def quantise_policy(policy: Policy, recipe: Recipe, ranges: Ranges | None = None) -> Policy:
    """A policy that computes with quantised parameters, see `quantise_params`.

    It samples, scores and drives as any policy; it cannot be saved, as checkpoints hold what was
    trained.
    """
    return dataclasses.replace(policy, params=quantise_params(policy.params, recipe, ranges))


def cast_policy(policy: Policy, dtype: str) -> Policy:
    """The policy with parameters and matrix products in `dtype`, "float32" or "bfloat16".

    Norms, rotary tables, softmax, logits and actions stay float32, as everywhere.
    """
    precision = dataclasses.replace(policy.config.precision, params=dtype, compute=dtype)
    config = dataclasses.replace(policy.config, precision=precision)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), policy.params)
    return dataclasses.replace(policy, config=config, params=params)
