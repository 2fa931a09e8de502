"""Runs of pure and host policies: equal, seeded, checked, and measured."""

import dataclasses

import jax
import numpy as np
import pytest

from alpamayo_jax.closed_loop import runner
from alpamayo_jax.closed_loop.policies import constant_velocity, recorded
from alpamayo_jax.closed_loop.runner import HostPlan
from alpamayo_jax.metrics.closed_loop import TIME_AGGREGATION
from alpamayo_jax.sim.closed_loop import LoopSettings, Plan
from alpamayo_jax.sim.scenes import Scene, make_arrays
from alpamayo_jax.types import InputError

TICKS = 32


def scene(name="one", ticks=TICKS, blocked=False, turn=0.0):
    """A road of 8 m along x; a car stands on it where `blocked`."""
    t = np.arange(ticks) * 0.1
    pose = np.stack([8 * t, 0 * t, turn * t], -1)
    agent = np.tile([20.0 if blocked else -40.0, 0.0, 0.0], (1, ticks, 1))
    lane = np.array([[-60.0, -2.0], [200, -2], [200, 2], [-60, 2]])
    arrays = make_arrays(
        pose, np.full(ticks, 8.0), pose[:, :2], 10.0, agent_pose=agent,
        agent_present=np.ones((1, ticks)), agent_size=[[4.5, 1.9, 1.5]], agent_kind=[1],
        lane_centres=[np.array([[-60.0, 0.0], [200, 0]])], lane_polygons=[lane],
        road_edges=[lane[:2], lane[2:]], drivable=[lane],
    )  # fmt: skip
    return Scene(name, arrays, np.zeros(2))


SCENES = [scene(), scene("blocked", blocked=True), scene("short", ticks=24)]


class Hosted:
    """The recorded policy on the host; says what it sees."""

    def __init__(self):
        self.moments = []
        self._plan = jax.jit(recorded)

    def plan(self, moments):
        self.moments += moments
        return [
            HostPlan(
                jax.tree.map(np.asarray, self._plan(m.scene.arrays, m.sight, None)),
                "blocked" if m.scene.name == "blocked" else f"tick {m.tick // 10}",
                black=m.scene.name == "short" and m.rollout == 1,
            )
            for m in moments
        ]


@pytest.fixture(scope="module")
def pure():
    return runner.run(SCENES, recorded, rollouts=2)


@pytest.fixture(scope="module")
def hosted():
    policy = Hosted()
    return runner.run(SCENES, policy, rollouts=2), policy


def test_shapes_and_names(pure):
    assert pure.rollouts == 2 and len(pure.scenes) == 3
    assert pure.rollout.ego_pose.shape == (3, 2, TICKS, 3)
    assert set(TIME_AGGREGATION) | {"valid"} == set(pure.steps) == set(pure.strict_steps)
    assert all(rows.shape == (3, 2, TICKS) for rows in pure.steps.values())


def test_what_is_valid_is_after_the_warm_up_and_before_the_end(pure):
    valid = pure.steps["valid"]
    assert valid[0, 0].nonzero()[0].tolist() == list(range(17, TICKS))
    assert valid[2, 1].nonzero()[0].tolist() == list(range(17, 24))


def test_simulated_time(pure):
    assert pure.simulated_seconds == pytest.approx(0.1 * 2 * (31 + 31 + 23))
    assert pure.seconds > 0


def test_the_recording_runs_into_what_stands_in_its_way(pure):
    hit = (pure.steps["collision_front"] * pure.steps["valid"]).any(-1)
    assert hit.tolist() == [[False] * 2, [True] * 2, [False] * 2]
    assert not (pure.steps["offroad"] * pure.steps["valid"]).any()


def test_a_host_policy_drives_as_the_same_pure_one(pure, hosted):
    made, _ = hosted
    np.testing.assert_allclose(made.rollout.ego_pose, pure.rollout.ego_pose, atol=1e-4)
    for name in ("progress", "dist_to_gt_trajectory", "min_distance_to_obstacle_m", "min_ade"):
        np.testing.assert_allclose(made.steps[name], pure.steps[name], atol=1e-3)


def test_a_host_policy_sees_each_rollout_once_per_tick(hosted):
    _, policy = hosted
    seen = {(m.scene.name, m.rollout, m.tick) for m in policy.moments}
    want = {
        (s.name, k, tick)
        for s in SCENES for k in range(2) for tick in range(17, int(s.arrays.num_ticks) - 1)
    }  # fmt: skip
    assert seen == want and len(policy.moments) == len(want)
    assert len({m.seed for m in policy.moments}) == len(want)


def test_what_it_sees_is_what_was_driven(hosted):
    made, policy = hosted
    for moment in policy.moments[::7]:
        own = [s.name for s in SCENES].index(moment.scene.name)
        driven = made.rollout.ego_pose[own, moment.rollout]
        np.testing.assert_array_equal(moment.ego_poses, driven[: moment.tick + 1])
        np.testing.assert_allclose(moment.sight.ego_history, moment.ego_poses[-16:], atol=1e-6)
        assert moment.agent_poses.shape == (1, moment.tick + 1, 3)


def test_reasoning_is_kept_without_repeats(hosted):
    made, _ = hosted
    assert made.reasoning[1][0] == [(17, "blocked")]
    assert made.reasoning[0][1] == [(17, "tick 1"), (20, "tick 2"), (30, "tick 3")]


def test_black_images_are_noted(hosted):
    made, _ = hosted
    black = made.steps["img_is_black"].any(-1)
    assert black.tolist() == [[False, False], [False, False], [False, True]]


def test_a_plan_may_be_kept_for_some_ticks():
    policy = Hosted()
    made = runner.run(SCENES[:1], policy, settings=LoopSettings(plan_every=5))
    assert [m.tick for m in policy.moments] == [17, 22, 27]
    assert made.steps["dist_to_gt_location"][0, 0].max() < 0.3
    between = made.rollout.plan[0, 0]
    np.testing.assert_allclose(between[18, :62], between[17, 1:63], atol=1e-4)


def test_batches_change_nothing(pure, monkeypatch):
    monkeypatch.setattr(runner, "MOST", 4)
    again = runner.run(SCENES, recorded, rollouts=2)
    np.testing.assert_allclose(again.rollout.ego_pose, pure.rollout.ego_pose, atol=1e-5)
    assert len(again.reasoning) == 3 and all(len(row) == 2 for row in again.reasoning)


class Wrong:
    def __init__(self, change):
        self._change = change

    def plan(self, moments):
        plans = [HostPlan(Plan(np.zeros((64, 3), np.float32))) for _ in moments]
        return self._change(plans)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda plans: plans[1:], "0 plans for 1"),
        (lambda plans: [dataclasses.replace(p, plan=Plan(np.zeros((9, 3)))) for p in plans],
         r"scene 'one', tick 17: a plan must be \[64, 3\]"),
        (lambda plans: [dataclasses.replace(p, plan=Plan(np.full((64, 3), np.nan))) for p in plans],
         "not finite"),
        (lambda plans: [dataclasses.replace(
            p, plan=Plan(np.zeros((64, 3)), np.zeros((2, 9, 2)))) for p in plans], "samples"),
    ],
)  # fmt: skip
def test_a_wrong_plan_is_named(change, words):
    with pytest.raises(InputError, match=words):
        runner.run(SCENES[:1], Wrong(change))


@pytest.mark.parametrize(
    "scenes, settings, words",
    [
        ([], LoopSettings(), "no scenes"),
        ([scene("tiny", ticks=18)], LoopSettings(), "'tiny' has 18 ticks"),
        (SCENES, LoopSettings(warmup=10), "warmup is 10"),
        (SCENES, LoopSettings(plan_every=0), "plan_every is 0"),
    ],
)
def test_what_cannot_be_driven(scenes, settings, words):
    with pytest.raises(InputError, match=words):
        runner.run(scenes, constant_velocity, settings=settings)


def test_no_rollouts():
    with pytest.raises(ValueError, match="rollouts is 0"):
        runner.run(SCENES, constant_velocity, rollouts=0)
