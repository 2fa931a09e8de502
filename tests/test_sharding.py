"""Mesh, axis rules, resolver."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from alpamayo_jax import sharding
from alpamayo_jax.config import ConfigError, build
from alpamayo_jax.convert import logical_axes, param_shapes
from alpamayo_jax.convert.table import flatten
from alpamayo_jax.presets import PRESETS, preset
from alpamayo_jax.sharding import AxisRules, constrain, make_mesh, param_shardings, resolve


def test_mesh_axes():
    mesh = make_mesh(data=2, fsdp=-1, tensor=2)
    assert mesh.axis_names == sharding.MESH_AXES
    assert dict(mesh.shape) == dict(data=2, fsdp=2, tensor=2, seq=1)
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert make_mesh(devices=jax.devices()[:1]).size == 1


@pytest.mark.parametrize("sizes", [
    dict(data=3), dict(data=16), dict(fsdp=4), dict(data=-1), dict(data=0), dict(fsdp=-2),
], ids=str)  # fmt: skip
def test_mesh_that_does_not_fit(sizes):
    with pytest.raises(ConfigError, match="does not fit 8 device"):
        make_mesh(**sizes)


@pytest.mark.parametrize("names, shape, wanted", [
    ((), (), ()),
    ((None, "embed"), (3, 8), (None, "fsdp")),
    (("embed", "mlp"), (8, 6), ("fsdp", "tensor")),
    (("layers", "vocab", "embed"), (5, 7, 4), (None, None, "fsdp")),
    (("batch", "length", "act_embed"), (8, 3, 5), (("data", "fsdp"), "seq", None)),
])  # fmt: skip
def test_resolve(names, shape, wanted):
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    assert resolve(names, shape, mesh, AxisRules()) == PartitionSpec(*wanted)


@pytest.mark.parametrize("names, shape, message", [
    (("embeded",), (8,), "expert/x: unknown logical axis 'embeded'"),
    (("embed",), (7,), "expert/x: dimension 'embed' of 7 does not divide over 2"),
    (("batch",), (6,), "does not divide over 4"),
    (("embed", "vision_embed"), (8, 8), "'fsdp' would split both 'embed' and 'vision_embed'"),
    (("embed", "embed"), (8, 8), "would split both"),
    (("batch", "embed"), (8, 8), "'fsdp' would split both 'batch' and 'embed'"),
    (("embed",), (8, 8), "1 axis names"),
])  # fmt: skip
def test_resolve_is_strict(names, shape, message):
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    with pytest.raises(ConfigError) as error:
        resolve(names, shape, mesh, AxisRules(), "expert/x")
    assert message in str(error.value)


def test_rules_and_meshes_must_know_each_other():
    with pytest.raises(ConfigError, match="axis rule mlp names"):
        AxisRules(mlp=("model",))
    with pytest.raises(ConfigError, match="rules"):
        build(AxisRules, {"rules": []})
    assert build(AxisRules, {"mlp": ["tensor", "seq"]}).mlp == ("tensor", "seq")
    other = jax.make_mesh((8,), ("fsdp",), axis_types=(AxisType.Auto,))
    with pytest.raises(ConfigError, match="the mesh has no axis 'tensor'"):
        resolve(("mlp",), (8,), other, AxisRules())
    assert len({AxisRules(), AxisRules(), AxisRules(mlp=())}) == 2  # a static argument of jit


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize(
    "sizes", [dict(fsdp=8), dict(fsdp=2, tensor=4), dict(data=2, tensor=4)], ids=str
)
def test_every_preset_divides_by_the_default_rules(name, sizes):
    config = preset(name)
    mesh = make_mesh(**sizes)
    shardings = flatten(
        param_shardings(logical_axes(config), param_shapes(config), mesh, AxisRules())
    )
    shapes = flatten(param_shapes(config))
    assert shardings.keys() == shapes.keys()


def test_fully_sharded_release_holds_an_eighth_per_device():
    config = preset("r1_10b")
    shapes = flatten(param_shapes(config))
    shardings = flatten(
        param_shardings(logical_axes(config), param_shapes(config), make_mesh(fsdp=8), AxisRules())
    )
    held = sum(math.prod(s.shard_shape(shapes[p].shape)) for p, s in shardings.items())
    total = sum(math.prod(s.shape) for s in shapes.values())
    assert held / total < 1.001 / 8 + 0.001


def test_errors_name_the_parameter():
    config = preset("tiny")
    config = dataclasses.replace(
        config, expert=dataclasses.replace(config.expert, intermediate_size=190)
    )
    with pytest.raises(ConfigError, match="expert/layers/mlp/(gate|up|down)_proj/kernel"):
        param_shardings(
            logical_axes(config), param_shapes(config), make_mesh(fsdp=2, tensor=4), AxisRules()
        )
    axes = logical_axes(config)
    del axes["expert"]["norm"]
    with pytest.raises(ConfigError, match="differ below expert"):
        param_shardings(axes, param_shapes(config), make_mesh(), AxisRules())


def test_two_rule_sets_for_one_program():
    config, mesh = preset("tiny"), make_mesh(fsdp=4, tensor=2)
    split = param_shardings(logical_axes(config), param_shapes(config), mesh, AxisRules())
    whole = param_shardings(
        logical_axes(config), param_shapes(config), mesh,
        AxisRules(embed=(), vision_embed=(), heads=(), kv_heads=(), mlp=(), vision_heads=(),
                  vision_mlp=()),
    )  # fmt: skip
    assert all(s.is_fully_replicated for s in jax.tree.leaves(whole))
    assert not all(s.is_fully_replicated for s in jax.tree.leaves(split))


def test_constrain():
    mesh, rules = make_mesh(data=2, fsdp=2, tensor=2), AxisRules()
    x = jnp.arange(8 * 4 * 6, dtype=jnp.float32).reshape(8, 4, 6)
    names = ("batch", "length", "act_mlp")
    out = jax.jit(lambda x: constrain(x * 2, names, mesh, rules))(x)
    # An axis of size 1 splits nothing and may be left out.
    assert out.sharding.shard_shape(x.shape) == (2, 4, 3)
    np.testing.assert_array_equal(out, x * 2)
    assert constrain(x, names, None, rules) is x
    with pytest.raises(ConfigError, match="hidden: dimension 'batch' of 6"):
        constrain(x[:6], names, mesh, rules, "hidden")
