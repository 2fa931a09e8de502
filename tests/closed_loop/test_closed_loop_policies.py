"""Policies without a network: what they do in scenes whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loop_scenes import CAR, GREEN, RED, WALKER, sight, straight

from alpamayo_jax.closed_loop.policies import POLICIES
from alpamayo_jax.sim.closed_loop import WAYPOINTS

_RUN = {name: jax.jit(policy) for name, policy in POLICIES.items()}
FRONT = 5.393 - 1.3  # of the default vehicle, ahead of its rear axle


def plan(name, scene, **moment):
    made = _RUN[name](scene, sight(scene, **moment), jax.random.key(0))
    assert made.pose.shape == (WAYPOINTS, 3) and made.samples is None
    return np.asarray(made.pose)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("heading", (0.0, 2.5))
def test_on_an_empty_road_at_its_speed_everybody_goes_straight_on(name, heading):
    pose = plan(name, straight(limit=8.0, heading=heading))
    want = 0.8 * np.arange(1, WAYPOINTS + 1)
    # The driver model creeps up to its free speed and a little below it.
    np.testing.assert_allclose(pose[:, 0], want, rtol=0.12 if name == "route_follower" else 1e-4)
    np.testing.assert_allclose(pose[:, 1:], 0.0, atol=1e-3)


def test_recorded_is_where_the_recording_was_and_goes_on_past_its_end():
    scene = straight(ticks=30)
    pose = plan("recorded", scene, tick=20, offset=(1.0, 2.0))
    np.testing.assert_allclose(pose[0], (0.8 - 1.0, -2.0, 0.0), atol=1e-4)
    np.testing.assert_allclose(np.diff(pose[:, 0]), 0.8, atol=1e-4)


def test_recorded_uses_the_real_ticks_of_a_padded_scene():
    scene = straight(ticks=30)
    padded = scene.replace(
        ego_pose=np.concatenate([scene.ego_pose, np.repeat(scene.ego_pose[-1:], 50, 0)])
    )
    want, found = (POLICIES["recorded"](s, sight(scene, 20), None).pose for s in (scene, padded))
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_constant_velocity_is_the_speed_of_now():
    pose = plan("constant_velocity", straight(), speed=3.0)
    np.testing.assert_allclose(pose[-1], (19.2, 0.0, 0.0), atol=1e-4)


def clearance(scene, at):
    """Metres between the front of the planned vehicle and x = `at`, when it is nearest."""
    start = float(scene.ego_pose[17, 0])
    return at - (start + plan("route_follower", scene)[:, 0].max() + FRONT)


def test_it_waits_at_a_red_light_and_not_at_a_green_one():
    red, green = (straight(lights=[(50.0, state)]) for state in (RED, GREEN))
    assert 0.0 < clearance(red, 50.0) < 3.0
    assert clearance(green, 50.0) < -5.0


def test_it_does_not_brake_for_a_light_that_it_cannot_stop_at():
    scene = straight(lights=[(13.6 + FRONT + 1.5, RED)])  # 1.5 m before it, at 8 m/s
    assert clearance(scene, 13.6 + FRONT + 1.5) < -5.0


@pytest.mark.parametrize(
    "agent, stops",
    [
        ((50.0, 0.0, 0.0, 0.0, 0.0, *CAR), True),
        ((50.0, 3.5, 0.0, 0.0, 0.0, *CAR), False),  # beside
        ((-10.0, 0.0, 0.0, 0.0, 0.0, *CAR), False),  # behind
        ((40.0, -2.2, 0.0, 0.0, 1.0, *WALKER), True),  # steps on
        ((40.0, -2.2, 0.0, 0.0, -1.0, *WALKER), False),  # walks away
    ],
)
def test_it_keeps_away_from_whoever_is_on_its_way(agent, stops):
    scene = straight(agents=[agent])
    left = clearance(scene, agent[0] - agent[5] / 2)
    assert (left > 0.5) == stops, left


def test_it_follows_at_the_speed_of_the_one_ahead():
    scene = straight(agents=[(30.0, 0.0, 0.0, 5.0, 0.0, *CAR)])
    x = plan("route_follower", scene)[:, 0]
    assert np.diff(x[-10:]).mean() / 0.1 == pytest.approx(5.0, abs=1.0)
    lead = 30.0 + 5.0 * 1.7 + 0.5 * np.arange(1, WAYPOINTS + 1) - 4.5 / 2
    assert (lead - (13.6 + x + FRONT) > 1.0).all()


def test_who_is_not_there_or_not_solid_does_not_matter():
    scene = straight(agents=[(50.0, 0.0, 0.0, 0.0, 0.0, *CAR)])
    gone = scene.replace(agent_present=np.zeros_like(scene.agent_present))
    bump = scene.replace(agent_solid=np.zeros_like(scene.agent_solid))
    for free in (gone, bump):
        assert clearance(free, 47.0) < -5.0


def test_it_slows_down_for_a_curve_and_follows_it():
    angle = np.linspace(0.0, np.pi / 2, 60)
    corner = np.stack([60.0 + 15.0 * np.sin(angle), 15.0 - 15.0 * np.cos(angle)], -1)
    route = np.concatenate([[(-20.0, 0.0)], corner, [(75.0, 100.0)]])
    scene = straight(limit=15.0, speed=8.0, ticks=80, route=route)
    pose = plan("route_follower", scene, tick=70)
    assert np.linalg.norm(np.diff(pose[:, :2], axis=0), axis=-1).min() / 0.1 < 7.0
    assert pose[-1, 2] > 0.5
    world = pose[:, :2] + (56.0, 0.0)
    distance = np.linalg.norm(world[:, None] - corner[None], axis=-1).min(-1)
    assert distance[(world[:, 1] > 1.0) & (world[:, 1] < 14.0)].max() < 0.5


def test_beside_its_route_it_returns_to_it():
    pose = plan("route_follower", straight(), offset=(0.0, 1.5))
    assert pose[0, 1] == pytest.approx(0.0, abs=0.2)
    assert pose[-1, 1] == pytest.approx(-1.5, abs=0.1) and np.diff(pose[:, 1]).max() < 1e-4


@pytest.mark.parametrize("name", POLICIES)
def test_policies_run_over_scenes(name):
    scenes = [straight(speed=v, agents=[(60.0, 0.0, 0.0, 0.0, 0.0, *CAR)]) for v in (4.0, 8.0)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *scenes)
    seen = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(sight, scenes))
    keys = jax.random.split(jax.random.key(0), 2)
    both = jax.jit(jax.vmap(POLICIES[name]))(stacked, seen, keys).pose
    for k, scene in enumerate(scenes):
        np.testing.assert_allclose(both[k], plan(name, scene), atol=1e-3)
