"""When a run is stopped, and when not."""

import json

import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.rl.guard import Guard, PolicyCollapsed
from alpamayo_jax.settings import RLSettings


def _watch(guard, rewards, tokens=10.0, start=0):
    """The step at which the guard stops, or None."""
    for step, reward in enumerate(rewards, start):
        try:
            guard.watch(step, reward, tokens if isinstance(tokens, float) else tokens[step])
        except PolicyCollapsed as error:
            assert str(error).startswith(f"step {step}: ")
            return step
    return None


def test_a_fall_of_the_mean():
    guard = Guard(3, 1.0, 2.0)
    # Means of the last three: 2.0, 1.67, 1.33, 1.0 (a fall of exactly 1), 0.9.
    assert _watch(guard, [2, 2, 2, 2, 2, 2, 1, 1, 1, 0.7]) == 9


def test_the_message_has_the_numbers():
    guard = Guard(1, 1.0, 2.0)
    guard.watch(0, 2.0, 10.0)
    with pytest.raises(PolicyCollapsed, match=r"step 1: .* 0\.500.*2\.000.*guard_drop"):
        guard.watch(1, 0.5, 10.0)
    with pytest.raises(PolicyCollapsed, match=r"21\.0 tokens.*10\.0.*guard_growth"):
        guard.watch(2, 2.0, 21.0)


def test_samples_that_grow():
    assert _watch(Guard(2, 1.0, 2.0), [1] * 7, [10.0, 10.0, 19.0, 20.0, 20.0, 21.0, 21.0]) == 5


@pytest.mark.parametrize("rewards", [
    [2, 2, 2, 5, 5, 5, 5],  # rises
    [2, 2, 2, 2, -5, 2, 9, 2, 2],  # one bad rollout among good ones
    [2, 2, 2, -9, -9],  # not yet known
])  # fmt: skip
def test_nothing_is_stopped_without_reason(rewards):
    assert _watch(Guard(3, 3.0, 2.0), rewards) is None


def test_0_steps_watch_nothing():
    assert _watch(Guard(0, 1.0, 2.0), [5, -100, -100]) is None


def test_unknown_rewards_do_not_count():
    nan = float("nan")
    assert _watch(Guard(2, 1.0, 2.0), [2, nan, 2, nan, nan, 2, nan, 2]) is None
    assert _watch(Guard(2, 1.0, 2.0), [2, nan, 2, nan, 0, nan, 0]) == 6


def test_a_resumed_guard_stops_where_the_other_does():
    rewards = [2, 2, 2, 2, 2, 1, 1, 0.5, 0]
    whole = _watch(Guard(3, 1.0, 2.0), rewards)
    assert whole is not None
    for cut in range(len(rewards) - 1):
        first, second = Guard(3, 1.0, 2.0), Guard(3, 1.0, 2.0)
        assert _watch(first, rewards[:cut]) in (None, whole)
        if cut <= whole:
            second.set_state(json.loads(json.dumps(first.get_state())))
            assert _watch(second, rewards[cut:], start=cut) == whole


def test_a_state_is_a_copy():
    guard = Guard(2, 1.0, 2.0)
    guard.watch(0, 1.0, 5.0)
    state = guard.get_state()
    guard.watch(1, 9.0, 5.0)
    assert state == {"first": [[1.0, 5.0]], "last": []}


def test_from_settings():
    guard = Guard.from_settings(RLSettings(guard_steps=7, guard_drop=0.5, guard_growth=3.0))
    assert (guard.steps, guard.drop, guard.growth) == (7, 0.5, 3.0)


@pytest.mark.parametrize("numbers", [(-1, 1.0, 2.0), (3, 0.0, 2.0), (3, 1.0, 1.0)])
def test_what_makes_no_sense(numbers):
    with pytest.raises(ConfigError, match="guard"):
        Guard(*numbers)
