"""A pipeline ends with driving: the policy and every baseline, on streets new to the policy."""

import pytest

from alpamayo_jax import recipe
from alpamayo_jax.closed_loop import runner
from alpamayo_jax.closed_loop.policies import POLICIES
from alpamayo_jax.config import ConfigError


@pytest.fixture
def calls(monkeypatch):
    """What would be driven, in place of driving it."""
    found = []

    def run(scenes, driver, *, seed, settings, progress):
        found.append((scenes, driver, seed, settings))
        return "a run"

    monkeypatch.setattr(runner, "run", run)
    return found


def test_the_policy_and_every_baseline_drive_new_streets(get_config, calls):
    made = get_config()
    made.closed_loop.update(scenes=2, seconds=4.0, plan_every=7)
    policy = recipe.make_policy(made)
    runs = recipe.drive_closed_loop(made, policy, progress=False)
    assert list(runs) == ["policy", *POLICIES] and len(calls) == 4
    scenes, _, seed, settings = calls[0]
    first = made.data.num_clips + made.data.num_test_clips
    assert [scene.name.split("-")[2] for scene in scenes] == [f"{first:05d}", f"{first + 1:05d}"]
    assert seed == made.seed and settings.plan_every == 7
    assert len(scenes[0].arrays.ego_pose) == 41


def test_nothing_is_driven_where_it_is_not_asked_for(get_config, calls):
    made = get_config()
    made.closed_loop.scenes = 0
    assert recipe.drive_closed_loop(made, policy=None) == {}
    del made.closed_loop
    assert recipe.drive_closed_loop(made, policy=None) == {} and calls == []


@pytest.mark.parametrize("knob, value", [("scenes", -1), ("seconds", 2.0), ("plan_every", 0)])
def test_knobs_are_checked_before_training(get_config, knob, value):
    made = get_config()
    made.closed_loop[knob] = value
    with pytest.raises(ConfigError, match=f"closed_loop.{knob}"):
        recipe.check(made)
