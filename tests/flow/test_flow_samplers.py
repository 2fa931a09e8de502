from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.flow import samplers


def _field(x, t):
    return (1 - t) * jnp.sin(3 * x) + 0.5 * jnp.cos(2 * t) - 0.3 * t * x


def _noise(batch=(3,), seed=0):
    return np.random.default_rng(seed).normal(size=(*batch, 6, 2)).astype(np.float32)


class EulerTest(parameterized.TestCase):
    @parameterized.product(batch=((), (2, 1)), num_steps=(1, 7, 10))
    def test_a_straight_path_is_integrated_exactly(self, batch, num_steps):
        x0, x1 = _noise(batch), _noise(batch, seed=1)
        got = samplers.euler(lambda x, t: x1 - x0, x0, num_steps)
        np.testing.assert_allclose(got, x1, atol=1e-6)

    @parameterized.product(batch=((), (2, 1)), unroll=(False, True))
    def test_every_state_matches_a_numpy_loop(self, batch, unroll):
        x = _noise(batch).astype(np.float64)
        want = [x]
        for i in range(5):
            x = x + 0.2 * np.asarray(_field(x, i / 5))
            want.append(x)
        run = jax.jit(lambda n: samplers.euler(_field, n, 5, return_all=True, unroll=unroll))
        np.testing.assert_allclose(run(_noise(batch)), np.stack(want), atol=2e-6)

    def test_last_state_is_the_result(self):
        states = samplers.euler(_field, _noise(), 4, return_all=True)
        np.testing.assert_array_equal(states[-1], samplers.euler(_field, _noise(), 4))
        np.testing.assert_array_equal(states[0], _noise())

    def test_loop_and_unrolled_twin_agree_under_jit(self):
        run = jax.jit(
            lambda n, unroll: samplers.euler(_field, n, 10, unroll=unroll), static_argnums=1
        )
        np.testing.assert_allclose(run(_noise(), False), run(_noise(), True), rtol=0, atol=1e-6)

    def test_unrolled_has_no_loop(self):
        def names(unroll):
            jaxpr = jax.make_jaxpr(lambda n: samplers.euler(_field, n, 3, unroll=unroll))(_noise())
            return {equation.primitive.name for equation in jaxpr.eqns}

        assert "scan" in names(False)
        assert not {"scan", "while"} & names(True)

    @parameterized.parameters(False, True)
    def test_time_has_one_entry_per_sequence(self, unroll):
        seen = []

        def velocity(x, t):
            seen.append((t.shape, t.dtype))
            return x

        samplers.euler(velocity, _noise((2, 3)), 2, unroll=unroll)
        assert set(seen) == {((2, 3, 1, 1), jnp.dtype("float32"))}

    def test_state_stays_float32_with_a_bfloat16_field(self):
        got = samplers.euler(lambda x, t: x.astype(jnp.bfloat16), _noise(), 2)
        assert got.dtype == jnp.float32

    def test_a_field_of_another_shape_is_refused(self):
        with pytest.raises(AssertionError):
            samplers.euler(lambda x, t: x[..., :1], _noise(), 2)

    def test_no_steps_are_refused(self):
        with pytest.raises(ValueError, match="at least 1"):
            samplers.euler(_field, _noise(), 0)

    def test_grid(self):
        np.testing.assert_allclose(samplers.time_grid(4), [0, 0.25, 0.5, 0.75, 1])


class GuidanceTest(parameterized.TestCase):
    @parameterized.parameters((0.0, 2.0), (1.0, 5.0), (1.5, 6.5))
    def test_extrapolates_linearly(self, weight, want):
        field = samplers.guided(
            lambda x, t: jnp.full_like(x, 2.0), lambda x, t: jnp.full_like(x, 5.0), weight
        )
        np.testing.assert_allclose(field(_noise(), jnp.zeros((3, 1, 1))), want, rtol=1e-6)

    def test_weight_may_be_traced(self):
        def run(weight):
            return samplers.euler(samplers.guided(lambda x, t: -x, _field, weight), _noise(), 3)

        np.testing.assert_allclose(
            jax.jit(run)(1.0), samplers.euler(_field, _noise(), 3), atol=1e-6
        )


class NoiseTest(parameterized.TestCase):
    def test_temperature_scales(self):
        rng, shape = jax.random.key(0), (500, 8, 2)
        noise = samplers.initial_noise(rng, shape)
        assert noise.dtype == jnp.float32
        np.testing.assert_allclose(noise.std(), 1.0, atol=0.03)
        np.testing.assert_allclose(samplers.initial_noise(rng, shape, 0.5), noise * 0.5)
        np.testing.assert_array_equal(samplers.initial_noise(rng, shape, 0.0), 0)
