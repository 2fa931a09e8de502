"""The whole sampling program with the batch spread over eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from alpamayo_jax.decode.sample import sample_program
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.testing.tiny import quick_jit, random_inputs, random_params, tiny_config

_CONFIG = tiny_config()
# One Euler step: the next would read the rounding error of the first through frequencies up to 100,
# which turns 1e-6 into 1e-3.
_SETTINGS = SampleSettings(num_samples=2, max_new_tokens=4, flow_steps=1)


def test_sharded_equals_unsharded():
    if jax.device_count() < 8:
        pytest.skip("needs eight devices; XLA_FLAGS was set before the tests were")
    inputs = random_inputs(_CONFIG, [[(4, 4)], [(2, 4), (2, 2)]] * 4)
    params, key = random_params(_CONFIG), jax.random.key(0)
    noise = jax.random.normal(jax.random.key(1), (8, 2, _CONFIG.action.n_waypoints, 2))
    run = quick_jit(
        lambda params, inputs, noise: sample_program(
            params, inputs, key, _CONFIG, _SETTINGS, noise=noise
        )
    )
    want = run(params, inputs, noise)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    spread = jax.device_put(inputs.replace(position_ids=jnp.zeros(8)), rows)
    axes = NamedSharding(mesh, PartitionSpec(None, "data"))
    spread = spread.replace(position_ids=jax.device_put(inputs.position_ids, axes))
    everywhere = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    got = run(everywhere, spread, jax.device_put(noise, rows))

    assert len(got.actions.sharding.device_set) == 8
    assert got.actions.sharding.shard_shape(got.actions.shape)[0] == 1
    np.testing.assert_array_equal(got.generation.token_ids, want.generation.token_ids)
    np.testing.assert_allclose(got.generation.logprobs, want.generation.logprobs, atol=1e-5)
    np.testing.assert_allclose(got.actions, want.actions, atol=1e-5)
    np.testing.assert_allclose(got.trajectory.xyz, want.trajectory.xyz, rtol=1e-5, atol=1e-5)
