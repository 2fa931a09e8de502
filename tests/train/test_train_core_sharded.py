"""The whole train step of the test policy: on one device, in micro-batches, and on 2 x 2 x 2 devices."""

import functools
import re

import jax
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.convert import param_shapes
from alpamayo_jax.sharding import AxisRules, Layout, batch_shardings, make_mesh
from alpamayo_jax.testing.tiny import GRIDS, random_params, random_train_batch, tiny_config
from alpamayo_jax.train.objectives import joint_objective
from alpamayo_jax.train.optimiser import OptimiserConfig, make_optimiser
from alpamayo_jax.train.state import abstract_state, create_state, state_shardings
from alpamayo_jax.train.step import make_train_step

CONFIG, RULES = tiny_config(), AxisRules()
ROWS, LENGTH, STEPS = 4, 96, 5


@functools.cache
def parts():
    params = random_params(CONFIG)
    config = OptimiserConfig(3e-4, 10, groups=((r"vlm/visual/.*", 0.1), (r".*", 1.0)))
    batch = random_train_batch(CONFIG, GRIDS * 2, num_reasoning=(2, 7, 5, 3), length=LENGTH)
    return params, make_optimiser(config, params), jax.tree.map(np.asarray, batch)


def placed_step(mesh, **options):
    params, optimiser, batch = parts()
    shapes = jax.eval_shape(lambda: params)
    where = state_shardings(CONFIG, mesh, RULES, optimiser, params=shapes, ema=True)
    rows = batch_shardings(batch, mesh, RULES)
    objective = joint_objective(CONFIG, layout=Layout(mesh, RULES), **options.pop("stack", {}))
    step = make_train_step(
        objective, optimiser, ema_decay=0.9, shardings=where, batch_sharding=rows, **options
    )
    return step, where, rows


def train(step, state):
    losses = []
    for _ in range(STEPS):
        state, metrics = step(state, parts()[2], jax.random.key(5))
        losses.append(jax.device_get(metrics))
    return jax.device_get(state), losses


@pytest.fixture(scope="module")
def whole():
    params, optimiser, _ = parts()
    step = make_train_step(joint_objective(CONFIG), optimiser, ema_decay=0.9)
    return train(step, create_state(params, optimiser, True))


def assert_equal_runs(got, want, tolerance):
    (state, metrics), (other, other_metrics) = got, want
    for ours, theirs in zip(metrics, other_metrics, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance, err_msg=name)
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    for tree in ("params", "ema"):
        leaves = zip(
            jax.tree.leaves(getattr(state, tree)), jax.tree.leaves(getattr(other, tree)), strict=True
        )
        for ours, theirs in leaves:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.slow
def test_two_micro_batches_equal_the_batch(whole):
    params, optimiser, _ = parts()
    step = make_train_step(joint_objective(CONFIG), optimiser, ema_decay=0.9, accumulate=2)
    assert_equal_runs(train(step, create_state(params, optimiser, True)), whole, 5e-6)


def test_eight_devices_equal_one(whole):
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    step, where, _ = placed_step(mesh)
    params, optimiser, _ = parts()
    state = create_state(params, optimiser, True, shardings=where)
    for leaf, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(where), strict=True):
        assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim)
    assert_equal_runs(train(step, state), whole, 1e-5)


@pytest.mark.slow
def test_sequence_axis_and_micro_batches_equal_one_device(whole):
    mesh = make_mesh(data=1, fsdp=2, tensor=2, seq=2)
    step, where, _ = placed_step(mesh, accumulate=2, stack=dict(remat="full"))
    params, optimiser, _ = parts()
    state = create_state(params, optimiser, True, shardings=where)
    assert_equal_runs(train(step, state), whole, 1e-5)


@pytest.mark.slow
def test_no_device_holds_the_whole_batch_or_a_whole_kernel():
    """What the compiled step of one device holds, by shape."""
    step, _, rows = placed_step(make_mesh(data=2, fsdp=2, tensor=2), stack=dict(remat="full"))
    params, optimiser, batch = parts()
    like = abstract_state(jax.eval_shape(lambda: params), optimiser, True)
    args = (like, jax.eval_shape(lambda: batch), jax.eval_shape(lambda: jax.random.key(0)))
    text = step.lower(*args).compile().as_text()
    shapes = set(re.findall(r"f32\[([\d,]+)\]", text))
    c = CONFIG.language
    assert f"{ROWS // 4},{LENGTH},{c.hidden_size}" in shapes
    assert f"{ROWS},{LENGTH},{c.hidden_size}" not in shapes
    assert f"{ROWS},{LENGTH - 1},{c.vocab_size}" not in shapes
    # Kernels are gathered one layer at a time.
    assert f"{c.num_layers},{c.hidden_size},{c.intermediate_size}" not in shapes
    assert f"{c.num_layers},{c.hidden_size // 2},{c.intermediate_size // 2}" in shapes


def test_moments_and_averages_lie_like_their_parameters():
    params, optimiser, _ = parts()
    where = state_shardings(CONFIG, make_mesh(data=2, fsdp=2, tensor=2), RULES, optimiser, ema=True)
    moments = [part for part in where.opt_state if hasattr(part, "mu")]
    assert len(moments) == 1
    for tree in (moments[0].mu, moments[0].nu, where.ema):
        assert jax.tree.leaves(tree) == jax.tree.leaves(where.params)
    specs = {str(leaf.spec) for leaf in jax.tree.leaves(where.params)}
    assert any("fsdp" in spec and "tensor" in spec for spec in specs)


def test_a_frozen_part_has_no_moments_anywhere():
    shapes = param_shapes(CONFIG)
    groups = ((r"vlm/.*", 0.0), (r".*", 1.0))
    optimiser = make_optimiser(OptimiserConfig(1e-3, 10, groups=groups), shapes)
    where = state_shardings(CONFIG, make_mesh(fsdp=8), RULES, optimiser)
    trained = len(jax.tree.leaves(shapes)) - len(jax.tree.leaves(shapes["vlm"]))
    assert len([s for s in jax.tree.leaves(where.opt_state) if s.spec]) <= 2 * trained
    assert where.ema is None


def test_a_batch_that_does_not_divide_is_refused():
    batch = parts()[2]
    with pytest.raises(ConfigError, match="inputs/input_ids.*'batch' of 4"):
        batch_shardings(batch, make_mesh(data=8, fsdp=1), RULES)
