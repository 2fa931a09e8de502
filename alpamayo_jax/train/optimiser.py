"""Optimiser and schedule from a few knobs, with parameters frozen or slowed down by path."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from alpamayo_jax.config import ConfigError
from alpamayo_jax.train import partition
from alpamayo_jax.train.partition import parameter_factors

SCHEDULES = ("cosine", "linear", "constant")


@dataclasses.dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with warm-up and decay.

    Attributes:
      learning_rate: at the end of the warm-up.
      final_fraction: last learning rate over `learning_rate`; of no effect when constant.
      warmup_steps: linear from 0.
      num_steps: of the whole schedule.
      schedule: "cosine", "linear" or "constant" after the warm-up.
      weight_decay: on matrices (two or more axes, the layer axis not counted as one).
      clip_norm: global gradient norm is scaled down to this.
      beta1: first moment.
      beta2: second moment.
      eps: of the denominator.
      groups: (path pattern, factor of the learning rate); the first pattern that matches the whole
        path decides, factor 0 freezes. Every parameter must match one.
    """

    learning_rate: float
    num_steps: int
    warmup_steps: int = 0
    final_fraction: float = 0.1
    schedule: str = "cosine"
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    groups: tuple[tuple[str, float], ...] = ((r".*", 1.0),)

    def __post_init__(self):
        if not 0 <= self.warmup_steps < self.num_steps:
            raise ConfigError(
                f"optimiser: warmup_steps {self.warmup_steps} must be in [0, num_steps "
                f"{self.num_steps})"
            )
        if not 0 < self.learning_rate < math.inf or not 0 <= self.weight_decay < math.inf:
            raise ConfigError(
                f"optimiser: learning_rate {self.learning_rate} must be above 0 and weight_decay "
                f"{self.weight_decay} 0 or above, both finite"
            )
        if self.schedule not in SCHEDULES:
            raise ConfigError(
                f"optimiser: schedule {self.schedule!r} is unknown; known: {', '.join(SCHEDULES)}"
            )


@dataclasses.dataclass(frozen=True)
class Optimiser:
    """An optax transformation of the trained part of a parameter tree.

    Attributes:
      transform: sees only trained parameters.
      factors: learning-rate factor of every parameter; 0 is frozen.
      schedule: learning rate by step, before factors; None if unknown.
    """

    transform: optax.GradientTransformation
    factors: dict
    schedule: optax.Schedule | None = None

    def trainable(self, tree: dict) -> dict:
        """`tree` with None in place of frozen parameters."""
        return partition.split(tree, self.factors)[0]

    def init(self, params: dict) -> Any:
        """Optimiser state for whole parameters; moments are float32 whatever these are."""
        wide = jax.tree.map(lambda p: p.astype(jnp.float32), self.trainable(params))
        return self.transform.init(wide)

    def update(self, grads: dict, opt_state: Any, params: dict) -> tuple[dict, Any]:
        """Updates of the trained parameters, None for frozen ones, and the next state.

        Args:
          grads: like `params`; those of frozen parameters are not read and may be None.
          opt_state: from `init` or the last update.
          params: whole.
        """
        return self.transform.update(self.trainable(grads), opt_state, self.trainable(params))


def make_schedule(config: OptimiserConfig) -> optax.Schedule:
    """Learning rate by step: linear warm-up from 0, then what `config.schedule` names."""
    peak, warmup = config.learning_rate, config.warmup_steps
    rest = config.num_steps - warmup
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, rest, alpha=config.final_fraction)
    elif config.schedule == "linear":
        after = optax.linear_schedule(peak, peak * config.final_fraction, rest)
    else:
        after = optax.constant_schedule(peak)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def make_optimiser(config: OptimiserConfig, params: dict) -> Optimiser:
    """Clipping, AdamW and schedule; frozen parameters have no moments and never move.

    Args:
      config: knobs.
      params: arrays or shapes, for their paths.

    Raises:
      ConfigError: see `parameter_factors`; or everything is frozen.
    """
    factors = parameter_factors(params, config.groups)
    if not any(jax.tree.leaves(factors)):
        raise ConfigError("every parameter is frozen; give a group a factor above 0")
    schedule = make_schedule(config)
    transform = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.eps),
        optax.add_decayed_weights(config.weight_decay, mask=_decayed),
        _scale_by(partition.split(factors, factors)[0]),
        optax.scale_by_learning_rate(schedule),
    )
    return Optimiser(transform=transform, factors=factors, schedule=schedule)


def train_everything(transform: optax.GradientTransformation, params: dict) -> Optimiser:
    """Any optax transformation, of all parameters."""
    return Optimiser(transform, jax.tree.map(lambda _: 1.0, params))


_STACKED = ("layers", "blocks", "deepstack_merger_list")


def _decayed(tree: dict) -> dict:
    def decays(path, leaf):
        stacked = any(getattr(key, "key", "") in _STACKED for key in path)
        return leaf.ndim - stacked >= 2

    return jax.tree_util.tree_map_with_path(decays, tree)


def _scale_by(factors: dict) -> optax.GradientTransformation:
    def update(updates, state, params=None):
        del params
        return jax.tree.map(lambda f, u: u if f == 1 else u * f, factors, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
