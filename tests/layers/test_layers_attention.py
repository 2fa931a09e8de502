from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.layers.attention import GroupedQueryAttention, VisionAttention
from alpamayo_jax.ops.attention import Segment
from alpamayo_jax.ops.rope import mrope_table, vision_rope_table
from alpamayo_jax.testing.tiny import quick_jit

D, N, G, H = 10, 4, 2, 8
_GQA = GroupedQueryAttention(hidden_size=D, num_heads=N, num_kv_heads=G, head_dim=H)
_apply = quick_jit(_GQA.apply)


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _params(module, *args):
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32) * 0.5, shapes)


def _rope(positions):
    return mrope_table(np.broadcast_to(positions, (3, *np.shape(positions))), H, (2, 1, 1), 1e4)


def _rotated(x, rope):
    """x [T, N, H] turned by tables [T, H], in NumPy."""
    cos, sin = (np.asarray(table)[:, None] for table in rope)
    return x * cos + np.concatenate([-x[..., H // 2 :], x[..., : H // 2]], -1) * sin


def _softmax_attention(q, k, v, mask):
    """q [T, N, H], k and v [S, N, H], mask [T, S] -> [T, N H]."""
    scores = np.where(mask[:, None], np.einsum("tnh,snh->tns", q, k) * q.shape[-1] ** -0.5, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("tns,snh->tnh", weights, v).reshape(len(q), -1)


class GroupedQueryAttentionTest(parameterized.TestCase):
    def test_equals_the_formula(self):
        x, length = _normal(1, 5, D), 5
        rope, mask = _rope(np.arange(5)[None]), np.tril(np.ones((1, 5, 5), bool))
        p = _params(_GQA, x, rope, mask)
        out, (k, v) = _apply({"params": p}, x, rope, mask)

        def heads(name, norm=None):
            y = (x[0] @ p[name]["kernel"]).reshape(length, -1, H)
            if norm:
                y = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6) * p[norm]["scale"]
            return y

        row_rope = [table[0] for table in rope]
        want_q = _rotated(heads("q_proj", "q_norm"), row_rope)
        want_k, want_v = _rotated(heads("k_proj", "k_norm"), row_rope), heads("v_proj")
        np.testing.assert_allclose(k[0], want_k.swapaxes(0, 1), atol=1e-5)
        np.testing.assert_allclose(v[0], want_v.swapaxes(0, 1), atol=1e-5)
        # Query heads 0 and 1 read key-value head 0, heads 2 and 3 head 1.
        spread = [np.repeat(a, N // G, 1) for a in (want_k, want_v)]
        want = _softmax_attention(want_q, *spread, mask[0]) @ p["o_proj"]["kernel"]
        np.testing.assert_allclose(out[0], want, atol=1e-4)

    def test_a_sequence_in_two_parts_equals_the_whole(self):
        lead = (2, 3)
        x = _normal(*lead, 6, D)
        positions = np.broadcast_to(np.arange(6), (*lead, 6))
        causal = np.broadcast_to(np.tril(np.ones((6, 6), bool)), (*lead, 6, 6))
        p = {"params": _params(_GQA, x, _rope(positions), causal)}
        whole, (k, v) = _apply(p, x, _rope(positions), causal)
        first, (k0, v0) = _apply(
            p, x[..., :4, :], _rope(positions[..., :4]), causal[..., :4, :4]
        )
        context = [Segment(k=k0, v=v0, mask=np.ones((*lead, 2, 4), bool))]
        second, (k1, v1) = _GQA.apply(
            p, x[..., 4:, :], _rope(positions[..., 4:]), causal[..., 4:, 4:], context
        )
        np.testing.assert_allclose(jnp.concatenate([first, second], -2), whole, atol=1e-5)
        np.testing.assert_allclose(jnp.concatenate([k0, k1], -2), k, atol=1e-5)
        np.testing.assert_allclose(jnp.concatenate([v0, v1], -2), v, atol=1e-5)

    def test_wide_stream_narrow_products(self):
        x, rope, mask = _normal(1, 3, D), _rope(np.arange(3)[None]), np.ones((1, 3, 3), bool)
        module = _GQA.clone(dtype=jnp.bfloat16, parent=None)
        before = _normal(1, G, 2, H)
        context = [Segment(k=before, v=before, mask=np.ones((1, 3, 2), bool))]
        p = {"params": _params(module, x, rope, mask)}
        out, (k, v) = quick_jit(module.apply)(p, x, rope, mask, context)
        assert {out.dtype, k.dtype, v.dtype} == {jnp.dtype(jnp.bfloat16)}
        wide = _apply(p, x, rope, mask, context)[0]
        np.testing.assert_allclose(out.astype(jnp.float32), wide, atol=0.15)


class VisionAttentionTest(parameterized.TestCase):
    def _case(self):
        x = _normal(2, 6, 2 * H)
        row, col = np.divmod(np.arange(6), 3)
        rope = vision_rope_table(np.stack([row] * 2), np.stack([col] * 2), H, 1e4)
        module = VisionAttention(hidden_size=2 * H, num_heads=2)
        mask = np.ones((2, 6), bool)
        return module, _params(module, x, rope, mask), x, rope, mask

    def test_equals_the_formula(self):
        module, p, x, rope, mask = self._case()
        got = quick_jit(module.apply)({"params": p}, x, rope, mask)
        for image in range(2):
            qkv = x[image] @ p["qkv"]["kernel"] + p["qkv"]["bias"]
            q, k, v = np.moveaxis(qkv.reshape(6, 3, 2, H), 1, 0)
            tables = [table[image] for table in rope]
            mixed = _softmax_attention(
                _rotated(q, tables), _rotated(k, tables), v, np.ones((6, 6), bool)
            )
            want = mixed @ p["proj"]["kernel"] + p["proj"]["bias"]
            np.testing.assert_allclose(got[image], want, atol=1e-4)

    def test_padding_is_not_seen(self):
        module, p, x, rope, mask = self._case()
        mask[1, 4:] = False
        loud = x.copy()
        loud[1, 4:] = 1e3
        got = np.asarray(quick_jit(module.apply)({"params": p}, loud, rope, mask))
        alone = x[1:, :4], [table[1:, :4] for table in rope], mask[1:, :4]
        own = quick_jit(module.apply)({"params": p}, *alone)
        np.testing.assert_allclose(got[1, :4], own[0], atol=1e-5)

    def test_rotates_in_float32(self):
        module, p, x, rope, mask = self._case()
        narrow = module.clone(dtype=jnp.bfloat16, parent=None)
        x = jnp.asarray(x, jnp.bfloat16)
        jaxpr = jax.make_jaxpr(lambda x: narrow.apply({"params": p}, x, rope, mask))(x)
        signs = [e.outvars[0].aval.dtype for e in jaxpr.eqns if e.primitive.name == "neg"]
        assert signs and set(signs) == {jnp.dtype(jnp.float32)}
        assert narrow.apply({"params": p}, x, rope, mask).dtype == jnp.bfloat16
