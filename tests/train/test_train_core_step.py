"""The train step on a model of one matrix: accumulation, freezing, averages, what is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.train import ema
from alpamayo_jax.train.objective import Objective
from alpamayo_jax.train.optimiser import OptimiserConfig, make_optimiser
from alpamayo_jax.train.state import abstract_state, create_state
from alpamayo_jax.train.step import make_train_step, narrow_kernels, split_rows

ROWS, WIDTH = 12, 5


def make_params():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)  # noqa: E731
    params = {"head": {"kernel": draw(WIDTH)}, "trunk": {"kernel": draw(WIDTH, WIDTH)}}
    # -0.0 + 0.0 is 0.0: adding a zero update would change this bit.
    params["trunk"]["kernel"] = params["trunk"]["kernel"].at[0, 0].set(-0.0)
    return params


def make_batch(seed=1):
    rng = np.random.default_rng(seed)
    return {
        "x": jnp.asarray(rng.standard_normal((ROWS, WIDTH)), jnp.float32),
        "y": jnp.asarray(rng.standard_normal((ROWS, 3)), jnp.float32),
        # Labels fall unevenly: means of micro-batches' means would be wrong.
        "few": jnp.asarray(rng.random((ROWS, 3)) < 0.2),
        "many": jnp.asarray(rng.random((ROWS, 3)) < 0.8),
    }


def prepare(batch, rng):
    noise = 0.1 * jax.random.normal(rng, batch["y"].shape)
    examples = {"x": batch["x"], "y": batch["y"] + noise}
    return examples, {"few": batch["few"], "many": batch["many"], "none": batch["few"] & False}


def values(params, examples, weights):
    out = jnp.tanh(examples["x"] @ params["trunk"]["kernel"]) @ params["head"]["kernel"]
    error = jnp.square(out[:, None] - examples["y"])
    return dict.fromkeys(weights, error)


OBJECTIVE = Objective(prepare, values, {"few": 1.0, "many": 0.5, "none": 2.0})
ALL = OptimiserConfig(learning_rate=0.05, num_steps=10, weight_decay=0.1)
HEAD = OptimiserConfig(0.05, 10, groups=((r"head/.*", 1.0), (r"trunk/.*", 0.0)))


def run(config=ALL, steps=3, ema_decay=None, objective=OBJECTIVE, **options):
    params = make_params()
    optimiser = make_optimiser(config, params)
    state = create_state(params, optimiser, ema_decay is not None)
    step = make_train_step(objective, optimiser, ema_decay=ema_decay, **options)
    metrics = {}
    for _ in range(steps):
        state, metrics = step(state, make_batch(), jax.random.key(7))
    return jax.device_get(state), jax.device_get(metrics)


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_accumulation_equals_the_large_batch(parts):
    whole, whole_metrics = run()
    state, metrics = run(accumulate=parts)
    assert metrics.keys() == whole_metrics.keys()
    for name in metrics:
        np.testing.assert_allclose(metrics[name], whole_metrics[name], rtol=1e-6, atol=1e-6)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_terms_and_loss():
    params, batch, key = make_params(), make_batch(), jax.random.key(3)
    loss, metrics = OBJECTIVE(params, batch, key)
    examples, weights = prepare(batch, key)
    error = values(params, examples, weights)["few"]
    for name in ("few", "many"):
        np.testing.assert_allclose(metrics[name], error[batch[name]].mean(), rtol=1e-6)
    assert metrics["none"] == 0
    np.testing.assert_allclose(loss, metrics["few"] + 0.5 * metrics["many"], rtol=1e-6)
    with pytest.raises(ConfigError, match="no term"):
        Objective(prepare, values, {"few": 0.0})


def test_metrics_and_step_number():
    state, metrics = run(steps=2)
    assert state.step == 2
    assert metrics["finite"] == 1 and metrics["grad_norm"] > 0
    np.testing.assert_allclose(metrics["learning_rate"], 0.05 * (0.9 * 0.9755283 + 0.1), rtol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_frozen_parameter_does_not_move_by_one_bit(accumulate):
    before = make_params()
    state, _ = run(HEAD, steps=4, accumulate=accumulate)
    assert state.params["trunk"]["kernel"].tobytes() == before["trunk"]["kernel"].tobytes()
    assert np.all(state.params["head"]["kernel"] != before["head"]["kernel"])
    shapes = [leaf.shape for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert shapes == [(WIDTH,)] * 2


def test_the_callers_parameters_survive_unless_donated():
    params = make_params()
    optimiser = make_optimiser(ALL, params)
    step = make_train_step(OBJECTIVE, optimiser)
    step(create_state(params, optimiser), make_batch(), jax.random.key(0))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))
    create_state(params, optimiser, donate=True)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(params))


def test_what_is_not_finite_changes_nothing():
    params = make_params()
    optimiser = make_optimiser(ALL, params)
    step = make_train_step(OBJECTIVE, optimiser, ema_decay=0.9)
    state, _ = step(create_state(params, optimiser, True), make_batch(), jax.random.key(0))
    before = jax.device_get(state)
    batch = make_batch() | {"x": jnp.full((ROWS, WIDTH), jnp.nan)}
    after, metrics = step(state, batch, jax.random.key(0))
    assert metrics["finite"] == 0 and not np.isfinite(metrics["loss"])
    assert after.step == before.step + 1
    for a, b in zip(jax.tree.leaves(after)[1:], jax.tree.leaves(before)[1:], strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_average_follows_what_trains():
    state, _ = run(HEAD, steps=1, ema_decay=0.99)
    before, after = make_params()["head"]["kernel"], state.params["head"]["kernel"]
    assert state.ema["trunk"]["kernel"] is None
    # The first step keeps a tenth of the old value.
    np.testing.assert_allclose(state.ema["head"]["kernel"], 0.1 * before + 0.9 * after, rtol=1e-6)
    whole = ema.averaged_params(state.params, state.ema)
    np.testing.assert_array_equal(whole["trunk"]["kernel"], state.params["trunk"]["kernel"])
    np.testing.assert_array_equal(whole["head"]["kernel"], state.ema["head"]["kernel"])
    late = ema.update({"a": jnp.ones(())}, {"a": jnp.zeros(())}, 0.99, jnp.int32(10_000))
    np.testing.assert_allclose(late["a"], 0.99, rtol=1e-6)


def test_narrow_masters_keep_wide_moments():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), make_params())
    optimiser = make_optimiser(ALL, params)
    state = create_state(params, optimiser, True)
    types = jax.tree.map(lambda leaf: leaf.dtype, state)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim} == {np.dtype("float32")}
    after, _ = make_train_step(OBJECTIVE, optimiser, ema_decay=0.9, accumulate=3)(
        state, make_batch(), jax.random.key(0)
    )
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == types


def test_abstract_state_is_the_states_shape():
    params = make_params()
    optimiser = make_optimiser(HEAD, params)
    state = create_state(params, optimiser, True)
    like = abstract_state(params, optimiser, True)
    assert jax.tree.structure(like) == jax.tree.structure(state)
    got, want = jax.tree.leaves(state), jax.tree.leaves(like)
    assert [(a.shape, a.dtype) for a in got] == [(a.shape, a.dtype) for a in want]


def test_kernels_become_narrow():
    one = jnp.ones((2, 3))
    tree = {"layers": {"a": {"kernel": one, "bias": one}}, "embed": {"embedding": one}}
    narrow = narrow_kernels(tree, "bfloat16")
    assert narrow["layers"]["a"]["kernel"].dtype == jnp.bfloat16
    assert narrow["layers"]["a"]["bias"].dtype == jnp.float32
    assert narrow["embed"]["embedding"].dtype == jnp.float32
    assert narrow_kernels(tree, None) is tree
    wide = narrow_kernels(narrow, "float32")
    assert wide["layers"]["a"]["kernel"].dtype == jnp.bfloat16


def test_rows_of_micro_batches():
    examples = {"x": jnp.arange(6), "position_ids": jnp.arange(18).reshape(3, 6)}
    parts = split_rows(examples, 2)
    np.testing.assert_array_equal(parts["x"], [[0, 2, 4], [1, 3, 5]])
    np.testing.assert_array_equal(parts["position_ids"][1], [[1, 3, 5], [7, 9, 11], [13, 15, 17]])
    with pytest.raises(ConfigError, match="6 rows does not split into 4"):
        split_rows(examples, 4)


def test_a_plain_function_trains_but_does_not_accumulate():
    def plain(params, batch, rng):
        return jnp.sum(params["head"]["kernel"] ** 2), {"a": jnp.float32(2)}

    _, metrics = run(objective=plain)
    assert metrics["a"] == 2
    with pytest.raises(ConfigError, match="Objective"):
        run(objective=plain, accumulate=2)


def test_contradictions():
    params = make_params()
    optimiser = make_optimiser(ALL, params)
    with pytest.raises(ConfigError, match="accumulate 0"):
        make_train_step(OBJECTIVE, optimiser, accumulate=0)
    with pytest.raises(ConfigError, match="together"):
        make_train_step(OBJECTIVE, optimiser, batch_sharding=object())
    with pytest.raises(ConfigError, match="moving average"):
        make_train_step(OBJECTIVE, optimiser, ema_decay=0.9)(
            create_state(params, optimiser), make_batch(), jax.random.key(0)
        )
