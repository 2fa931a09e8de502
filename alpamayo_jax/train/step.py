"""One train step: (state, batch, rng) -> (state, metrics), pure and jitted once."""

from typing import Any, Callable

import jax
import jax.numpy as jnp
import optax

from alpamayo_jax.config import ConfigError
from alpamayo_jax.sharding import NamedSharding, PartitionSpec, replicated
from alpamayo_jax.train import ema as averages
from alpamayo_jax.train import partition
from alpamayo_jax.train.objective import LossFn, Metrics, Objective, totals
from alpamayo_jax.train.optimiser import Optimiser
from alpamayo_jax.train.state import TrainState
from alpamayo_jax.types import TrainBatch

Step = Callable[[TrainState, TrainBatch, jax.Array], tuple[TrainState, Metrics]]


def make_train_step(
    objective: Objective | LossFn,
    optimiser: Optimiser,
    *,
    accumulate: int = 1,
    ema_decay: float | None = None,
    compute_dtype: str | None = None,
    shardings: TrainState | None = None,
    batch_sharding: TrainBatch | None = None,
) -> Step:
    """Compiles a step of `optimiser` on `objective`; the state passed in is donated.

    The random key of a step is `fold_in(rng, step)`, so a run does not depend on where it was
    interrupted. A step whose loss or gradient is not finite changes nothing but `step`. Metrics are
    `loss`, `grad_norm` before clipping, `learning_rate`, `finite` (1 or 0) and the objective's terms.

    Args:
      objective: what to minimise. Only an `Objective` can be accumulated.
      optimiser: from `make_optimiser`.
      accumulate: micro-batches per step, one after the other; loss and gradients are those of the
        whole batch.
      ema_decay: of the moving average, for a state that has one.
      compute_dtype: type that the layers compute in. Their kernels are cast once per step, where
        they lie, so that narrow numbers travel between devices.
      shardings: from `state_shardings`; None leaves everything on one device.
      batch_sharding: from `sharding.batch_shardings`; needed with `shardings`.

    Raises:
      ConfigError: a contradiction among the arguments; when called, a batch that does not split or
        a state that has a moving average without `ema_decay`, or the other way round.
    """
    if accumulate < 1:
        raise ConfigError(f"accumulate {accumulate} must be at least 1")
    if accumulate > 1 and not isinstance(objective, Objective):
        raise ConfigError("only an Objective, whose weights are known in advance, can be accumulated")
    if (shardings is None) != (batch_sharding is None):
        raise ConfigError("shardings of the state and of the batch come together or not at all")

    def whole_batch(trainable, frozen, batch, key):
        def loss(trainable):
            return objective(partition.merge(trainable, frozen), batch, key)

        (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(trainable)
        return value, metrics, _wide(grads)

    def micro_batches(trainable, frozen, batch, key):
        examples = objective.prepare(batch, key)
        sizes = totals(examples[1])
        rows = None if batch_sharding is None else _row_sharding(batch_sharding)
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, _wide(p).dtype), trainable)
        sums = {name: jnp.float32(0) for name in sizes}

        def one(carry, part):
            def loss(trainable):
                sums = objective.sums(partition.merge(trainable, frozen), *part)
                return objective.loss(sums, sizes), sums

            (_, sums), grads = jax.value_and_grad(loss, has_aux=True)(trainable)
            sums, grads = jax.tree.map(jnp.add, carry, (sums, _wide(grads)))
            return (sums, placed(grads)), None

        (sums, grads), _ = jax.lax.scan(one, (sums, zeros), split_rows(examples, accumulate, rows))
        return objective.loss(sums, sizes), objective.means(sums, sizes), grads

    def placed(grads):
        if shardings is None:
            return grads
        where = optimiser.trainable(shardings.params)
        return jax.tree.map(jax.lax.with_sharding_constraint, grads, where)

    def step(state: TrainState, batch: TrainBatch, rng: jax.Array):
        if (state.ema is None) != (ema_decay is None):
            raise ConfigError("a moving average needs both a state that has one and ema_decay")
        key = jax.random.fold_in(rng, state.step)
        trainable, frozen = partition.split(state.params, optimiser.factors)
        gradients = whole_batch if accumulate == 1 else micro_batches
        loss, metrics, grads = gradients(
            narrow_kernels(trainable, compute_dtype), narrow_kernels(frozen, compute_dtype), batch, key
        )
        grads = placed(grads)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        updates, opt_state = optimiser.transform.update(grads, state.opt_state, trainable)
        new = optax.apply_updates(trainable, updates), opt_state, state.ema
        if ema_decay is not None:
            new = (*new[:2], averages.update(state.ema, new[0], ema_decay, state.step))
        old = trainable, state.opt_state, state.ema
        new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
        metrics = metrics | {
            "loss": loss,
            "grad_norm": norm,
            "finite": finite.astype(jnp.float32),
        }
        if optimiser.schedule is not None:
            metrics["learning_rate"] = jnp.float32(optimiser.schedule(state.step))
        return TrainState(state.step + 1, partition.merge(new[0], frozen), *new[1:]), metrics

    if shardings is None:
        return jax.jit(step, donate_argnums=0)
    everywhere = replicated(shardings.step.mesh)
    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(shardings, batch_sharding, everywhere),
        out_shardings=(shardings, everywhere),
    )


def narrow_kernels(params: dict, dtype: str | None) -> dict:
    """`params` with wider kernels cast to `dtype`, as the layers themselves would.

    Embeddings stay: the gradients of a token's many places add up in their type.
    """
    if dtype is None:
        return params
    narrow = jnp.dtype(dtype)

    def cast(path, leaf):
        kernel = getattr(path[-1], "key", "") == "kernel"
        return leaf.astype(narrow) if kernel and leaf.dtype.itemsize > narrow.itemsize else leaf

    return jax.tree_util.tree_map_with_path(cast, params)


def split_rows(examples: Any, parts: int, rows: NamedSharding | None = None) -> Any:
    """Rows in `parts` micro-batches: every array gets a leading axis of that length.

    Micro-batch p holds rows p, p + parts, ...: rows stay on the device that has them.

    Args:
      examples: arrays of B rows.
      parts: a divisor of B.
      rows: how the axis of rows is sharded.

    Raises:
      ConfigError: B is no multiple of `parts`.
    """

    def cut(path, array):
        # `position_ids` is the one array whose rows are not its first axis.
        axis = int(partition.path_name(path[-1:]) == "position_ids")
        count = array.shape[axis]
        if count % parts:
            raise ConfigError(f"a batch of {count} rows does not split into {parts} micro-batches")
        shape = (*array.shape[:axis], count // parts, parts, *array.shape[axis + 1 :])
        array = jnp.moveaxis(array.reshape(shape), axis + 1, 0)
        if rows is None:
            return array
        spec = [PartitionSpec.UNCONSTRAINED] * array.ndim
        spec[0], spec[axis + 1] = None, rows.spec[0]
        where = NamedSharding(rows.mesh, PartitionSpec(*spec))
        return jax.lax.with_sharding_constraint(array, where)

    return jax.tree_util.tree_map_with_path(cut, examples)


def _row_sharding(batch_sharding: Any) -> NamedSharding:
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch_sharding):
        if partition.path_name(path[-1:]) != "position_ids":
            return NamedSharding(leaf.mesh, PartitionSpec(*leaf.spec[:1]))
    raise ConfigError("batch_sharding is empty")


def _wide(tree: Any) -> Any:
    """In float32 at least: gradients of narrow parameters add up there."""
    return jax.tree.map(lambda a: a.astype(jnp.promote_types(a.dtype, jnp.float32)), tree)
