from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import FlowConfig
from alpamayo_jax.flow import matching


def _data(batch, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*batch, 8, 2)).astype(np.float32)
    noise = rng.normal(size=(*batch, 8, 2)).astype(np.float32)
    t = rng.uniform(size=(*batch, 1, 1)).astype(np.float32)
    return x, noise, t


class PathTest(parameterized.TestCase):
    @parameterized.parameters(((),), ((2, 1),))
    def test_ends_are_noise_and_data(self, batch):
        x, noise, t = _data(batch)
        np.testing.assert_array_equal(matching.interpolate(x, noise, np.zeros_like(t)), noise)
        np.testing.assert_array_equal(matching.interpolate(x, noise, np.ones_like(t)), x)

    @parameterized.parameters(((),), ((2, 1),))
    def test_target_is_the_derivative_of_the_path(self, batch):
        x, noise, t = _data(batch)
        _, velocity = jax.jvp(
            lambda s: matching.interpolate(x, noise, s), (jnp.asarray(t),), (jnp.ones_like(t),)
        )
        np.testing.assert_allclose(matching.target(x, noise), velocity, atol=1e-6)

    def test_following_the_target_from_any_point_reaches_the_data(self):
        x, noise, t = _data((3,))
        x_t = matching.interpolate(x, noise, t)
        np.testing.assert_allclose(x_t + (1 - t) * matching.target(x, noise), x, atol=1e-6)

    def test_a_time_without_its_axes_is_refused(self):
        x, noise, t = _data((8,))  # [8] would broadcast against the 8 waypoints
        with pytest.raises(AssertionError):
            matching.interpolate(x, noise, t[:, 0, 0])


class TimeTest(parameterized.TestCase):
    def test_beta_prefers_noise(self):
        cfg = FlowConfig()
        t = np.asarray(matching.sample_time(jax.random.key(1), (200_000,), cfg))
        assert t.dtype == np.float32 and t.min() >= 0 and t.max() <= 0.999
        # E[t] = 0.999 (1 - a / (a + b)); P(t < s) = 1 - (1 - s / 0.999)^1.5
        np.testing.assert_allclose(t.mean(), 0.3996, atol=3e-3)
        np.testing.assert_allclose((t < 0.5).mean(), 1 - (1 - 0.5 / 0.999) ** 1.5, atol=4e-3)

    def test_general_beta_has_the_right_moments(self):
        cfg = FlowConfig(beta_a=2.0, beta_b=3.0, beta_scale=1.0)
        t = np.asarray(matching.sample_time(jax.random.key(1), (50_000,), cfg))
        np.testing.assert_allclose(t.mean(), 0.6, atol=4e-3)
        np.testing.assert_allclose(t.var(), 0.04, atol=2e-3)

    def test_uniform(self):
        cfg = FlowConfig(train_time="uniform")
        t = np.asarray(matching.sample_time(jax.random.key(1), (100_000,), cfg))
        np.testing.assert_allclose([t.mean(), t.var()], [1 / 2, 1 / 12], atol=4e-3)

    @parameterized.parameters("beta", "uniform")
    def test_jit_and_shape(self, how):
        cfg = FlowConfig(train_time=how)
        draw = jax.jit(matching.sample_time, static_argnums=(1, 2))
        t = draw(jax.random.key(3), (2, 4, 1, 1), cfg)
        assert t.shape == (2, 4, 1, 1)
        np.testing.assert_allclose(
            t, matching.sample_time(jax.random.key(3), (2, 4, 1, 1), cfg), atol=1e-6
        )


class PairTest(parameterized.TestCase):
    @parameterized.parameters(((),), ((2, 1),), ((3,),))
    def test_pair_lies_on_one_path_to_the_data(self, batch):
        x, _, _ = _data(batch)
        pair = jax.jit(matching.sample_pair, static_argnums=2)(jax.random.key(0), x, FlowConfig())
        assert pair.t.shape == (*batch, 1, 1)
        np.testing.assert_allclose(pair.x_t + (1 - pair.t) * pair.target, x, atol=1e-5)

    def test_sequences_get_their_own_noise_and_time(self):
        x = np.zeros((4, 8, 2), np.float32)
        pair = matching.sample_pair(jax.random.key(0), x, FlowConfig())
        assert len(np.unique(pair.t)) == 4
        assert len(np.unique(pair.target)) == pair.target.size


class LossTest(parameterized.TestCase):
    def test_mean_square_over_all_elements(self):
        velocity, wanted, _ = _data((2, 3))
        expected = np.mean((velocity.astype(np.float64) - wanted) ** 2)
        np.testing.assert_allclose(matching.loss(velocity, wanted), expected, rtol=1e-6)

    def test_bfloat16_is_compared_in_float32(self):
        velocity, wanted, _ = _data((2,))
        low = jnp.asarray(velocity, jnp.bfloat16)
        got = matching.loss(low, wanted)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, matching.loss(low.astype(jnp.float32), wanted), rtol=0)

    def test_mask_leaves_waypoints_out(self):
        velocity, wanted, _ = _data((2,))
        mask = np.arange(8)[None] < np.array([[5], [2]])
        kept = np.concatenate([(velocity - wanted)[i][mask[i]] for i in range(2)])
        np.testing.assert_allclose(
            matching.loss(velocity, wanted, mask), np.mean(kept**2), rtol=1e-5
        )

    def test_equal_weights_change_nothing_and_no_weight_is_zero(self):
        velocity, wanted, _ = _data((2,))
        ones = np.full((2, 8), 0.25, np.float32)
        np.testing.assert_allclose(
            matching.loss(velocity, wanted, ones), matching.loss(velocity, wanted), rtol=1e-6
        )
        assert matching.loss(velocity, wanted, np.zeros((2, 8), bool)) == 0.0

    def test_gradient_is_finite_where_all_weights_are_zero(self):
        velocity, wanted, _ = _data((2,))
        grad = jax.grad(lambda v: matching.loss(v, wanted, np.zeros((2, 8), bool)))(velocity)
        np.testing.assert_array_equal(grad, 0)

    def test_weights_of_another_shape_are_refused(self):
        velocity, wanted, _ = _data((2,))
        with pytest.raises(AssertionError):
            matching.loss(velocity, wanted, np.ones((2, 1), np.float32))
