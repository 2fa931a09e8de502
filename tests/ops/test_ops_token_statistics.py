"""Log-probability and entropy of many tokens, whole and in chunks."""

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from alpamayo_jax.ops.token_statistics import chunked_statistics, logprob_and_entropy

_KERNEL = np.random.default_rng(0).standard_normal((6, 9)).astype(np.float32)


def _logits(hidden):
    return jnp.dot(hidden, _KERNEL, precision="highest")


def _case(lead, length):
    rng = np.random.default_rng(length)
    hidden = rng.standard_normal((*lead, length, 6)).astype(np.float32)
    return hidden, rng.integers(0, 9, (*lead, length))


class StatisticsTest(parameterized.TestCase):
    @parameterized.product(lead=[(), (2, 1)], scale=[1.0, 40.0])
    def test_against_scipy(self, lead, scale):
        hidden, targets = _case(lead, 5)
        logits = scale * (hidden @ _KERNEL).astype(np.float64)
        logprob, entropy = logprob_and_entropy(jnp.asarray(logits), targets)
        want = np.take_along_axis(scipy.special.log_softmax(logits, -1), targets[..., None], -1)
        np.testing.assert_allclose(logprob, want[..., 0], rtol=1e-5, atol=1e-4)
        want = scipy.stats.entropy(scipy.special.softmax(logits, -1), axis=-1)
        np.testing.assert_allclose(entropy, want, atol=1e-4)

    def test_impossible_ids_count_for_nothing(self):
        logits = np.float32([0.3, -0.2, 1.1])
        masked = np.append(logits, np.float32(-1e30))

        def total(x):
            return sum(a.sum() for a in logprob_and_entropy(x, jnp.int32(1)))

        for a, b in zip(*(logprob_and_entropy(x, jnp.int32(1)) for x in (logits, masked))):
            np.testing.assert_allclose(a, b, rtol=1e-6)
        grad = jax.grad(total)(jnp.asarray(masked))
        np.testing.assert_allclose(grad[:3], jax.grad(total)(jnp.asarray(logits)), atol=1e-6)
        assert grad[3] == 0

    @parameterized.product(chunk=[1, 3, 4, 7, 100], lead=[(), (2, 3)])
    def test_chunks_change_nothing(self, chunk, lead):
        hidden, targets = _case(lead, 7)
        weight = np.random.default_rng(3).standard_normal((2, *targets.shape))

        def loss(hidden, how):
            return sum((w * a).sum() for w, a in zip(weight, how(hidden)))

        whole = lambda h: logprob_and_entropy(_logits(h), targets)  # noqa: E731
        parts = lambda h: chunked_statistics(_logits, h, targets, chunk)  # noqa: E731
        for got, want in zip(parts(hidden), whole(hidden)):
            assert got.shape == targets.shape
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        got, want = (jax.grad(loss)(jnp.asarray(hidden), how) for how in (parts, whole))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)

    def test_the_logits_of_a_chunk_are_all_that_is_held(self):
        hidden, targets = _case((2,), 64)
        text = str(jax.make_jaxpr(lambda h: chunked_statistics(_logits, h, targets, 4))(hidden))
        assert "2,4,9]" in text and "2,64,9]" not in text

    def test_shapes_that_do_not_fit(self):
        hidden, targets = _case((2,), 4)
        with pytest.raises(AssertionError):
            chunked_statistics(_logits, hidden, targets[:, :3], 2)
