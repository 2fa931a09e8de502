"""Attention of a prompt: kernels against XLA, forwards and backwards, and for chips not there."""

import contextlib

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.kernels import lowering
from alpamayo_jax.kernels.attention import KeyRange, causal_range, prefix_range, segment_range
from alpamayo_jax.kernels.prefill_attention import MRope, prefill_attention
from alpamayo_jax.kernels.prefill_attention.gradient import block_bounds
from alpamayo_jax.kernels.prefill_attention.shapes import CASES
from alpamayo_jax.testing.tiny import quick_jit

# Of the output, and of gradients relative to the largest: narrow weights are rounded in between.
TOLERANCE = {jnp.float32: 4e-6, jnp.bfloat16: 0.02, jnp.float16: 3e-3}


def _normal(shape, seed, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def _qkv(batch, tokens, heads, kv_heads, size, dtype=jnp.float32):
    return (
        _normal((batch, tokens, heads, size), 0, dtype),
        _normal((batch, kv_heads, tokens, size), 1, dtype),
        _normal((batch, kv_heads, tokens, size), 2, dtype),
    )


def _mask(batch, tokens, left=0, right=0):
    mask = np.ones((batch, tokens), bool)
    mask[0, :left] = False
    mask[0, tokens - right :] = False
    return jnp.asarray(mask)


def _positions(batch, tokens):
    return jnp.asarray(np.random.default_rng(3).integers(0, 60, (3, batch, tokens)), jnp.int32)


def _run(implementation, chip, qkv, keys, rope=None):
    """Output and gradients of a weighted sum of it."""

    def loss(q, k, v):
        out = prefill_attention(
            q, k, v, keys, rope, scale=q.shape[-1] ** -0.5, implementation=implementation,
            interpret=True,
        )  # fmt: skip
        return jnp.vdot(_normal(out.shape, 7), out.astype(jnp.float32)), out

    with lowering.abstract_device(chip) if chip else contextlib.nullcontext():
        run = quick_jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
        (_, out), grads = run(*qkv)
    return out, *grads


def _compare(chip, qkv, keys, rope=None):
    got, want = _run("pallas", chip, qkv, keys, rope), _run("xla", None, qkv, keys, rope)
    for a, b in zip(got, want):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        a, b = (np.asarray(value, np.float32) for value in (a, b))
        atol = TOLERANCE[qkv[0].dtype.type] * max(1, np.abs(b).max())
        np.testing.assert_allclose(a, b, atol=atol)


class RangesTest(parameterized.TestCase):
    def test_causal(self):
        mask = causal_range(_mask(2, 5, left=1, right=1)).mask(5)
        want = np.tril(np.ones((5, 5), bool))
        np.testing.assert_array_equal(mask[1], want)
        want[:, 0] = want[:, 4] = False
        np.testing.assert_array_equal(mask[0], want)

    def test_prefix(self):
        mask = prefix_range(jnp.asarray([2, 0]), 3).mask(3)
        np.testing.assert_array_equal(mask[0], [[1, 1, 0]] * 3)
        assert not mask[1].any()

    def test_segments(self):
        mask = segment_range(jnp.asarray([[2, 3, 0], [1, 1, 4]]), 7).mask(7)
        want = np.zeros((2, 7, 7), bool)
        for row, spans in enumerate((((0, 2), (2, 5)), ((0, 1), (1, 2), (2, 6)))):
            for start, end in spans:
                want[row, start:end, start:end] = True
        np.testing.assert_array_equal(mask, want)

    @parameterized.parameters((3, 2), (4, 4), (16, 16))
    def test_blocks_hold_everything_that_is_seen(self, block_q, block_k):
        rng = np.random.default_rng(0)
        first = rng.integers(0, 14, (4, 13))
        keys = KeyRange(jnp.asarray(first), jnp.asarray(first + rng.integers(-3, 6, (4, 13))))
        mask = np.asarray(keys.mask(13))
        low, high, low_k, high_k = (np.asarray(a) for a in block_bounds(keys, block_q, block_k))
        for b, i in np.ndindex(low.shape):
            seen = mask[b, i * block_q : (i + 1) * block_q].any(0)
            blocks = {s // block_k for s in np.flatnonzero(seen)}
            assert blocks <= set(range(low[b, i], high[b, i]))
            assert bool(blocks) == (low[b, i] < high[b, i])
        for b, j in np.ndindex(low_k.shape):
            queries = mask[b, :, j * block_k : (j + 1) * block_k].any(1)
            assert {t // block_q for t in np.flatnonzero(queries)} <= set(
                range(low_k[b, j], high_k[b, j])
            )


class PrefillAttentionTest(parameterized.TestCase):
    @parameterized.parameters(None, "v5e")
    def test_causal_with_padding_and_positions(self, chip):
        qkv = _qkv(2, 150, 4, 2, 32)
        rope = MRope(_positions(2, 150), section=(6, 5, 5), theta=1e4)
        _compare(chip, qkv, causal_range(_mask(2, 150, left=7)), rope)

    @parameterized.product(chip=(None, "v5e"), dtype=(jnp.float32, jnp.bfloat16, jnp.float16))
    def test_images_side_by_side(self, chip, dtype):
        keys = segment_range(jnp.asarray([[20, 33, 9]]), 70)
        _compare(chip, _qkv(1, 70, 2, 2, 24, dtype), keys)

    @parameterized.product(
        chip=(None, "v5e"),
        heads=((4, 4), (6, 1)),
        dtype=(jnp.float32, jnp.bfloat16, jnp.float16),
        rotated=(False, True),
    )
    @pytest.mark.slow
    def test_head_ratios_and_types(self, chip, heads, dtype, rotated):
        rope = MRope(_positions(1, 140), section=(6, 5, 5), theta=1e4) if rotated else None
        keys = causal_range(_mask(1, 140, left=3, right=70))
        _compare(chip, _qkv(1, 140, *heads, 32, dtype), keys, rope)

    @parameterized.product(chip=(None, "v5e"), tokens=(1, 63, 64, 65, 257))
    @pytest.mark.slow
    def test_lengths(self, chip, tokens):
        _compare(chip, _qkv(1, tokens, 2, 1, 72), prefix_range(jnp.asarray([tokens]), tokens))

    @parameterized.parameters(None, "v5e")
    def test_a_token_that_sees_nothing_gets_zero_and_no_gradient(self, chip):
        qkv = _qkv(1, 40, 2, 1, 16)
        keys = causal_range(_mask(1, 40, left=20))
        out, dq, dk, dv = (np.asarray(a) for a in _run("pallas", chip, qkv, keys))
        np.testing.assert_array_equal(out[:, :20], 0)
        np.testing.assert_array_equal(dq[:, :20], 0)
        np.testing.assert_array_equal(dk[:, :, :20], 0)
        np.testing.assert_array_equal(dv[:, :, :20], 0)
        assert np.isfinite(np.concatenate([a.ravel() for a in (out, dq, dk, dv)])).all()
        assert np.abs(out[:, 20:]).min() > 0

    @parameterized.parameters("xla", "pallas")
    def test_shapes_that_do_not_belong_together(self, implementation):
        q, k, v = _qkv(1, 8, 4, 2, 16)
        keys = prefix_range(jnp.asarray([8]), 8)
        how = dict(scale=1.0, implementation=implementation, interpret=True)
        with self.assertRaises(AssertionError):
            prefill_attention(q, k, v[:, :, :-1], keys, **how)
        with self.assertRaises(AssertionError):
            prefill_attention(q, k, v, prefix_range(jnp.asarray([8]), 7), **how)
        with self.assertRaisesRegex(ValueError, "3 query heads are not a multiple of 2"):
            prefill_attention(q[:, :, :3], k, v, keys, **how)


def _real(case):
    """The call and its gradient."""

    def call(q, k, v, *rest):
        attend = lambda q, k, v: prefill_attention(  # noqa: E731
            q, k, v, *rest, implementation="pallas", **case.options
        )
        out, pull = jax.vjp(attend, q, k, v)
        return out, pull(out)

    return call


class RealShapesTest(parameterized.TestCase):
    @parameterized.product(case=CASES, chip=("h100", "rtx_pro_6000", "v5e"))
    def test_lowers(self, case, chip):
        assert lowering.kernels_in(lowering.lower(_real(case), *case.specs(), target=chip)) == 3

    @parameterized.product(case=CASES, chip=(*lowering.GPUS, *lowering.TPUS))
    @pytest.mark.slow
    def test_compiles(self, case, chip):
        if not lowering.can_compile(chip):
            self.skipTest(f"the compiler for {chip} is not installed")
        lowering.compile_ahead(_real(case), *case.specs(), target=chip)
