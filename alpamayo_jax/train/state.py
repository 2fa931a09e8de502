"""What a train step changes, made and placed."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from alpamayo_jax import convert
from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.sharding import AxisRules, Mesh, param_shardings, replicated
from alpamayo_jax.train import ema as averages
from alpamayo_jax.train import lora
from alpamayo_jax.train.optimiser import Optimiser
from alpamayo_jax.train.partition import path_name
from alpamayo_jax.types import Array


@flax.struct.dataclass
class TrainState:
    """What a step changes.

    Attributes:
      step: int32 [], steps done.
      params: nested dict, in their master type.
      opt_state: of the optimiser; moments of trained parameters only.
      ema: moving average of the trained parameters, None in place of frozen ones; None without.
    """

    step: Array
    params: dict
    opt_state: Any
    ema: dict | None = None


def _state(params: dict, optimiser: Optimiser, ema: bool) -> TrainState:
    return TrainState(
        step=jnp.int32(0),
        params=jax.tree.map(jnp.copy, params),  # or jit would hand back the same buffers
        opt_state=optimiser.init(params),
        ema=averages.init(optimiser.trainable(params)) if ema else None,
    )


def create_state(
    params: dict,
    optimiser: Optimiser,
    ema: bool = False,
    *,
    shardings: TrainState | None = None,
    donate: bool = False,
) -> TrainState:
    """State before the first step.

    Steps donate their state, so it owns copies of the parameters, unless `donate`.

    Args:
      params: nested dict of arrays.
      optimiser: from `make_optimiser`.
      ema: keep a moving average.
      shardings: from `state_shardings`; moments and averages are made where they belong.
      donate: the caller gives up `params`, which then need not fit twice.
    """
    params = jax.device_put(params, None if shardings is None else shardings.params)
    create = jax.jit(
        lambda p: _state(p, optimiser, ema),
        out_shardings=shardings,
        donate_argnums=(0,) if donate else (),
    )
    return create(params)


def abstract_state(params: dict, optimiser: Optimiser, ema: bool = False) -> TrainState:
    """Shapes and types of `create_state`; `params` may be shapes too. Nothing is allocated."""
    return jax.eval_shape(lambda p: _state(p, optimiser, ema), params)


def state_shardings(
    config: ModelConfig,
    mesh: Mesh,
    rules: AxisRules,
    optimiser: Optimiser,
    *,
    params: dict | None = None,
    ema: bool = False,
) -> TrainState:
    """A sharding for every array of the state; moments and averages lie like their parameters.

    Args:
      config: model.
      mesh: where.
      rules: logical axis -> mesh axes.
      optimiser: from `make_optimiser`.
      params: shapes or arrays of the parameters; by default those of `config`. With adapters (see
        `train.lora`) they have to be given.
      ema: as in `create_state`.

    Raises:
      ConfigError: as `sharding.resolve`; or a state array belongs to no parameter.
    """
    params = convert.param_shapes(config) if params is None else params
    axes = lora.axes_with_adapters(convert.logical_axes(config), params)
    placed = param_shardings(axes, params, mesh, rules)
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    by_path = {
        path_name(path): (leaf.shape, where)
        for (path, leaf), where in zip(leaves, jax.tree.leaves(placed), strict=True)
    }

    def place(path, leaf):
        if leaf.ndim == 0:
            return replicated(mesh)
        for start in range(len(path)):
            shape, where = by_path.get(path_name(path[start:]), (None, None))
            if shape == leaf.shape:
                return where
        raise ConfigError(f"state array {path_name(path)} {leaf.shape} belongs to no parameter")

    return jax.tree_util.tree_map_with_path(place, abstract_state(params, optimiser, ema))
