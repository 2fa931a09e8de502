"""Activations where they belong: fixed points for the compiler, and lookups that cross devices.

Without a layout every function here does the plain thing.
"""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from alpamayo_jax.sharding import Layout, constrain, replicated


def gathered(x: jax.Array, layout: Layout | None) -> jax.Array:
    """`x` whole on every device; as it is without a layout."""
    if layout is None:
        return x
    return jax.lax.with_sharding_constraint(x, replicated(layout.mesh))


def place(x: jax.Array, layout: Layout | None, *names: str | None) -> jax.Array:
    """`x` laid out by the logical `names` of its axes; as it is without a layout.

    The compiler sometimes drops the batch's partition on the way through a network; the points
    where an array is as large as a layer's input fix it.

    Raises:
      ConfigError: as `resolve`.
    """
    return x if layout is None else constrain(x, names, layout.mesh, layout.rules)


def take_rows(table: jax.Array, ids: jax.Array, layout: Layout | None) -> jax.Array:
    """Rows `ids` [B, ..., T] of an embedding table [V, D] whose D is split by rule `embed`.

    Rows of a batch and the table's width want the same devices. Each device looks up its part of
    the width for all rows it shares these devices with, then they exchange; left alone, the compiler
    makes the whole result on every device.
    """
    if layout is None:
        return jnp.take(table, ids, axis=0)
    rules, width = layout.rules, layout.rules.embed
    rows = tuple(axis for axis in rules.batch if axis not in width)
    spec = [rows, *((),) * (ids.ndim - 2), rules.length]

    def fixed(x, spec):
        spec = PartitionSpec(*(axes or None for axes in spec))
        return jax.lax.with_sharding_constraint(x, NamedSharding(layout.mesh, spec))

    return fixed(jnp.take(table, fixed(ids, spec), axis=0), [*spec, width])
