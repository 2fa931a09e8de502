"""Schedules, groups and weight decay."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.presets import preset
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.train import partition
from alpamayo_jax.train.optimiser import (
    OptimiserConfig,
    make_optimiser,
    make_schedule,
    train_everything,
)

BASE = OptimiserConfig(learning_rate=2.0, num_steps=12, warmup_steps=2, final_fraction=0.25)


@pytest.mark.parametrize("schedule, middle, last", [
    ("cosine", 2 * (0.75 * 0.5 + 0.25), 0.5), ("linear", 1.25, 0.5), ("constant", 2.0, 2.0),
])  # fmt: skip
def test_schedules(schedule, middle, last):
    rate = make_schedule(dataclasses.replace(BASE, schedule=schedule))
    got = [float(rate(step)) for step in (0, 1, 2, 7, 12)]
    np.testing.assert_allclose(got, [0.0, 1.0, 2.0, middle, last], rtol=1e-6)


@pytest.mark.parametrize("changes", [
    dict(schedule="step"), dict(warmup_steps=13), dict(num_steps=0), dict(learning_rate=-1.0),
], ids=str)  # fmt: skip
def test_settings_that_make_no_sense(changes):
    with pytest.raises(ConfigError):
        dataclasses.replace(BASE, **changes)


def test_groups_cover_every_parameter_of_every_stage():
    shapes = param_shapes(preset("tiny"))
    groups = ((r"vlm/visual/.*", 0.1), (r"vlm/.*", 1.0), (r".*", 0.0))
    factors = partition.parameter_factors(shapes, groups)
    assert set(jax.tree.leaves(factors["vlm"]["visual"])) == {0.1}
    assert set(jax.tree.leaves(factors["expert"])) == {0.0}
    with pytest.raises(ConfigError, match="no parameter group matches action_in_proj/encoder"):
        partition.parameter_factors(shapes, ((r"vlm/.*", 1.0), (r"expert/.*", 1.0)))
    with pytest.raises(ConfigError, match="vlm/vision/.* match no parameter"):
        partition.parameter_factors(shapes, ((r"vlm/vision/.*", 0.1), (r".*", 1.0)))
    with pytest.raises(ConfigError, match="every parameter is frozen"):
        make_optimiser(dataclasses.replace(BASE, groups=((r".*", 0.0),)), shapes)


def test_split_and_merge():
    tree, factors = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 0.5, "b": {"c": 0.0, "d": 1.0}}
    trainable, frozen = partition.split(tree, factors)
    assert trainable == {"a": 1, "b": {"c": None, "d": 3}}
    assert frozen == {"a": None, "b": {"c": 2, "d": None}}
    assert partition.merge(trainable, frozen) == tree


def test_frozen_parameters_can_be_narrow():
    tree, factors = {"a": jnp.ones(2), "b": jnp.ones(2)}, {"a": 0.5, "b": 0.0}
    types = jax.tree.map(lambda leaf: str(leaf.dtype), partition.cast_frozen(tree, factors, "bfloat16"))
    assert types == {"a": "float32", "b": "bfloat16"}


def test_any_transformation_can_train_everything():
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    optimiser = train_everything(optax.sgd(0.5), params)
    updates, _ = optimiser.update(params, optimiser.init(params), params)
    assert updates["a"].tolist() == [-0.5] * 2 and updates["b"].tolist() == [-0.5] * 3
    assert optimiser.schedule is None


def test_first_update_by_group():
    """Adam's first update is the learning rate, times the group's factor, against the gradient."""
    params = {"a": jnp.ones(3), "b": jnp.ones(3), "c": jnp.ones(3)}
    config = OptimiserConfig(
        0.01, 10, eps=0.0, groups=((r"a", 1.0), (r"b", 0.1), (r"c", 0.0))
    )
    optimiser = make_optimiser(config, params)
    grads = {"a": jnp.array([1.0, -2.0, 3.0]), "b": jnp.full(3, -5.0), "c": None}
    updates, _ = optimiser.update(grads, optimiser.init(params), params)
    np.testing.assert_allclose(updates["a"], [-0.01, 0.01, -0.01], rtol=1e-5)
    np.testing.assert_allclose(updates["b"], [0.001] * 3, rtol=1e-5)
    assert updates["c"] is None


def test_the_norm_is_that_of_what_trains():
    params = {"a": jnp.zeros(1), "frozen": jnp.zeros(1)}
    config = OptimiserConfig(1.0, 10, groups=((r"a", 1.0), (r"frozen", 0.0)))
    optimiser = make_optimiser(config, params)
    grads = {"a": jnp.full(1, 3.0), "frozen": jnp.full(1, 1e6)}
    _, state = optimiser.update(grads, optimiser.init(params), params)
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    np.testing.assert_allclose(moments[0], [0.1 * 1.0], rtol=1e-6)  # clipped from 3 to 1


def test_matrices_decay_and_vectors_do_not():
    params = {
        "layers": {"q": {"kernel": jnp.ones((4, 2, 2))}, "norm": {"scale": jnp.ones((4, 2))}},
        "head": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    }
    optimiser = make_optimiser(OptimiserConfig(0.1, 10, weight_decay=0.5), params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimiser.update(zeros, optimiser.init(params), params)
    np.testing.assert_allclose(updates["layers"]["q"]["kernel"], -0.05, rtol=1e-6)
    np.testing.assert_allclose(updates["head"]["kernel"], -0.05, rtol=1e-6)
    assert not updates["layers"]["norm"]["scale"].any() and not updates["head"]["bias"].any()
