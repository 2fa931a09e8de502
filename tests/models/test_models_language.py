import dataclasses

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.layers.block import TextBlock
from alpamayo_jax.layers.norms import RMSNorm
from alpamayo_jax.models.language import LanguageModel, TextTower
from alpamayo_jax.ops.masks import causal_mask
from alpamayo_jax.ops.rope import mrope_table
from alpamayo_jax.testing.tiny import full_jit, quick_jit, random_params, tiny_config

_CONFIG = dataclasses.replace(tiny_config().language, num_layers=4)
B, T = 2, 7


def _params():
    return random_params(tiny_config(language=_CONFIG))["vlm"]["language_model"]


def _case():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((B, T, _CONFIG.hidden_size)).astype(np.float32)
    positions = np.sort(rng.integers(0, 30, (3, B, T)), -1)
    real = np.arange(T) >= np.array([[0], [2]])
    deepstack = rng.standard_normal((2, B, T, _CONFIG.hidden_size)).astype(np.float32)
    return x, positions, causal_mask(jnp.asarray(real)), real, deepstack


def _tower(method=None, jit=quick_jit, **stack):
    tower = LanguageModel(_CONFIG, **stack)
    return jit(lambda p, *args: tower.apply({"params": p}, *args, method=method))


def _run(params, x, positions, mask, context=(), deepstack=None, **stack):
    return _tower(**stack)(params, x, positions, mask, context, deepstack)


class TowerTest(parameterized.TestCase):
    def test_equals_its_blocks_one_after_the_other(self):
        params = _params()
        x, positions, mask, real, deepstack = _case()
        hidden, cache = _run(params, x, positions, mask, deepstack=deepstack)
        c = _CONFIG
        rope = mrope_table(positions, c.head_dim, c.mrope_section, c.rope_theta)
        block = quick_jit(lambda p, x: TextBlock(c).apply({"params": p}, x, rope, mask))
        for index in range(c.num_layers):
            x, (k, v) = block(jax.tree.map(lambda a: a[index], params["layers"]), x)
            np.testing.assert_allclose(cache.k[index], k, atol=1e-5)
            np.testing.assert_allclose(cache.v[index], v, atol=1e-5)
            if index < 2:
                x = x + deepstack[index]
        x = RMSNorm(c.rms_norm_eps).apply({"params": params["norm"]}, x)
        np.testing.assert_allclose(hidden, x, atol=1e-5)

    def test_scan_and_unrolled_twin_are_equal_bit_for_bit(self):
        params = _params()
        x, positions, mask, _, deepstack = _case()
        results = [
            _run(params, x, positions, mask, deepstack=deepstack, jit=full_jit, unroll=u)
            for u in (False, True)
        ]
        for scanned, unrolled in zip(*map(jax.tree.leaves, results)):
            np.testing.assert_array_equal(scanned, unrolled)

    def test_nobody_sees_padding_or_the_future(self):
        params = _params()
        x, positions, mask, real, _ = _case()
        run = _tower()
        before, cache = run(params, x, positions, mask)
        loud = np.where(real[..., None], x, 9.0).astype(np.float32)
        loud[:, 5:] = -x[:, 5:]
        after, other = run(params, loud, positions, mask)
        early = real & (np.arange(T) < 5)
        np.testing.assert_array_equal(np.asarray(after)[early], np.asarray(before)[early])
        for a, b in zip(jax.tree.leaves(cache), jax.tree.leaves(other)):
            np.testing.assert_array_equal(*(np.moveaxis(c, -2, 2)[:, early] for c in (a, b)))
        assert np.abs(after - before)[:, 5:].max() > 1e-2

    @parameterized.parameters(0, 3)
    def test_continuing_from_a_cache_equals_the_whole(self, samples):
        params = _params()
        x, positions, mask, real, _ = _case()
        whole, cache = _run(params, x, positions, mask)
        _, first = _run(params, x[:, :4], positions[..., :4], mask[:, :4, :4])
        rest, at, among = x[:, 4:], positions[..., 4:], mask[:, 4:, 4:]
        before = np.broadcast_to(real[:, None, :4], (B, 3, 4))
        if samples:
            rest, among, before = (
                np.repeat(np.asarray(a)[:, None], samples, 1) for a in (rest, among, before)
            )
            at = np.repeat(at[:, :, None], samples, 2)
        got, second = _run(params, rest, at, among, [(first, before)])
        for k in range(max(samples, 1)):
            pick = (slice(None), k) if samples else ()
            np.testing.assert_allclose(got[pick], whole[:, 4:], atol=1e-5)
            own = second.k[(slice(None), *pick)]
            np.testing.assert_allclose(own, cache.k[..., 4:, :], atol=1e-5)

    def test_the_stream_has_the_type_of_its_input(self):
        tower = TextTower(_CONFIG, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
        params = {k: v for k, v in _params().items() if k != "embed_tokens"}
        x, positions, mask, _, _ = _case()
        for dtype in (jnp.float32, jnp.bfloat16):
            apply = lambda x: tower.apply({"params": params}, x, positions, mask)  # noqa: E731
            hidden, cache = jax.eval_shape(apply, jnp.asarray(x, dtype))
            assert hidden.dtype == dtype and cache.k.dtype == cache.v.dtype == jnp.bfloat16


class EmbeddingTest(parameterized.TestCase):
    @parameterized.parameters(((3,),), ((2, 1, 3),))
    def test_rows_of_the_table(self, shape):
        params = _params()
        ids = np.random.default_rng(0).integers(0, _CONFIG.vocab_size, shape)
        got = _tower("embed")(params, ids)
        np.testing.assert_array_equal(got, params["embed_tokens"]["embedding"][ids])

    def test_unembedding_is_its_transpose(self):
        params = _params()
        np.testing.assert_array_equal(
            _tower("unembed_kernel")(params), params["embed_tokens"]["embedding"].T
        )

    def test_embeds_into_the_compute_type(self):
        model = LanguageModel(_CONFIG, dtype=jnp.bfloat16)
        got = model.apply({"params": _params()}, np.arange(3), method="embed")
        assert got.dtype == jnp.bfloat16
