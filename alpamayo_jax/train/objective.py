"""A loss made of weighted means, so that it can be computed in parts and still be exact."""

import dataclasses
from typing import Any, Callable, Mapping

import jax
import jax.numpy as jnp

from alpamayo_jax.config import ConfigError
from alpamayo_jax.types import Array

Metrics = dict[str, Array]
LossFn = Callable[[dict, Any, jax.Array], tuple[Array, Metrics]]
Weights = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Objective:
    """loss = sum over terms n of coefficient_n x (sum weights_n values_n) / (sum weights_n).

    The weights need no parameters. Their sums over the whole batch are therefore known before the
    first micro-batch, and the gradients of micro-batches simply add up to those of the batch,
    however unevenly its labels fall.

    Attributes:
      prepare: (batch, rng) -> (examples, weights). All that needs no parameters, for the whole batch:
        targets, noise, weights. Every array has its rows first, but `position_ids`.
      values: (params, examples, weights) -> a float32 array for each term, shaped like its weights;
        what has no weight may be anything finite.
      coefficients: of the terms; what is 0 is reported only.
    """

    prepare: Callable[[Any, jax.Array], tuple[Any, Weights]]
    values: Callable[[dict, Any, Weights], dict[str, Array]]
    coefficients: Mapping[str, float]

    def __post_init__(self):
        if not any(self.coefficients.values()):
            raise ConfigError(f"no term of the loss counts: {dict(self.coefficients)}")

    def sums(self, params: dict, examples: Any, weights: Weights) -> dict[str, Array]:
        """Weighted sum of every term over some rows, float32 []."""
        values = self.values(params, examples, weights)
        return {n: jnp.sum(values[n] * w.astype(values[n].dtype)) for n, w in weights.items()}

    def loss(self, sums: Mapping[str, Array], totals: Mapping[str, Array]) -> Array:
        """Weighted sums over the weights' totals, times coefficients: what some rows contribute."""
        means = self.means(sums, totals)
        return sum(c * means[name] for name, c in self.coefficients.items() if c)

    def means(self, sums: Mapping[str, Array], totals: Mapping[str, Array]) -> Metrics:
        """Weighted mean of every term; 0 where nothing counts."""
        return {name: sums[name] / jnp.where(totals[name] > 0, totals[name], 1) for name in sums}

    def __call__(self, params: dict, batch: Any, rng: jax.Array) -> tuple[Array, Metrics]:
        """Loss and means of a whole batch at once."""
        examples, weights = self.prepare(batch, rng)
        sums, sizes = self.sums(params, examples, weights), totals(weights)
        return self.loss(sums, sizes), self.means(sums, sizes)


def totals(weights: Weights) -> dict[str, Array]:
    """Sum of the weights of every term, float32 []."""
    return {name: jnp.sum(value, dtype=jnp.float32) for name, value in weights.items()}
