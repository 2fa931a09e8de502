"""Advantages of groups, by hand."""

from absl.testing import parameterized
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.rl.advantages import ADVANTAGES, group_advantages
from alpamayo_jax.types import InputError

REWARDS = np.array([[1.0, 2.0, 6.0, 3.0], [5.0, 5.0, 5.0, 5.0], [0.1, 0.2, 0.3, 0.4]])
EVERY = np.ones_like(REWARDS, bool)


class AdvantagesTest(parameterized.TestCase):
    def test_centred(self):
        got, counts = group_advantages(REWARDS, EVERY, "centred")
        np.testing.assert_allclose(got[0], [-2, -1, 3, 0])
        np.testing.assert_allclose(got[1], 0)
        np.testing.assert_allclose(got[2], [-0.15, -0.05, 0.05, 0.15], atol=1e-7)
        assert got.dtype == counts.dtype == np.float32 and (counts == 1).all()

    def test_standardised_by_the_population_deviation(self):
        got, _ = group_advantages(REWARDS, EVERY, "standardised")
        np.testing.assert_allclose(got[0], np.array([-2, -1, 3, 0]) / (3.5**0.5 + 1e-6), rtol=1e-6)
        np.testing.assert_allclose(got[1], 0)  # all alike: nothing, not infinity
        np.testing.assert_allclose(got[0].std(), 1, atol=1e-5)
        # A group whose rewards hardly differ is blown up, but not beyond 1e-6.
        tiny, _ = group_advantages(1e-9 * REWARDS[:1], EVERY[:1], "standardised")
        assert np.abs(tiny).max() < 0.01

    @parameterized.parameters(*ADVANTAGES)
    def test_a_sample_without_a_reward_is_left_out(self, kind):
        valid = EVERY.copy()
        valid[0, 1] = False
        rewards = np.where(valid, REWARDS, np.nan)
        got, counts = group_advantages(rewards, valid, kind)
        want, _ = group_advantages(REWARDS[:1, [0, 2, 3]], EVERY[:1, :3], kind)
        np.testing.assert_allclose(got[0, [0, 2, 3]], want[0], rtol=1e-6)
        assert got[0, 1] == 0 and counts[0].tolist() == [1, 0, 1, 1]
        assert np.isfinite(got).all()

    @parameterized.parameters(0, 1)
    def test_a_group_of_one_says_nothing(self, count):
        valid = np.zeros((1, 4), bool)
        valid[0, :count] = True
        got, counts = group_advantages(REWARDS[:1], valid, "standardised")
        assert not got.any() and not counts.any()

    def test_refuses(self):
        with pytest.raises(ConfigError, match="'softmax'.*standardised, centred"):
            group_advantages(REWARDS, EVERY, "softmax")
        broken = REWARDS.copy()
        broken[2, 1] = np.inf
        with pytest.raises(InputError, match="prompt 2, sample 1 is inf"):
            group_advantages(broken, EVERY, "centred")
        with pytest.raises(AssertionError):
            group_advantages(REWARDS, EVERY[:1], "centred")
