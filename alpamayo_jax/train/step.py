"""One train step: (state, batch, rng) -> (state, metrics), pure and jitted once."""

from typing import Any, Callable

import jax
import jax.numpy as jnp
import optax

from alpamayo_jax.config import ConfigError
from alpamayo_jax.sharding import NamedSharding, PartitionSpec, field_axes
from alpamayo_jax.train import ema as averages
from alpamayo_jax.train import partition
from alpamayo_jax.train.objectives import LossFn, Metrics
from alpamayo_jax.train.optimiser import Optimiser
from alpamayo_jax.train.state import TrainState, create_state
from alpamayo_jax.types import TrainBatch

Step = Callable[[TrainState, TrainBatch, jax.Array], tuple[TrainState, Metrics]]

init_state = create_state


def split_rows(batch: Any, parts: int, shardings: Any = None) -> Any:
    """Rows of a batch in `parts` micro-batches: every array gets a leading axis of that length.

    Micro-batch p holds rows p, p + parts, ...: then rows stay on the device that has them.

    Args:
      batch: of B rows.
      parts: a divisor of B.
      shardings: of the batch's arrays, to keep the rest of each array where it is.

    Raises:
      ConfigError: B is no multiple of `parts`.
    """

    def cut(path, array, sharding):
        axis = field_axes(path).index("batch")
        rows = array.shape[axis]
        if rows % parts:
            raise ConfigError(f"a batch of {rows} rows does not split into {parts} micro-batches")
        shape = (*array.shape[:axis], rows // parts, parts, *array.shape[axis + 1 :])
        array = jnp.moveaxis(array.reshape(shape), axis + 1, 0)
        if sharding is None:
            return array
        spec = PartitionSpec(None, *sharding.spec)
        return jax.lax.with_sharding_constraint(array, NamedSharding(sharding.mesh, spec))

    if shardings is None:
        return jax.tree_util.tree_map_with_path(lambda p, a: cut(p, a, None), batch)
    return jax.tree_util.tree_map_with_path(cut, batch, shardings)


def make_train_step(
    objective: LossFn,
    optimiser: Optimiser,
    *,
    accumulate: int = 1,
    ema_decay: float | None = None,
    shardings: TrainState | None = None,
    batch_sharding: TrainBatch | None = None,
) -> Step:
    """Compiles a step of `optimiser` on `objective`; the state passed in is donated.

    The random key of a step is `fold_in(rng, step)`, so a run does not depend on where it was
    interrupted. Metrics are `loss`, `grad_norm`, `learning_rate` and what the objective reports.

    Args:
      objective: what to minimise.
      optimiser: from `make_optimiser`.
      accumulate: micro-batches per step; their weighted means are those of the whole batch.
      ema_decay: of the moving average, for a state that has one.
      shardings: from `state_shardings`; None leaves everything on one device.
      batch_sharding: from `sharding.batch_shardings`.
    """

    def gradients(trainable, frozen, batch, key):
        def loss(trainable):
            return objective(partition.merge(trainable, frozen), batch, key)

        (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(trainable)
        return value, metrics, grads

    def step(state: TrainState, batch: TrainBatch, rng: jax.Array):
        if accumulate != 1:
            raise NotImplementedError
        key = jax.random.fold_in(rng, state.step)
        trainable, frozen = partition.split(state.params, optimiser.factors)
        loss, metrics, grads = gradients(trainable, frozen, batch, key)
        updates, opt_state = optimiser.transform.update(grads, state.opt_state, trainable)
        trainable = optax.apply_updates(trainable, updates)
        average = state.ema
        if ema_decay is not None:
            average = averages.update(average, trainable, ema_decay, state.step)
        metrics = metrics | {
            "loss": loss,
            "grad_norm": optax.global_norm(grads),
            "learning_rate": optimiser.learning_rate(state.step),
        }
        params = partition.merge(trainable, frozen)
        return TrainState(state.step + 1, params, opt_state, average), metrics

    if shardings is None:
        return jax.jit(step, donate_argnums=0)
    whole = NamedSharding(shardings.step.mesh, PartitionSpec())
    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(shardings, batch_sharding, whole),
        out_shardings=(shardings, whole),
    )
