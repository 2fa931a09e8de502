"""Optimiser and schedule from a few knobs, with parameters frozen or slowed down by path."""

import dataclasses
import math
import re
from typing import Sequence

import jax
import optax

from alpamayo_jax.config import ConfigError


@dataclasses.dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with warm-up and cosine decay.

    Attributes:
      learning_rate: at the end of the warm-up.
      final_fraction: last learning rate over `learning_rate`.
      warmup_steps: linear from 0.
      num_steps: of the whole schedule.
      weight_decay: on matrices (two or more axes, the layer axis not counted as one).
      clip_norm: global gradient norm is scaled down to this.
      beta1: first moment.
      beta2: second moment.
      groups: (path pattern, factor of the learning rate); the first pattern that matches the whole
        path decides, factor 0 freezes. Every parameter must match one.
    """

    learning_rate: float
    num_steps: int
    warmup_steps: int = 0
    final_fraction: float = 0.1
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
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


def parameter_factors(params: dict, groups: Sequence[tuple[str, float]]) -> dict:
    """The learning-rate factor of every parameter, as a tree like `params`.

    Raises:
      ConfigError: lists parameters that no pattern matches, or patterns that match nothing.
    """
    unmatched, used = [], set()

    def factor(path, _):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for pattern, value in groups:
            if re.fullmatch(pattern, name):
                used.add(pattern)
                return value
        unmatched.append(name)
        return 0.0

    factors = jax.tree_util.tree_map_with_path(factor, params)
    if unmatched:
        raise ConfigError(f"no parameter group matches {', '.join(unmatched)}")
    unused = [pattern for pattern, _ in groups if pattern not in used]
    if unused:
        raise ConfigError(f"parameter group(s) {', '.join(unused)} match no parameter")
    return factors


def make_optimiser(config: OptimiserConfig, params: dict) -> optax.GradientTransformation:
    """Clipping, AdamW and schedule; frozen parameters have no moments and never move.

    Raises:
      ConfigError: see `parameter_factors`.
    """
    factors = parameter_factors(params, config.groups)
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0 if config.warmup_steps else config.learning_rate,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=config.num_steps,
        end_value=config.learning_rate * config.final_fraction,
    )

    def decays(path, leaf):
        stacked = any(getattr(k, "key", "") in ("layers", "blocks", "deepstack_merger_list") for k in path)
        return leaf.ndim - stacked >= 2

    decay_mask = lambda tree: jax.tree_util.tree_map_with_path(decays, tree)  # noqa: E731
    adamw = optax.adamw(
        schedule,
        b1=config.beta1,
        b2=config.beta2,
        weight_decay=config.weight_decay,
        mask=decay_mask,
    )
    transforms = {
        value: optax.set_to_zero() if value == 0 else optax.chain(adamw, optax.scale(value))
        for value in {v for _, v in config.groups}
    }
    # Frozen parameters are cut from the gradient before its norm is taken.
    return optax.chain(
        optax.masked(optax.set_to_zero(), jax.tree.map(lambda f: f == 0, factors)),
        optax.clip_by_global_norm(config.clip_norm),
        optax.multi_transform(transforms, factors),
    )
