"""Attention over segments, against one plain softmax per query in float64."""

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.kernels.attention import Segment, attend_reference

B, K, T, S, H = 2, 3, 4, 5, 8
SCALE = H**-0.5

_attend = jax.jit(lambda q, segments, scale=SCALE: attend_reference(q, segments, scale=scale))


def _normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _mask(shape, seed=0):
    """Random, with the first key always in sight."""
    mask = np.random.default_rng(seed).random(shape) < 0.6
    mask[..., 0] = True
    return mask


def _segment(lead, size=S, heads=2, seed=0, mask_lead=None):
    mask_lead = lead if mask_lead is None else mask_lead
    return Segment(
        k=_normal((*lead, heads, size, H), seed),
        v=_normal((*lead, heads, size, H), seed + 1),
        mask=_mask((*mask_lead, T, size), seed + 2),
    )


def _naive(q, segments, scale=SCALE):
    """Loops over everything; keys without a sample axis are the same for all samples."""
    q = np.asarray(q, np.float64)
    out = np.zeros_like(q)
    *lead, queries, heads, _ = q.shape
    for place in np.ndindex(*lead, queries, heads):
        *where, t, n = place
        scores, values = [], []
        for segment in segments:
            k, v, mask = (np.asarray(a) for a in (segment.k, segment.v, segment.mask))
            own = tuple(where) if k.ndim == len(lead) + 3 else (where[0],)
            mask = mask if mask.ndim == len(lead) + 2 else mask[:, None]
            mask = np.broadcast_to(mask, (*lead, queries, k.shape[-2]))[tuple(where)][t]
            group = n // (heads // k.shape[-3])
            scores += [float(q[place] @ key) * scale for key in k[own][group][mask]]
            values += list(v[own][group][mask])
        if scores:
            weights = np.exp(np.array(scores) - max(scores))
            out[place] = weights @ np.array(values) / weights.sum()
    return out


class AttentionTest(parameterized.TestCase):
    @parameterized.product(lead=((B,), (B, K)), heads=((4, 4), (4, 2), (6, 1)))
    def test_equals_one_softmax_per_query(self, lead, heads):
        q = _normal((*lead, T, heads[0], H), 9)
        segments = [_segment(lead, heads=heads[1])]
        np.testing.assert_allclose(_attend(q, segments), _naive(q, segments), atol=2e-6)

    @parameterized.parameters(((B,),), ((B, K),))
    def test_the_split_into_segments_does_not_matter(self, lead):
        q, whole = _normal((*lead, T, 4, H), 9), _segment(lead)
        parts = [
            Segment(whole.k[..., i:j, :], whole.v[..., i:j, :], whole.mask[..., i:j])
            for i, j in ((0, 1), (1, 4), (4, 5))
        ]
        np.testing.assert_allclose(_attend(q, parts), _attend(q, [whole]), atol=1e-6)

    def test_a_shared_prefix_equals_a_repeated_one(self):
        q, own = _normal((B, K, T, 4, H), 9), _segment((B, K), seed=20)
        shared = _segment((B,), size=7)
        repeated = jax.tree.map(lambda a: np.repeat(a[:, None], K, 1), shared)
        want = _naive(q, [repeated, own])
        np.testing.assert_allclose(_attend(q, [shared, own]), want, atol=2e-6)
        np.testing.assert_allclose(_attend(q, [repeated, own]), want, atol=2e-6)

    @parameterized.parameters(((B, 1, 1, S),), ((1, K, T, S),), ((B, K, T, 1),), ((1, 1, 1, 1),))
    def test_a_mask_is_broadcast(self, shape):
        q, segment = _normal((B, K, T, 4, H), 9), _segment((B, K))
        mask = _mask(shape, 5)
        got = _attend(q, [segment.replace(mask=mask)])
        full = segment.replace(mask=np.broadcast_to(mask, (B, K, T, S)))
        np.testing.assert_allclose(got, _attend(q, [full]), atol=1e-6)

    def test_a_masked_key_is_as_good_as_absent(self):
        q, segment = _normal((B, K, T, 4, H), 9), _segment((B, K))
        mask = segment.mask.copy()
        mask[..., 2:4] = False
        loud = segment.replace(k=segment.k.copy(), v=segment.v.copy(), mask=mask)
        loud.k[..., 2:4, :] = 1e4
        loud.v[..., 2:4, :] = -1e6
        keep = [0, 1, 4]
        absent = Segment(segment.k[..., keep, :], segment.v[..., keep, :], mask[..., keep])
        got = _attend(q, [loud])
        np.testing.assert_array_equal(got, _attend(q, [segment.replace(mask=mask)]))
        np.testing.assert_allclose(got, _attend(q, [absent]), atol=1e-6)

    def test_an_empty_segment_adds_nothing(self):
        q, own = _normal((B, K, T, 4, H), 9), _segment((B, K))
        blind = _segment((B,), seed=30).replace(mask=np.zeros((B, 1, 1, S), bool))
        np.testing.assert_allclose(_attend(q, [blind, own]), _attend(q, [own]), atol=1e-6)

    def test_a_query_that_sees_nothing_gets_zero(self):
        q, first, second = _normal((B, T, 4, H), 9), _segment((B,)), _segment((B,), seed=40)
        for segment in (first, second):
            segment.mask[1, 2] = False
        got = np.asarray(_attend(q, [first, second]))
        np.testing.assert_array_equal(got[1, 2], 0)
        assert np.abs(np.delete(got.reshape(B * T, 4, H), T + 2, 0)).min() > 0
        np.testing.assert_allclose(got, _naive(q, [first, second]), atol=2e-6)

    def test_gradients_equal_those_of_plain_attention(self):
        q, shared, own = _normal((B, K, T, 4, H), 9), _segment((B,)), _segment((B, K), seed=20)
        shared.mask[0, 1] = own.mask[0, :, 1] = False  # also through a query that sees nothing
        weights = _normal(q.shape, 10)

        def plain(q, shared, own):
            repeat = lambda a: jnp.repeat(jnp.repeat(a[:, None], K, 1), 2, 2)  # noqa: E731
            k = jnp.concatenate([repeat(shared.k), jnp.repeat(own.k, 2, 2)], -2)
            v = jnp.concatenate([repeat(shared.v), jnp.repeat(own.v, 2, 2)], -2)
            mask = jnp.repeat(jnp.asarray(shared.mask)[:, None], K, 1)
            mask = jnp.concatenate([mask, own.mask], -1)[:, :, None]
            scores = jnp.einsum("bktnh,bknsh->bknts", q, k, precision="highest") * SCALE
            weight = jnp.exp(scores - scores.max(-1, keepdims=True)) * mask
            total = weight.sum(-1, keepdims=True)
            weight = weight / jnp.where(total > 0, total, 1)
            return jnp.einsum("bknts,bknsh->bktnh", weight, v, precision="highest")

        def grads(attend):
            loss = lambda q, shared, own: jnp.sum(attend(q, shared, own) * weights)  # noqa: E731
            found = jax.jit(jax.grad(loss, argnums=(0, 1, 2), allow_int=True))(q, shared, own)
            return found[0], found[1].k, found[1].v, found[2].k, found[2].v

        ours = grads(lambda q, shared, own: attend_reference(q, [shared, own], scale=SCALE))
        for got, want in zip(ours, grads(plain)):
            assert np.isfinite(got).all()
            np.testing.assert_allclose(got, want, atol=5e-6)

    def test_scale_multiplies_the_scores(self):
        q, segments = _normal((B, T, 4, H), 9), [_segment((B,))]
        np.testing.assert_allclose(
            _attend(q, segments, 0.9), _naive(q, segments, 0.9), atol=2e-6
        )

    @parameterized.parameters(jnp.bfloat16, jnp.float16)
    def test_narrow_in_narrow_out(self, dtype):
        q, segments = _normal((B, K, T, 4, H), 9), [_segment((B,)), _segment((B, K), seed=20)]
        half = lambda a: jnp.asarray(a, dtype)  # noqa: E731
        narrow = [s.replace(k=half(s.k), v=half(s.v)) for s in segments]

        def loss(q, k):
            out = attend_reference(q, [narrow[0].replace(k=k), narrow[1]], scale=SCALE)
            return jnp.sum(out.astype(jnp.float32)), out

        (_, out), grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(
            half(q), narrow[0].k
        )
        assert {a.dtype for a in (out, *grads)} == {jnp.dtype(dtype)}
        np.testing.assert_allclose(out.astype(jnp.float32), _naive(q, segments), atol=0.05)
        assert all(np.isfinite(np.asarray(g, np.float32)).all() for g in grads)

    def test_bfloat16_softmax_is_float32(self):
        # 400 keys of equal weight: a sum in bfloat16 stops growing at 256.
        q = jnp.zeros((1, 1, 1, H), jnp.bfloat16)
        ones = jnp.ones((1, 1, 400, H), jnp.bfloat16)
        got = _attend(q, [Segment(ones, ones, np.ones((1, 1, 400), bool))])
        np.testing.assert_allclose(got.astype(jnp.float32), 1, rtol=1e-2)
