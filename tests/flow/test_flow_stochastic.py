"""The stochastic flow: marginals of a case with a known answer, densities by hand, its limits."""

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from alpamayo_jax.config import ConfigError
from alpamayo_jax.flow import samplers
from alpamayo_jax.flow.stochastic import Steps, step_logprobs, stochastic, stochastic_steps

MEAN, STD = 1.5, 0.4  # of the data, which is normal: its velocity field is known


def _field(x, t):
    """E[data - noise | x_t = x] for normal data."""
    variance = t**2 * STD**2 + (1 - t) ** 2
    return MEAN + (t * STD**2 - (1 - t)) / variance * (x - t * MEAN)


def _noise(steps, particles=40_000, seed=0):
    shape = (steps, particles, 1, 1)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _run(num_steps, scale, noise):
    steps = stochastic_steps(num_steps, scale)
    return jax.jit(lambda noise: stochastic(_field, noise, steps))(noise)


class MarginalsTest(parameterized.TestCase):
    @parameterized.parameters(0.3, 0.7, 1.5)
    def test_every_state_has_the_known_mean_and_deviation(self, scale):
        num_steps = 100
        states, _ = _run(num_steps, scale, _noise(num_steps))
        t = samplers.time_grid(num_steps)
        states = np.asarray(states)[..., 0, 0]
        # 40,000 particles: four standard errors of mean and deviation, and the step's own error.
        want = np.sqrt(t**2 * STD**2 + (1 - t) ** 2)
        np.testing.assert_allclose(states.mean(-1), t * MEAN, atol=0.025)
        np.testing.assert_allclose(states.std(-1), want, rtol=0.03)

    def test_the_end_has_the_known_distribution(self):
        states, _ = _run(100, 1.0, _noise(100))
        wrong = scipy.stats.kstest((np.asarray(states)[-1, :, 0, 0] - MEAN) / STD, "norm").statistic
        assert wrong < 0.015

    @parameterized.parameters((5, 0.8), (10, 0.7), (10, 1.5))
    def test_few_steps_are_as_good_as_the_deterministic_samplers(self, num_steps, scale):
        noise = _noise(num_steps)
        ours = np.asarray(_run(num_steps, scale, noise)[0])[-1]
        plain = np.asarray(samplers.euler(_field, noise[0], num_steps))
        error = abs(plain.std() - STD)
        assert abs(ours.mean() - MEAN) < abs(plain.mean() - MEAN) + 0.01
        assert abs(ours.std() - STD) < 1.5 * error + 0.005

    def test_noise_takes_the_end_away_from_where_it_began(self):
        noise = _noise(10, 4000)
        start = noise[0, :, 0, 0]

        def kept(scale):
            end = np.asarray(_run(10, scale, noise)[0])[-1, :, 0, 0]
            return np.corrcoef(start, end)[0, 1]

        assert kept(0.0) > 0.999
        assert kept(0.3) > kept(0.7) + 0.05 > kept(1.5) + 0.1


class StepsTest(parameterized.TestCase):
    def test_without_noise_it_is_the_deterministic_sampler(self):
        noise = _noise(6, 20)
        states, logprobs = _run(6, 0.0, noise)
        want = samplers.euler(_field, noise[0], 6, return_all=True)
        np.testing.assert_allclose(states, want, atol=2e-6)
        np.testing.assert_array_equal(logprobs, 0)

    def test_short_steps_are_those_of_the_stochastic_equation(self):
        num_steps, scale = 1000, 0.7
        steps = stochastic_steps(num_steps, scale)
        t, dt = np.arange(num_steps) / num_steps, 1 / num_steps
        sigma = scale * (1 - t)
        # x + (v + sigma^2 / 2 (t v - x) / (1 - t)) dt
        of_x, of_v = 1 - sigma**2 / 2 / (1 - t) * dt, (1 + sigma**2 / 2 * t / (1 - t)) * dt
        # They differ in the square of a step, more so where few steps are left.
        early = slice(0, num_steps * 9 // 10)
        np.testing.assert_allclose(steps.of_x[early], of_x[early], atol=5 * dt**2)
        np.testing.assert_allclose(steps.of_v[early], of_v[early], atol=5 * dt**2)
        assert np.abs(of_x - 1).max() > 100 * dt**2
        np.testing.assert_allclose(steps.std[:-1], (sigma * dt**0.5)[:-1], rtol=1e-4)

    @parameterized.parameters(2, 3, 10, 50)
    def test_a_step_keeps_the_share_of_noise(self, num_steps):
        """A constant datum: the velocity says where it is, and the noise stays unit normal."""
        steps = stochastic_steps(num_steps, num_steps**0.5 / 2)
        after = np.arange(1, num_steps + 1) / num_steps
        # x = t c + (1 - t) e and v = c - e: the factors of c, and of e squared.
        of_c = steps.of_x * steps.time + steps.of_v
        of_e = steps.of_x * (1 - steps.time) - steps.of_v
        np.testing.assert_allclose(of_c, after, atol=1e-6)
        np.testing.assert_allclose(of_e**2 + steps.std**2, (1 - after) ** 2, atol=1e-6)
        assert (steps.std[:-1] > 0).all() and steps.std[-1] == 0

    @parameterized.parameters((1, 0.1), (4, 1.01), (10, 1.59), (10, -0.1), (0, 0.0))
    def test_too_few_steps_or_too_much_noise(self, num_steps, scale):
        with pytest.raises(ConfigError, match="at least 2 steps"):
            stochastic_steps(num_steps, scale)


class DensityTest(parameterized.TestCase):
    def test_the_density_of_every_step(self):
        steps = stochastic_steps(4, 0.6)
        noise = np.random.default_rng(0).standard_normal((4, 2, 3, 5, 2)).astype(np.float32)
        states, logprobs = stochastic(_field, noise, steps)
        assert states.shape == (5, 2, 3, 5, 2) and logprobs.shape == (4, 2, 3)
        states = np.asarray(states, np.float64)
        for i in range(3):
            v = _field(states[i], i / 4)
            mean = steps.of_x[i] * states[i] + steps.of_v[i] * v
            want = scipy.stats.norm.logpdf(states[i + 1], mean, steps.std[i]).sum((-2, -1))
            np.testing.assert_allclose(logprobs[i], want, rtol=1e-4)
        np.testing.assert_array_equal(logprobs[3], 0)
        # And a draw is where its noise says.
        z = (states[2] - steps.of_x[1] * states[1] - steps.of_v[1] * _field(states[1], 0.25))
        np.testing.assert_allclose(z / steps.std[1], noise[2], atol=1e-4)

    def test_the_gradient_points_from_the_mean_to_the_draw(self):
        steps = Steps(*np.float32([[0.0, 0.5], [1.0, 1.0], [0.5, 0.5], [0.2, 0.0]]))
        states = np.random.default_rng(1).standard_normal((3, 4, 2)).astype(np.float32)
        v = np.random.default_rng(2).standard_normal((2, 4, 2)).astype(np.float32)
        got = jax.grad(lambda v: step_logprobs(states, v, steps).sum())(jnp.asarray(v))
        want = 0.5 * (states[1] - states[0] - 0.5 * v[0]) / 0.2**2
        np.testing.assert_allclose(got[0], want, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(got[1], 0)  # the last step is certain

    def test_shapes_that_do_not_fit(self):
        steps = stochastic_steps(3, 0.1)
        with pytest.raises(AssertionError):
            stochastic(_field, np.zeros((4, 2, 2), np.float32), steps)
        with pytest.raises(AssertionError):
            step_logprobs(np.zeros((3, 2, 2)), np.zeros((3, 2, 2)), steps)
