"""Attention of a flow step: implementations against one softmax per query in float64."""

import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernel_chips import CHIPS

from alpamayo_jax.kernels import lowering
from alpamayo_jax.kernels.dispatch import Unsupported
from alpamayo_jax.kernels.flow_attention import Keys, flow_attention
from alpamayo_jax.kernels.flow_attention import pallas_gpu, pallas_tpu
from alpamayo_jax.kernels.flow_attention.shapes import cases
from alpamayo_jax.ops.rope import mrope_table
from alpamayo_jax.presets import preset

EPS = 1e-6
# batch, samples, waypoints, query heads, key-value heads, head, prefix, reasoning
SHAPES = {
    "ragged": (2, 3, 12, 4, 2, 32, 150, 20),
    "many shares": (1, 1, 16, 2, 2, 64, 700, 5),
    "three heads to one": (1, 2, 8, 3, 1, 32, 65, 64),
    "wide": (1, 2, 64, 4, 2, 32, 40, 70),
}
# Of roundings of queries, weights and the result to the type.
TOLERANCE = {"float32": 3e-6, "bfloat16": 2**-6, "float16": 2**-9}
KERNELS = {"gpu": pallas_gpu.flow_attention, "tpu": pallas_tpu.flow_attention}


def _arguments(shape, dtype="float32", seed=0):
    batch, samples, waypoints, heads, groups, size, prefix, suffix = shape
    rng = np.random.default_rng(seed)
    draw = lambda *s: jnp.asarray(rng.standard_normal(s), dtype)  # noqa: E731
    kept = lambda *s: jnp.asarray(rng.random(s) < 0.7)  # noqa: E731
    positions = jnp.asarray(rng.integers(0, 500, (3, batch, samples, waypoints)))
    third = size // 8
    section = (size // 2 - 2 * third, third, third)
    return (
        draw(batch, samples, waypoints, heads, size),
        draw(batch, samples, waypoints, groups, size),
        draw(batch, samples, waypoints, groups, size),
        draw(size),
        draw(size),
        *mrope_table(positions, size, section, 1e4),
        Keys(
            draw(batch, groups, prefix, size),
            draw(batch, groups, prefix, size),
            kept(batch, prefix),
        ),
        Keys(
            draw(batch, samples, groups, suffix, size),
            draw(batch, samples, groups, suffix, size),
            kept(batch, samples, suffix),
        ),
    )


def _exact(q, k, v, q_norm, k_norm, cos, sin, shared, own, scale):
    """Everything in float64, one query after the other."""
    wide = lambda tree: jax.tree.map(  # noqa: E731
        lambda a: np.asarray(a.astype(jnp.float32), np.float64), tree
    )
    q, k, v, q_norm, k_norm, cos, sin, shared, own = wide(
        (q, k, v, q_norm, k_norm, cos, sin, shared, own)
    )

    def turned(x, norm):
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * norm
        first, second = np.split(x, 2, -1)
        half = np.concatenate([-second, first], -1)
        return x * cos[..., None, :] + half * sin[..., None, :]

    q, k = turned(q, q_norm), turned(k, k_norm)
    out = np.zeros_like(q)
    ratio = q.shape[3] // k.shape[3]
    for b, s, w, n in np.ndindex(*q.shape[:4]):
        g = n // ratio
        before, mine = shared.mask[b] > 0, own.mask[b, s] > 0
        keys = [shared.k[b, g][before], own.k[b, s, g][mine], k[b, s, :, g]]
        values = [shared.v[b, g][before], own.v[b, s, g][mine], v[b, s, :, g]]
        scores = np.concatenate(keys) @ q[b, s, w, n] * scale
        weights = np.exp(scores - scores.max())
        out[b, s, w, n] = weights @ np.concatenate(values) / weights.sum()
    return out


def _run(kernel, shape):
    return jax.jit(functools.partial(kernel, scale=shape[5] ** -0.5, eps=EPS))


class FlowAttentionTest(parameterized.TestCase):
    @parameterized.parameters(*SHAPES)
    def test_every_implementation_is_one_softmax(self, name):
        shape = SHAPES[name]
        arguments = _arguments(shape)
        want = _exact(*arguments, shape[5] ** -0.5)
        kernels = {n: functools.partial(k, interpret=True) for n, k in KERNELS.items()}
        for which, kernel in ({"xla": flow_attention} | kernels).items():
            got = _run(kernel, shape)(*arguments)
            self.assertEqual(got.shape, want.shape)
            error = np.abs(got - want).max() / np.abs(want).max()
            self.assertLess(error, TOLERANCE["float32"], which)

    @parameterized.product(dtype=("bfloat16", "float16"), device=tuple(KERNELS))
    def test_narrow_types(self, dtype, device):
        shape = SHAPES["ragged"] if device == "gpu" else SHAPES["wide"]
        arguments = _arguments(shape, dtype)
        run = _run(functools.partial(KERNELS[device], interpret=True), shape)
        if (dtype, device) == ("float16", "tpu"):
            with self.assertRaisesRegex(Unsupported, "float16"):
                run(*arguments)
            return
        got = run(*arguments)
        self.assertEqual(got.dtype, jnp.dtype(dtype))
        want = _exact(*arguments, shape[5] ** -0.5)
        error = np.abs(np.asarray(got, np.float64) - want).max() / np.abs(want).max()
        self.assertLess(error, TOLERANCE[dtype])

    def test_a_prefix_out_of_sight_counts_for_nothing(self):
        shape = SHAPES["ragged"]
        *rest, shared, own = _arguments(shape)
        hidden = shared.replace(mask=jnp.zeros_like(shared.mask), v=shared.v + 1e3)
        alone = own.replace(mask=jnp.zeros_like(own.mask))
        want = _exact(*rest, hidden, alone, shape[5] ** -0.5)
        self.assertLess(np.abs(want).max(), 10)
        for kernel in KERNELS.values():
            got = _run(functools.partial(kernel, interpret=True), shape)(*rest, hidden, alone)
            np.testing.assert_allclose(got, want, atol=1e-5)

    def test_samples_do_not_see_each_other(self):
        shape = SHAPES["ragged"]
        arguments = _arguments(shape)
        run = _run(functools.partial(KERNELS["gpu"], interpret=True), shape)
        both = run(*arguments)
        q, k, v, q_norm, k_norm, cos, sin, shared, own = arguments
        other = k.at[:, 1].add(1.0), v.at[:, 1].add(1.0)
        moved = run(q, *other, q_norm, k_norm, cos, sin, shared, own)
        np.testing.assert_array_equal(moved[:, 0], both[:, 0])
        self.assertGreater(float(jnp.abs(moved[:, 1] - both[:, 1]).max()), 1e-3)

    def test_what_kernels_do_not_know_is_refused(self):
        shape = (1, 1, 8, 2, 1, 24, 16, 4)
        arguments = _arguments(shape)
        call = functools.partial(flow_attention, scale=0.2, eps=EPS, interpret=True)
        with self.assertRaisesRegex(Unsupported, "heads of 24, not a power of two"):
            call(*arguments, implementation="pallas")
        got = call(*arguments, implementation=("pallas", "xla"))
        np.testing.assert_array_equal(got, call(*arguments, implementation="xla"))
        *rest, shared, own = _arguments(SHAPES["ragged"])
        narrow = shared.replace(k=shared.k.astype(jnp.bfloat16))
        with self.assertRaisesRegex(Unsupported, "keys of bfloat16 and values of float32"):
            call(*rest, narrow, own, implementation="pallas")

    def test_shapes_that_do_not_fit_are_refused(self):
        *rest, shared, own = _arguments(SHAPES["ragged"])
        call = functools.partial(flow_attention, scale=0.2, eps=EPS)
        with self.assertRaises(AssertionError):
            call(*rest, shared.replace(mask=shared.mask[:, 1:]), own)
        with self.assertRaises(AssertionError):
            call(rest[0][..., :3, :], *rest[1:], shared, own)

    def test_gradient_is_that_of_xla(self):
        shape = SHAPES["three heads to one"]
        arguments = _arguments(shape)

        def total(implementation, *arguments):
            out = flow_attention(
                *arguments, scale=0.2, eps=EPS, implementation=implementation, interpret=True
            )
            return (out * jnp.cos(jnp.arange(out.size).reshape(out.shape))).sum()

        got = jax.jit(jax.grad(functools.partial(total, "pallas"), (0, 1, 2)))(*arguments)
        want = jax.jit(jax.grad(functools.partial(total, "xla"), (0, 1, 2)))(*arguments)
        for a, b in zip(got, want):
            np.testing.assert_array_equal(a, b)


CASES = {case.name: case for case in cases(preset("r1_10b"))}


def test_cases_are_the_expert_behind_a_prompt():
    q, k, *_, shared, own = CASES["3006_keys/6"].specs()
    assert q.shape == (1, 6, 64, 16, 128) and k.shape == (1, 6, 64, 8, 128)
    assert shared.k.shape == (1, 8, 3006, 128) and own.k.shape == (1, 6, 8, 40, 128)
    assert CASES["3006_keys/6"].flops == 4 * 6 * 64 * 16 * 128 * (3006 + 40 + 64)
    mask = CASES["3006_keys/6"].arguments
    assert jax.eval_shape(mask)[-1].mask.shape == (1, 6, 40)


def _real(case):
    return functools.partial(flow_attention, implementation="pallas", **case.options)


@pytest.mark.parametrize("chip", CHIPS)
def test_it_lowers_at_real_shapes(chip):
    for case in CASES.values():
        assert lowering.kernels_in(lowering.lower(_real(case), *case.specs(), target=chip)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("chip", lowering.TARGETS)
def test_it_compiles_at_real_shapes(chip):
    if not lowering.can_compile(chip):
        pytest.skip(f"the compiler for {chip} is not installed")
    for case in CASES.values():
        lowering.compile_ahead(_real(case), *case.specs(), target=chip)
