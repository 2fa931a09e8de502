"""The vehicle: what it must do, besides what was recorded of it."""

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.sim import vehicle


def drive(state, command, seconds):
    step = jax.jit(lambda s: vehicle.advance(s, jnp.asarray(command, jnp.float32)))
    for _ in range(round(seconds * 10)):
        state = step(state)
    return np.asarray(state)


def start(speed, rate=0.0):
    return vehicle.initial_state(jnp.zeros(3), jnp.float32(speed), jnp.float32(rate))


class VehicleTest(parameterized.TestCase):
    @parameterized.parameters(2.0, 15.0)
    def test_straight_on_without_a_command(self, speed):
        end = drive(start(speed), [0.0, 0.0], 2.0)
        np.testing.assert_allclose(end[:4], [2 * speed, 0, 0, speed], atol=1e-3)

    @parameterized.parameters((3.0, 1e-3), (8.0, 0.1))
    def test_a_steered_vehicle_takes_on_a_steady_turn(self, speed, slip):
        end = drive(start(speed), [0.1, 0.0], 4.0)
        self.assertLess(abs(end[5] * vehicle.VEHICLE.wheelbase / speed - 0.1), slip)

    def test_it_brakes_to_a_standstill_and_no_further(self):
        end = drive(start(5.0), [0.0, -6.0], 3.0)
        self.assertEqual(end[3], 0.0)
        longer = drive(jnp.asarray(end), [0.0, -6.0], 1.0)
        self.assertEqual(longer[3], 0.0)
        # The model's midpoint step lets a held brake creep back by 3 cm a second.
        np.testing.assert_allclose(longer[0], end[0], atol=0.035)

    def test_actuators_follow_with_a_lag(self):
        end = drive(start(10.0), [0.2, 1.0], 0.1)
        np.testing.assert_allclose(end[6:], [0.2 * 0.632, 0.632], rtol=5e-3)

    def test_left_is_the_mirror_of_right(self):
        left, right = (drive(start(12.0), [s, 0.5], 1.5) for s in (0.08, -0.08))
        mirror = np.array([1, -1, -1, 1, -1, -1, -1, 1])
        np.testing.assert_allclose(left, mirror * right, atol=1e-5)

    @parameterized.parameters(4.0, 12.0)
    def test_the_motion_does_not_depend_on_the_frame(self, speed):
        turned = start(speed).at[:3].set(jnp.array([3.0, -2.0, 2.0]))
        here, there = (drive(s, [0.1, 0.3], 1.0) for s in (start(speed), turned))
        cos, sin = np.cos(2.0), np.sin(2.0)
        x, y = here[:2]
        np.testing.assert_allclose(
            there[:3], [3 + cos * x - sin * y, -2 + sin * x + cos * y, here[2] + 2.0], atol=1e-4
        )
        np.testing.assert_allclose(there[3:], here[3:], atol=1e-4)

    @parameterized.parameters(((),), ((2, 1),))
    def test_batches(self, shape):
        state = jnp.broadcast_to(start(7.0), (*shape, 8))
        got = vehicle.advance(state, jnp.zeros((*shape, 2)))
        self.assertEqual(got.shape, (*shape, 8))
        np.testing.assert_allclose(got.reshape(-1, 8)[0], drive(start(7.0), [0, 0], 0.1), atol=1e-6)

    def test_a_state_of_another_size_is_an_error(self):
        with self.assertRaises(AssertionError):
            vehicle.advance(jnp.zeros(7), jnp.zeros(2))


class InitialStateTest(parameterized.TestCase):
    def test_a_turn_is_steered_and_its_centre_of_gravity_moves_sideways(self):
        state = start(10.0, 0.2)
        np.testing.assert_allclose(
            state[3:], [10.0, 1.59 * 0.2, 0.2, np.arctan(0.2 * 2.85 / 10.0), 0.0], rtol=1e-5
        )

    def test_who_stands_has_straight_wheels(self):
        self.assertEqual(float(start(0.2, 0.5)[6]), 0.0)
