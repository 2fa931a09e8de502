"""Narrow weights and activations: which, from which ranges, and the policy that computes with them."""

from alpamayo_jax.quantise.calibrate import calibrate
from alpamayo_jax.quantise.ranges import Ranges
from alpamayo_jax.quantise.recipe import RECIPES, Recipe, make_recipe
from alpamayo_jax.quantise.weights import cast_policy, quantise_params, quantise_policy

__all__ = [
    "RECIPES", "Ranges", "Recipe", "calibrate", "cast_policy", "make_recipe", "quantise_params",
    "quantise_policy",
]  # fmt: skip
