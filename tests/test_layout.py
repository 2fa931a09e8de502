"""Activations on a mesh: lookups, gathering, placing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from alpamayo_jax.config import ConfigError
from alpamayo_jax.layout import gathered, place, take_rows
from alpamayo_jax.sharding import AxisRules, Layout, batch_shardings, field_axes, make_mesh
from alpamayo_jax.testing.tiny import GRIDS, random_train_batch, tiny_config


def layout(**sizes):
    return Layout(make_mesh(**sizes))


@pytest.mark.parametrize("sizes", [
    dict(data=2, fsdp=2, tensor=2), dict(data=1, fsdp=4, tensor=1, seq=2), dict(data=8, fsdp=1),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("samples", [False, True])
def test_a_sharded_table_gives_the_rows_of_a_whole_one(sizes, samples):
    where = layout(**sizes)
    rng = np.random.default_rng(0)
    table = rng.standard_normal((9, 8)).astype(np.float32)
    ids = rng.integers(0, 9, (8, 2, 4) if samples else (8, 4))
    split = NamedSharding(where.mesh, PartitionSpec(None, "fsdp"))
    lookup = jax.jit(lambda t, i: take_rows(t, i, where))
    np.testing.assert_array_equal(lookup(jax.device_put(table, split), ids), table[ids])
    np.testing.assert_array_equal(take_rows(jnp.asarray(table), ids, None), table[ids])


def test_place_and_gather():
    where = layout(data=2, fsdp=2, tensor=2)
    x = np.arange(32.0, dtype=np.float32).reshape(4, 4, 2)
    placed = jax.jit(lambda x: place(x, where, "batch", "length", "act_embed"))(x)
    assert placed.sharding.shard_shape(x.shape) == (1, 4, 2)
    whole = jax.jit(lambda x: gathered(x, where))(placed)
    assert whole.sharding.is_fully_replicated
    np.testing.assert_array_equal(whole, x)
    assert place(x, None, "batch", "length", "act_embed") is x and gathered(x, None) is x
    with pytest.raises(ConfigError, match="'batch' of 3"):
        jax.jit(lambda x: place(x, where, "batch", None, None))(x[:3])


def test_every_array_of_a_batch_has_its_place():
    mesh, batch = make_mesh(data=2, fsdp=2, seq=2), random_train_batch(tiny_config(), GRIDS * 2, length=96)
    where = batch_shardings(batch, mesh, AxisRules())
    rows = ("data", "fsdp")
    assert where.inputs.position_ids.spec == PartitionSpec(None, rows, "seq")
    assert where.inputs.input_ids.spec == PartitionSpec(rows, "seq")
    assert where.inputs.pixel_values.spec == PartitionSpec(rows, None, None, None)
    assert where.ego_future_rot.spec == PartitionSpec(rows, None, None, None)
    with pytest.raises(ConfigError, match="'reward' has no known axes"):
        batch_shardings({"reward": np.zeros(4)}, mesh, AxisRules())
    with pytest.raises(ConfigError, match="labels_mask.*'length' of 7"):
        batch_shardings({"labels_mask": np.zeros((4, 7))}, mesh, AxisRules())


def test_a_layout_is_a_static_argument():
    assert hash(layout(fsdp=8)) == hash(layout(fsdp=8)) and layout(fsdp=8) == layout(fsdp=8)
    assert layout(fsdp=8) != layout(data=8, fsdp=1)
    assert field_axes((jax.tree_util.GetAttrKey("position_ids"),)) == (None, "batch", "length")
