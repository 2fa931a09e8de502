"""Rollouts and their log-probabilities spread over eight devices, by two sets of rules."""

import functools

import jax
import numpy as np
import pytest

from alpamayo_jax import convert
from alpamayo_jax.rl.completions import completion_logprobs
from alpamayo_jax.rl.rollout import rollout_program
from alpamayo_jax.rl.types import RolloutBatch
from alpamayo_jax.sharding import AxisRules, Layout, batch_shardings, make_mesh, param_shardings
from alpamayo_jax.testing.tiny import quick_jit, random_inputs

from rollout_cases import CONFIG, CONSTRAINED, K, params

# As trained: rows and parameters over all devices; and for rollouts alone: the parameters of a
# tensor-parallel pair on every pair, the samples of a group over them.
CASES = {
    "training": (dict(data=2, fsdp=4), AxisRules()),
    "rollouts": (
        dict(data=2, fsdp=2, tensor=2),
        AxisRules(batch=("data",), samples=("fsdp",), embed=(), vision_embed=()),
    ),
}


@functools.cache
def _inputs():
    return random_inputs(CONFIG, [[(4, 4)], [(2, 4), (2, 2)]] * 4)


def _both(params, inputs, layout=None):
    """Rollouts, and the log-probabilities that an update would see."""
    found = rollout_program(params, inputs, jax.random.key(0), CONFIG, CONSTRAINED, layout=layout)
    logprobs, _ = completion_logprobs(
        params, inputs, found.token_ids, found.mask, CONFIG, CONSTRAINED, layout=layout
    )
    return found, logprobs


@functools.cache
def _unsharded():
    return quick_jit(_both)(params(), _inputs())


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_sharded_equals_unsharded(name):
    if jax.device_count() < 8:
        pytest.skip("needs eight devices; XLA_FLAGS was set before the tests were")
    sizes, rules = CASES[name]
    mesh = make_mesh(**sizes)
    where = param_shardings(convert.logical_axes(CONFIG), params(), mesh, rules)
    inputs = jax.device_put(_inputs(), batch_shardings(_inputs(), mesh, rules))
    run = quick_jit(functools.partial(_both, layout=Layout(mesh, rules)))
    got, logprobs = run(jax.device_put(params(), where), inputs)
    want, _ = _unsharded()

    assert len(got.token_ids.sharding.device_set) == 8
    assert not logprobs.sharding.is_fully_replicated
    np.testing.assert_array_equal(got.token_ids, want.token_ids)
    np.testing.assert_array_equal(got.trajectory_valid, want.trajectory_valid)
    assert np.asarray(got.trajectory_valid).any()
    np.testing.assert_allclose(got.logprobs, want.logprobs, atol=1e-4)
    np.testing.assert_allclose(logprobs, got.logprobs, atol=1e-4)
    np.testing.assert_allclose(got.trajectory.xyz, want.trajectory.xyz, rtol=1e-4, atol=1e-3)


def test_every_array_of_an_update_has_its_place():
    mesh = make_mesh(data=2, fsdp=4)
    shape = (8, K, 21)
    zeros = np.zeros(shape)
    batch = RolloutBatch(
        inputs=_inputs(), token_ids=zeros, mask=zeros, old_logprobs=zeros, ref_logprobs=zeros,
        advantages=zeros[..., 0], counts=zeros[..., 0],
    )  # fmt: skip
    placed = batch_shardings(batch, mesh, AxisRules(samples=()))
    assert placed.token_ids.shard_shape(shape) == (1, K, 21)
    assert placed.advantages.shard_shape(shape[:2]) == (1, K)
    split = batch_shardings(batch, mesh, AxisRules(batch=("data",), samples=("fsdp",)))
    assert split.old_logprobs.shard_shape(shape) == (4, K // 4, 21)
