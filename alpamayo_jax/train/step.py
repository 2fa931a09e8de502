"""One train step: (state, batch, rng) -> (state, metrics), pure and jitted once."""

from typing import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax

from alpamayo_jax.train.objectives import LossFn, Metrics
from alpamayo_jax.types import Array, TrainBatch


@flax.struct.dataclass
class TrainState:
    """What a step changes.

    Attributes:
      step: int32 [].
      params: nested dict.
      opt_state: of the optimiser.
    """

    step: Array
    params: dict
    opt_state: optax.OptState


def init_state(params: dict, optimiser: optax.GradientTransformation) -> TrainState:
    """State before the first step. The state owns its parameters: steps donate it."""
    params = jax.tree.map(jnp.copy, params)
    return TrainState(step=jnp.int32(0), params=params, opt_state=optimiser.init(params))


def make_train_step(
    objective: LossFn, optimiser: optax.GradientTransformation
) -> Callable[[TrainState, TrainBatch, jax.Array], tuple[TrainState, Metrics]]:
    """Compiles a step of `optimiser` on `objective`; the state passed in is donated.

    The random key of a step is `fold_in(rng, step)`, so a run does not depend on where it was
    interrupted. Metrics are `loss`, `grad_norm` and what the objective reports.
    """

    def step(state: TrainState, batch: TrainBatch, rng: jax.Array):
        key = jax.random.fold_in(rng, state.step)
        (loss, metrics), grads = jax.value_and_grad(objective, has_aux=True)(
            state.params, batch, key
        )
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = metrics | {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(step, donate_argnums=0)
