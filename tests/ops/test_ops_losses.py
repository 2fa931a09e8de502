from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.ops import losses


class LossesTest(parameterized.TestCase):
    @parameterized.parameters(((),), ((2, 1),))
    def test_cross_entropy(self, batch):
        rng = np.random.default_rng(0)
        logits = rng.standard_normal((*batch, 5, 9)).astype(np.float32)
        targets = rng.integers(0, 9, (*batch, 5))
        probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        want = -np.log(np.take_along_axis(probability, targets[..., None], -1)[..., 0])
        np.testing.assert_allclose(losses.token_cross_entropy(logits, targets), want, rtol=1e-5)

    def test_cross_entropy_of_large_logits(self):
        got = losses.token_cross_entropy(jnp.array([[1e4, 0.0], [-1e4, 0.0]]), jnp.array([0, 0]))
        np.testing.assert_allclose(got, [0.0, 1e4])

    def test_cross_entropy_of_masked_ids(self):
        logits = jnp.array([0.0, -jnp.inf, 0.0])
        got = losses.token_cross_entropy(logits, jnp.array(2))
        np.testing.assert_allclose(got, np.log(2), rtol=1e-6)
        assert losses.token_cross_entropy(logits, jnp.array(1)) == jnp.inf

    def test_cross_entropy_of_bfloat16_is_float32(self):
        logits = jnp.array([[3.0, 1.0]], jnp.bfloat16)
        got = losses.token_cross_entropy(logits, jnp.array([0]))
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, np.log1p(np.exp(-2.0)), rtol=1e-6)

    def test_gradient_is_softmax_minus_one_hot(self):
        logits = jnp.array([1.0, -2.0, 0.5])
        got = jax.grad(lambda x: losses.token_cross_entropy(x, jnp.array(1)))(logits)
        np.testing.assert_allclose(got, jax.nn.softmax(logits) - jnp.array([0, 1, 0]), atol=1e-6)

    @parameterized.parameters(bool, np.float32, np.int32)
    def test_masked_mean(self, kind):
        values = jnp.array([[1.0, 2.0], [3.0, 4.0]])
        mask = np.array([[1, 0], [1, 1]]).astype(kind)
        np.testing.assert_allclose(losses.masked_mean(values, mask), 8 / 3, rtol=1e-6)

    def test_masked_mean_of_nothing_is_zero(self):
        value, grad = jax.value_and_grad(losses.masked_mean)(jnp.ones(3), jnp.zeros(3, bool))
        assert value == 0
        np.testing.assert_array_equal(grad, 0)
