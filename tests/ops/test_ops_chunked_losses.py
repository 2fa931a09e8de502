"""Cross-entropy in chunks against the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.ops.losses import chunked_cross_entropy, token_cross_entropy

_RNG = np.random.default_rng(0)
_HIDDEN = jnp.asarray(_RNG.standard_normal((2, 11, 4)), jnp.float32)
_KERNEL = jnp.asarray(_RNG.standard_normal((4, 7)), jnp.float32)
_TARGETS = jnp.asarray(_RNG.integers(0, 7, (2, 11)))
_WANTED = jnp.arange(11)[None] >= jnp.array([[6], [9]])


def _chunked(kernel, hidden, chunk, wanted=_WANTED):
    return chunked_cross_entropy(lambda h: h @ kernel, hidden, _TARGETS, wanted, chunk)


@pytest.mark.parametrize("chunk", [3, 5, 11, 100])
def test_values_and_gradients_equal_those_of_the_whole(chunk):
    def total(compute):
        return lambda kernel, hidden: jnp.sum(compute(kernel, hidden) * _WANTED)

    chunked = total(lambda kernel, hidden: _chunked(kernel, hidden, chunk))
    whole = total(lambda kernel, hidden: token_cross_entropy(hidden @ kernel, _TARGETS))
    got = jax.jit(jax.value_and_grad(chunked, (0, 1)))(_KERNEL, _HIDDEN)
    want = jax.value_and_grad(whole, (0, 1))(_KERNEL, _HIDDEN)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert _chunked(_KERNEL, _HIDDEN, chunk).shape == (2, 11)


def test_chunks_without_a_wanted_token_are_skipped():
    losses = np.asarray(_chunked(_KERNEL, _HIDDEN, 3))
    assert (losses[:, :6] == 0).all() and (losses[:, 6:] > 0).all()
    # Whatever stands there, even what is not finite, is never read.
    broken = _HIDDEN.at[:, :6].set(jnp.nan)
    np.testing.assert_array_equal(_chunked(_KERNEL, broken, 3), losses)


def test_no_array_holds_all_logits():
    program = str(jax.make_jaxpr(jax.grad(lambda k: _chunked(k, _HIDDEN, 3).sum()))(_KERNEL))
    assert "f32[2,3,7]" in program
    assert "f32[2,11,7]" not in program and "f32[2,12,7]" not in program
