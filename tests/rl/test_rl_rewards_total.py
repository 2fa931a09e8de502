"""The weighted sum, and what becomes of samples that a critic could not score."""

import numpy as np
import pytest
from reward_episodes import episodes, poses, situation

from alpamayo_jax.config import ConfigError
from alpamayo_jax.rl.rewards.base import Scores
from alpamayo_jax.rl.rewards.critic import EndpointCritic
from alpamayo_jax.rl.rewards.local_critic import LocalCritic
from alpamayo_jax.rl.rewards.reasoning import StructuredReasoning
from alpamayo_jax.rl.rewards.total import TotalReward, make_critic
from alpamayo_jax.settings import RewardSettings
from alpamayo_jax.types import InputError

TEXT = "Keep the speed because the lane ahead is clear."


class Given:
    """A reward that says what it is told."""

    unit = ""

    def __init__(self, name, values, low=0.0, high=1.0, cost=False, valid=True):
        self.name, self.low, self.high, self.cost = name, low, high, cost
        self._values, self._valid = np.array([values], np.float32), valid

    def __call__(self, made):
        valid = np.broadcast_to(np.asarray(self._valid), made.shape)
        return Scores(self._values, valid, valid)


def _two():
    return episodes([situation(TEXT)], [[TEXT, ""]])


def test_the_sum_by_hand():
    rewards = [Given("a", [5, 2], high=5.0), Given("b", [0, 4], high=4.0, cost=True),
               Given("c", [1, 0])]  # fmt: skip
    total, parts = TotalReward(rewards, {"a": 2.0, "b": 0.5})(_two())
    np.testing.assert_allclose(total.values, [[2.0 * 1.0, 2.0 * 0.4 - 0.5 * 1.0]], rtol=1e-6)
    assert list(parts) == ["a", "b", "c", "reward"] and parts["reward"] is total
    np.testing.assert_array_equal(parts["c"].values, [[1, 0]])
    assert total.valid.all() and total.values.dtype == np.float32


def test_a_range_that_does_not_begin_at_0():
    total, _ = TotalReward([Given("a", [-1, 3], low=-1.0, high=3.0)], {"a": 1.0})(_two())
    np.testing.assert_allclose(total.values, [[0, 1]])


def test_samples_without_a_score_are_masked_and_not_zero():
    failed = Given("a", [0, 0], valid=[[True, False]])
    total, parts = TotalReward([failed, Given("b", [1, 1])], {"a": 1.0, "b": 1.0})(_two())
    np.testing.assert_array_equal(total.valid, [[True, False]])
    np.testing.assert_allclose(total.mean(), 1.0)
    assert parts["b"].valid.all()


def test_what_has_no_weight_masks_nothing():
    failed = Given("a", [0, 0], valid=False)
    total, parts = TotalReward([failed, Given("b", [1, 1])], {"a": 0.0, "b": 1.0})(_two())
    assert total.valid.all() and not parts["a"].valid.any()


@pytest.mark.parametrize(("rewards", "weights", "match"), [
    (["a", "a"], {"a": 1.0}, "repeat"),
    (["a"], {"b": 1.0}, "weight b"),
    (["a"], {"a": -1.0}, "weight a"),
    (["a"], {"a": float("nan")}, "weight a"),
    (["a"], {"a": 0.0}, "at least one"),
])  # fmt: skip
def test_weights_that_make_no_sense(rewards, weights, match):
    with pytest.raises(ConfigError, match=match):
        TotalReward([Given(name, [0, 0]) for name in rewards], weights)


def test_from_settings():
    total = TotalReward.from_config(RewardSettings(max_ade=4.0, comfort=0.5))
    names = [reward.name for reward in total.rewards]
    assert names == ["reasoning", "consistency", "ade", "collision", "jerk", "comfort", "format"]
    assert total.rewards[2].high == 4.0 and total.weights["comfort"] == 0.5
    good, _ = total(episodes([situation(TEXT, boxes=[[0, 30, 0, 4, 2]])], [[TEXT]]))
    rest = RewardSettings()
    want = rest.reasoning + rest.consistency + rest.format + 0.5
    np.testing.assert_allclose(good.values, [[want]], rtol=1e-4)
    # As bad as can be: everything is at its worst end.
    bad, parts = total(episodes(
        [situation(TEXT, boxes=[[0, 30, 0, 4, 2]])], [["banana"]],
        [[poses(20.0)]], valid=False, ended=False,
    ))  # fmt: skip
    np.testing.assert_allclose(bad.values, [[-rest.imitation - rest.collision - rest.jerk]])
    assert parts["reasoning"].values[0, 0] == 0


def test_every_component_stays_in_its_range():
    rng = np.random.default_rng(0)
    total = TotalReward.from_config(RewardSettings())
    motions = [[poses(rng.uniform(0, 20, 64), rng.normal(0, 0.5, 64)) for _ in range(8)]]
    texts = [[TEXT, "Stop.", "", "Turn left.", "x"] + ["Yield to the car ahead."] * 3]
    _, parts = total(episodes(
        [situation(TEXT, boxes=[[20, 0, 0, 4, 2]])], texts, motions, valid=rng.random((1, 8)) < 0.5
    ))  # fmt: skip
    for reward in total.rewards:
        values = parts[reward.name].values
        assert np.isfinite(values).all() and values.dtype == np.float32, reward.name
        assert (values >= reward.low).all() and (values <= reward.high).all(), reward.name


@pytest.mark.parametrize(("changes", "kind"), [
    ({}, StructuredReasoning),
    ({"critic": "endpoint", "critic_url": "http://127.0.0.1:9/v1", "critic_model": "m"},
     EndpointCritic),
    ({"critic": "endpoint", "reasoning": 0.0}, StructuredReasoning),
])  # fmt: skip
def test_which_critic(changes, kind):
    assert isinstance(make_critic(RewardSettings(**changes)), kind)


def test_a_local_critic_may_be_given():
    policy = object()
    assert isinstance(make_critic(RewardSettings(critic="local"), policy=policy), LocalCritic)


@pytest.mark.parametrize(("changes", "match"), [
    ({"critic": "human"}, "critic 'human' is unknown"),
    ({"critic": "endpoint", "critic_model": "m"}, "url"),
    ({"critic": "endpoint", "critic_url": "http://127.0.0.1:9/v1"}, "model"),
    ({"critic": "local"}, "critic_model"),
    ({"max_ade": 0.0}, "max_ade"),
])  # fmt: skip
def test_settings_that_make_no_sense(changes, match):
    with pytest.raises(ConfigError, match=match):
        TotalReward.from_config(RewardSettings(**changes))


def test_a_local_critic_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="config.json"):
        make_critic(RewardSettings(critic="local", critic_model=str(tmp_path)))


def test_a_key_in_clear_text_is_refused_at_the_start(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret")
    settings = RewardSettings(
        critic="endpoint", critic_url="http://example.com/v1", critic_model="m",
        critic_key_env="SOME_KEY",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="plain http"):
        make_critic(settings)
