"""The loop: frames, tracking, padding, replay, and pure functions throughout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.sim import closed_loop, traffic
from alpamayo_jax.sim.closed_loop import Plan
from alpamayo_jax.sim.scenes import AgentKind, make_arrays, stack

TICKS = 60
T = np.arange(TICKS) * 0.1


def arc(speed, radius, ticks=TICKS):
    turn = speed * 0.1 * np.arange(ticks) / radius
    return np.stack([radius * np.sin(turn), radius * (1 - np.cos(turn)), turn], -1)


def scene(speed=8.0, radius=80.0, ticks=TICKS):
    pose = arc(speed, radius, ticks)
    agent = pose + np.array([0.0, 5.0, 0.0])
    return make_arrays(
        pose, np.full(ticks, speed), pose[:, :2], 10.0, agent_pose=agent[None],
        agent_present=np.ones((1, ticks)), agent_size=[[4.5, 1.9, 1.5]],
        agent_kind=[AgentKind.VEHICLE],
    )  # fmt: skip


def follow(scene, sight, key):
    """Where the recording is; samples are drawn around it."""
    last = scene.num_ticks - 1
    tick = sight.tick + 1 + jnp.arange(64)
    step = scene.ego_pose[last] - scene.ego_pose[last - 1]
    pose = scene.ego_pose[jnp.minimum(tick, last)] + jnp.maximum(tick - last, 0)[:, None] * step
    pose = closed_loop.to_rig(pose, sight.ego_history[-1])
    noise = jax.random.normal(key, (3, 1, 2))
    return Plan(pose, pose[None, :, :2] + noise)


SCENES = [scene(), scene(12.0, -100.0), scene(5.0, 60.0, ticks=40)]


@pytest.fixture(scope="module")
def rollout():
    keys = jax.random.split(jax.random.key(0), 3)
    made = closed_loop.drive(stack(SCENES), None, keys, policy=follow)
    return jax.tree.map(np.asarray, made)


def test_frames_are_inverse():
    rng = np.random.default_rng(0)
    pose, origin = rng.normal(size=(2, 5, 3)).astype(np.float32)
    back = closed_loop.from_rig(closed_loop.to_rig(pose, origin), origin)
    np.testing.assert_allclose(back, pose, atol=1e-5)
    points = closed_loop.from_rig(closed_loop.to_rig(pose, origin)[..., :2], origin)
    np.testing.assert_allclose(points, pose[:, :2], atol=1e-5)


def test_the_warm_up_is_the_recording(rollout):
    for i, made in enumerate(SCENES):
        np.testing.assert_array_equal(rollout.ego_pose[i, :18], made.ego_pose[:18])
    assert rollout.warmup.tolist() == [17] * 3
    assert not rollout.planned[:, :17].any() and rollout.planned[:, 17:39].all()


def test_a_good_plan_is_tracked(rollout):
    for i, made in enumerate(SCENES):
        ticks = len(made.ego_pose)
        off = np.linalg.norm(rollout.ego_pose[i, :ticks, :2] - made.ego_pose[:, :2], axis=-1)
        assert off.max() < 0.3
    assert rollout.solved.all()


def test_a_short_scene_stands_still_after_its_end(rollout):
    assert rollout.num_ticks.tolist() == [60, 60, 40]
    assert not rollout.planned[2, 39:].any()
    np.testing.assert_array_equal(
        rollout.ego_pose[2, 40:], np.broadcast_to(rollout.ego_pose[2, 39], (20, 3))
    )


def test_agents_replay(rollout):
    np.testing.assert_allclose(rollout.agent_pose[0], SCENES[0].agent_pose, atol=1e-6)


def test_plans_and_samples_are_in_the_scene_frame(rollout):
    ahead = rollout.plan[0, 20, 9]
    np.testing.assert_allclose(ahead[:2], SCENES[0].ego_pose[30, :2], atol=1e-3)
    spread = rollout.samples[0, 20] - rollout.plan[0, 20, None, :, :2]
    assert rollout.samples.shape == (3, TICKS, 3, 64, 2)
    np.testing.assert_allclose(spread, np.broadcast_to(spread[:, :1], spread.shape), atol=1e-3)


def test_random_numbers_differ_between_scenes_and_ticks(rollout):
    noise = (rollout.samples - rollout.plan[..., None, :, :2])[:, 17:39, :, 0]
    assert len(np.unique(np.linalg.norm(noise, axis=-1).round(4))) > 100


def test_a_scene_does_not_depend_on_the_others(rollout):
    keys = jax.random.split(jax.random.key(0), 3)
    order = np.array([1, 0, 2])
    again = closed_loop.drive(
        stack([SCENES[i] for i in order]), None, keys[order], policy=follow
    )
    np.testing.assert_allclose(again.ego_pose, rollout.ego_pose[order], atol=1e-4)


def test_speed_at_the_start_is_that_of_the_poses_where_none_is_told():
    stacked = stack([scene(), scene()])
    state = closed_loop.begin(stacked, 17)
    np.testing.assert_allclose(state.vehicle[:, 3], 8.0, rtol=1e-5)
    np.testing.assert_allclose(state.vehicle[:, 5], 8.0 / 80.0, rtol=1e-3)
    np.testing.assert_array_equal(state.history[:, -1], stacked.ego_pose[:, 17])


def test_what_is_seen():
    stacked = stack([scene()])
    sight = closed_loop.look(stacked, closed_loop.begin(stacked, 20))
    assert sight.tick.tolist() == [20] and sight.ego_history.shape == (1, 16, 3)
    np.testing.assert_allclose(np.linalg.norm(sight.agent_velocity[0, 0]), 8.0, rtol=1e-3)
    assert sight.light_state.shape == (1, 0)


def test_a_warm_up_without_history_is_refused():
    with pytest.raises(ValueError, match="warmup is 14"):
        closed_loop.drive(
            stack([scene()]), None, jax.random.split(jax.random.key(0), 1), policy=follow, warmup=14
        )


def test_reacting_agents_run_in_the_loop():
    made = scene()
    roads = jax.tree.map(lambda x: x[None], traffic.find_paths(made))
    state = closed_loop.begin(stack([made]), 17)
    plan = Plan(jnp.zeros((1, 64, 3)))
    new, _ = jax.jit(closed_loop.advance)(stack([made]), roads, state, plan)
    np.testing.assert_allclose(new.agents.pose[0], made.agent_pose[:, 18], atol=0.05)
    assert float(new.vehicle[0, 3]) < 8.0
