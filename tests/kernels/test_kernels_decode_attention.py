"""Decode attention: kernels against one softmax in XLA, and for chips that are not there."""

import contextlib

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.kernels import lowering
from alpamayo_jax.kernels.attention import Segment
from alpamayo_jax.kernels.decode_attention import decode_attention
from alpamayo_jax.kernels.decode_attention.reference import by_kv_head, by_query
from alpamayo_jax.kernels.decode_attention.shapes import CASES
from alpamayo_jax.kernels.dispatch import Unsupported
from alpamayo_jax.testing.tiny import quick_jit

TOLERANCE = {jnp.float32: 2e-6, jnp.bfloat16: 0.02, jnp.float16: 2e-3}


def _case(batch, samples, queries, heads, groups, size, prefix, own, dtype=jnp.float32, seed=0):
    rng = np.random.default_rng(seed)
    normal = lambda *s: jnp.asarray(rng.standard_normal(s), dtype)  # noqa: E731
    shared_mask = rng.random((batch, 1, 1, prefix)) < 0.8
    own_mask = rng.random((batch, samples, queries, own)) < 0.8
    own_mask[..., 0] = True
    return (
        normal(batch, samples, queries, heads, size),
        Segment(
            normal(batch, groups, prefix, size), normal(batch, groups, prefix, size),
            jnp.asarray(shared_mask),
        ),
        Segment(
            normal(batch, samples, groups, own, size), normal(batch, samples, groups, own, size),
            jnp.asarray(own_mask),
        ),
    )  # fmt: skip


def _attend(implementation, chip, arguments, scale=0.2):
    def run(q, shared, own):
        return decode_attention(
            q, shared, own, scale=scale, implementation=implementation, interpret=True
        )

    with lowering.abstract_device(chip) if chip else contextlib.nullcontext():
        return quick_jit(run)(*arguments)


def _close(got, want):
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    atol = TOLERANCE[got.dtype.type]
    np.testing.assert_allclose(
        np.asarray(got, np.float32), np.asarray(want, np.float32), atol=atol, rtol=atol
    )


class DecodeAttentionTest(parameterized.TestCase):
    @parameterized.product(
        chip=(None, "v5e"),
        sizes=(
            (2, 3, 1, 4, 2, 32, 200, 9),  # ragged prefix, samples of two rows
            (1, 2, 3, 6, 2, 24, 70, 70),  # several queries; heads that are no power of two
            (1, 1, 1, 2, 2, 16, 5, 1),  # less than a block of anything
        ),
    )
    def test_equals_xla(self, chip, sizes):
        arguments = _case(*sizes)
        _close(_attend("pallas", chip, arguments), _attend("xla", None, arguments))

    @parameterized.product(chip=(None, "v5e"), dtype=(jnp.bfloat16, jnp.float16))
    def test_narrow_types(self, chip, dtype):
        arguments = _case(1, 2, 1, 8, 2, 64, 130, 5, dtype)
        _close(_attend("pallas", chip, arguments), _attend("xla", None, arguments))

    @parameterized.parameters(None, "v5e")
    def test_masked_keys_do_not_matter_and_blind_queries_get_zero(self, chip):
        q, shared, own = _case(1, 2, 1, 4, 2, 16, 150, 5)
        shared = shared.replace(mask=shared.mask & (jnp.arange(150) < 90))
        own = own.replace(mask=own.mask.at[0, 0].set(False))
        loud = shared.replace(
            k=shared.k.at[:, :, 90:].set(100.0), v=shared.v.at[:, :, 90:].set(1e6)
        )
        got = _attend("pallas", chip, (q, loud, own))
        np.testing.assert_array_equal(got, _attend("pallas", chip, (q, shared, own)))
        blind = shared.replace(mask=jnp.zeros_like(shared.mask))
        got = np.asarray(_attend("pallas", chip, (q, blind, own)))
        np.testing.assert_array_equal(got[0, 0], 0)
        assert np.abs(got[0, 1]).min() > 0

    def test_the_gradient_is_that_of_xla(self):
        arguments = _case(1, 2, 1, 4, 2, 16, 40, 3)

        def grads(implementation):
            def loss(q, k, v):
                shared, own = arguments[1].replace(k=k), arguments[2].replace(v=v)
                out = decode_attention(
                    q, shared, own, scale=0.2, implementation=implementation, interpret=True
                )
                return jnp.sum(jnp.sin(out))

            run = quick_jit(jax.grad(loss, argnums=(0, 1, 2)))
            return run(arguments[0], arguments[1].k, arguments[2].v)

        for got, want in zip(grads("pallas"), grads("xla")):
            np.testing.assert_allclose(got, want, atol=2e-6)

    def test_rows_of_a_kv_head_stand_together_and_go_back(self):
        q = jnp.arange(2 * 3 * 2 * 6 * 5).reshape(2, 3, 2, 6, 5)
        rows = by_kv_head(q, 2)
        assert rows.shape == (2, 2, 3, 2 * 3, 5)
        np.testing.assert_array_equal(rows[1, 1, 2, 3:], q[1, 2, 1, 3:])
        np.testing.assert_array_equal(by_query(rows, 2), q)

    def test_what_the_kernels_leave_to_xla(self):
        q, shared, own = _case(1, 2, 1, 4, 2, 16, 40, 3)
        different = shared.replace(mask=jnp.ones((1, 2, 1, 40), bool))
        with pytest.raises(Unsupported, match="one for all samples"):
            _attend("pallas", None, (q, different, own))
        _close(
            _attend(("pallas", "xla"), None, (q, different, own)),
            _attend("xla", None, (q, different, own)),
        )
        many = _case(1, 9, 16, 4, 2, 16, 40, 3)
        with pytest.raises(Unsupported, match="more than 128"):
            _attend("pallas", None, many)
        with pytest.raises(AssertionError):
            _attend("pallas", None, (q, shared.replace(v=shared.v[:, :, :-1]), own))


def _real(case):
    return lambda *a: decode_attention(*a, implementation="pallas", **case.options)


class RealShapesTest(parameterized.TestCase):
    @parameterized.product(case=CASES, chip=("h100", "rtx_pro_6000", "v5e"))
    def test_lowers(self, case, chip):
        lowered = lowering.lower(_real(case), *case.specs(), target=chip)
        assert lowering.kernels_in(lowered) == (2 if chip in lowering.GPUS else 1)

    @parameterized.product(case=CASES, chip=(*lowering.GPUS, *lowering.TPUS))
    @pytest.mark.slow
    def test_compiles(self, case, chip):
        if not lowering.can_compile(chip):
            self.skipTest(f"the compiler for {chip} is not installed")
        lowering.compile_ahead(_real(case), *case.specs(), target=chip)
