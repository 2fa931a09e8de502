"""Waypoints on a shared prefix and their sample's reasoning: one kernel for several programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import KernelConfig
from alpamayo_jax.layers.attention import GroupedQueryAttention
from alpamayo_jax.ops.attention import Segment, is_flow_step
from alpamayo_jax.ops.rope import mrope_table

B, K, W, S, U, G, H = 2, 3, 12, 70, 9, 2, 32
SIZES = dict(hidden_size=48, num_heads=4, num_kv_heads=G, head_dim=H)
ONE_BY_ONE = (1, 1, W, W)


def _segment(*lead, size, mask, seed):
    rng = np.random.default_rng(seed)
    k, v = rng.standard_normal((2, *lead, G, size, H)).astype(np.float32)
    return Segment(k=jnp.asarray(k), v=jnp.asarray(v), mask=jnp.asarray(rng.random(mask) < 0.7))


def _arguments():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((B, K, W, 48)), jnp.float32)
    positions = jnp.broadcast_to(jnp.arange(W), (3, B, 1, W))  # the same for all samples
    context = [
        _segment(B, size=S, mask=(B, 1, 1, S), seed=1),
        _segment(B, K, size=U, mask=(1, K, 1, U), seed=2),
    ]
    return x, mrope_table(positions, H, (8, 4, 4), 1e4), context


def _apply(kernels, mask, context=None):
    x, rope, given = _arguments()
    context = given if context is None else context
    module = GroupedQueryAttention(**SIZES, kernels=kernels)
    start = jnp.zeros((1, 1, 48)), (jnp.zeros((1, 1, H)),) * 2, jnp.ones((1, 1, 1), bool)
    params = module.init(jax.random.key(0), *start)
    # Norms that do something.
    params = jax.tree.map(lambda a: a + 0.1 * jnp.arange(a.shape[-1]) / a.shape[-1], params)
    run = jax.jit(lambda p, x: module.apply(p, x, rope, mask, context))
    return run, (params, x)


def test_the_kernel_runs_and_computes_the_same():
    plain, arguments = _apply(KernelConfig(), jnp.ones(ONE_BY_ONE, bool))
    kernel, _ = _apply(KernelConfig("pallas", interpret=True), None)
    text = str(jax.make_jaxpr(kernel)(*arguments))
    assert "name=flow_attention" in text and "decode_attention" not in text
    got, want = kernel(*arguments), plain(*arguments)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_no_mask_means_everyone():
    plain, arguments = _apply(KernelConfig(), jnp.ones(ONE_BY_ONE, bool))
    without, _ = _apply(KernelConfig(), None)
    for ours, theirs in zip(*(jax.tree.leaves(f(*arguments)) for f in (without, plain))):
        np.testing.assert_array_equal(ours, theirs)


def test_by_default_there_is_no_kernel():
    run, arguments = _apply(KernelConfig(), None)
    assert "pallas_call" not in str(jax.make_jaxpr(run)(*arguments))


_, _, (SHARED, OWN) = _arguments()


@pytest.mark.parametrize(
    "context, want",
    [
        ([SHARED, OWN], True),
        ([SHARED], False),
        ([SHARED, OWN, OWN], False),
        ([OWN, OWN], False),
        # Waypoints that see different keys.
        ([SHARED, OWN.replace(mask=jnp.ones((B, K, W, U), bool))], False),
        ([SHARED.replace(mask=jnp.ones((B, K, 1, S), bool)), OWN], False),
    ],
)
def test_what_a_flow_step_is(context, want):
    assert is_flow_step(context) == want
