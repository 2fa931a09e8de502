"""The elements of policy-gradient losses, by hand."""

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.rl import surrogates


class ClippingTest(parameterized.TestCase):
    @parameterized.parameters(
        # ratio, advantage, loss, d loss / d ratio, clipped; clips 0.2 and 0.28, dual clip 10
        (1.0, 2.0, -2.0, -2.0, False),
        (1.27, 2.0, -2.54, -2.0, False),
        (1.5, 2.0, -2.56, 0.0, True),
        (0.1, 2.0, -0.2, -2.0, False),  # a good token that became unlikely is always pulled up
        (1.0, -2.0, 2.0, 2.0, False),
        (0.5, -2.0, 1.6, 0.0, True),
        (3.0, -2.0, 6.0, 2.0, False),
        (11.0, -2.0, 20.0, 0.0, False),  # the dual clip, which is not counted
        (11.0, 2.0, -2.56, 0.0, True),
        (1.3, 0.0, 0.0, 0.0, False),
    )
    def test_loss_and_gradient(self, ratio, advantage, loss, slope, clipped):
        value, grad = jax.value_and_grad(surrogates.clipped_surrogate)(
            ratio, advantage, 0.2, 0.28, 10.0
        )
        np.testing.assert_allclose([value, grad], [loss, slope], rtol=1e-6)
        args = jnp.float32(ratio), jnp.float32(advantage)
        assert bool(surrogates.is_clipped(*args, 0.2, 0.28)) == clipped

    def test_without_a_dual_clip(self):
        assert float(surrogates.clipped_surrogate(11.0, -2.0, 0.2, 0.28)) == 22.0

    def test_the_ratio_is_bounded_as_released(self):
        got = surrogates.probability_ratio(jnp.float32([-1.0, 0.0, 300.0]), jnp.float32([-2, 0, 0]))
        np.testing.assert_allclose(got, [np.e, 1.0, np.exp(20.0)], rtol=1e-6)
        assert float(surrogates.probability_ratio(jnp.float32(-300), jnp.float32(0))) > 0


class DivergenceTest(parameterized.TestCase):
    def test_values(self):
        policy, ref = np.float32([-1.0, -2.0, -0.3]), np.float32([-1.5, -1.0, -0.3])
        d = ref - policy
        for name, want in (("k1", -d), ("k3", np.exp(d) - d - 1)):
            got = surrogates.divergence(jnp.asarray(policy), jnp.asarray(ref), name)
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)

    @parameterized.parameters("k1", "k3")
    def test_over_all_draws_it_is_the_divergence(self, name):
        """Expected value, and for k1 the expected gradient, over a distribution of four ids."""
        rng = np.random.default_rng(0)
        logits, ref = (jnp.asarray(0.5 * rng.standard_normal(4)) for _ in range(2))
        draws = jax.nn.softmax(logits)

        def estimate(logits):
            values = surrogates.divergence(
                jax.nn.log_softmax(logits), jax.nn.log_softmax(ref), name
            )
            return jnp.sum(draws * values)

        def exact(logits):
            p = jax.nn.log_softmax(logits)
            return jnp.sum(jnp.exp(p) * (p - jax.nn.log_softmax(ref)))

        (got, slope), (want, steep) = (
            jax.value_and_grad(f)(logits) for f in (estimate, exact)
        )
        np.testing.assert_allclose(got, want, rtol=1e-5)
        if name == "k1":
            np.testing.assert_allclose(slope, steep, atol=1e-6)
        assert float(jnp.vdot(slope, steep)) > 0


class SoftmaxTest(parameterized.TestCase):
    def test_by_hand(self):
        advantages = np.float32([[-1.0, 0.0, 1.0], [0.5, 0.5, -1.0]])
        got = surrogates.softmax_weights(advantages, np.ones((2, 3), np.float32), 2.0)
        shares = np.exp(2.0 * advantages)
        np.testing.assert_allclose(got, shares / shares.sum(-1, keepdims=True), rtol=1e-6)

    def test_what_does_not_count_has_no_share(self):
        advantages, counts = np.float32([[9.0, 0.0, 1.0]] * 2), np.float32([[0, 1, 1], [0, 0, 0]])
        got = np.asarray(surrogates.softmax_weights(advantages, counts, 1.0))
        np.testing.assert_allclose(got[0], [0, 1 / (1 + np.e), np.e / (1 + np.e)], rtol=1e-6)
        assert (got[1] == 0).all()

    def test_large_advantages_do_not_overflow(self):
        got = surrogates.softmax_weights(np.float32([[1000.0, 999.0]]), np.ones((1, 2)), 5.0)
        np.testing.assert_allclose(got, [[1 / (1 + np.exp(-5)), 1 / (1 + np.exp(5))]], rtol=1e-4)
