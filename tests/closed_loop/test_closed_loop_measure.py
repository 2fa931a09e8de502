"""All metrics of a hand-made rollout, and the borders that they need."""

import jax
import numpy as np
import pytest

from alpamayo_jax.closed_loop.measure import find_borders, measure
from alpamayo_jax.metrics.closed_loop import TIME_AGGREGATION
from alpamayo_jax.sim.closed_loop import Rollout
from alpamayo_jax.sim.scenes import make_arrays, stack

TICKS, WARMUP = 30, 17
ROAD = np.array([[-60.0, -2.0], [200, -2], [200, 2], [-60, 2]])


def scene(lanes=1):
    """A road of 4 m along x, driven at 10 m/s; a car 30 m ahead drives as fast."""
    x = np.arange(TICKS) * 1.0
    pose = np.stack([x, 0 * x, 0 * x], -1)
    return make_arrays(
        pose, np.full(TICKS, 10.0), pose[:, :2], 10.0,
        agent_pose=(pose + np.array([30.0, 0.0, 0.0]))[None], agent_present=np.ones((1, TICKS)),
        agent_size=[[4.0, 2.0, 1.5]], agent_kind=[1],
        lane_centres=[np.array([[-60.0, 0.0], [200, 0]])] * lanes, lane_polygons=[ROAD] * lanes,
        road_edges=[ROAD[:2], ROAD[2:]], drivable=[ROAD],
    )  # fmt: skip


def rollout(made, shift=(0.0, 0.0, 0.0), agent=None):
    """The recording, moved by `shift` after the warm-up; every plan goes on along x."""
    ego = np.array(made.ego_pose)
    ego[WARMUP:] += shift
    agents = np.array(made.agent_pose if agent is None else agent)
    ahead = np.zeros((TICKS, 64, 3), np.float32)
    ahead[..., 0] = ego[:, :1] + np.arange(1, 65)
    ahead[..., 1] = ego[:, 1:2]
    ticks = np.arange(TICKS)
    own = Rollout(
        num_ticks=made.num_ticks, warmup=np.int32(WARMUP), ego_pose=ego, ego_speed=made.ego_speed,
        agent_pose=agents, agent_present=made.agent_present, plan=ahead,
        planned=(ticks >= WARMUP) & (ticks < TICKS - 1), solved=np.ones(TICKS, bool),
    )  # fmt: skip
    return jax.tree.map(lambda x: np.asarray(x)[None], own)


def measured(made, driven):
    found = measure(stack([made]), find_borders([made]), driven)
    return [{name: np.asarray(rows)[0] for name, rows in steps.items()} for steps in found]


@pytest.fixture(scope="module")
def uneventful():
    return measured(scene(), rollout(scene()))


def test_every_metric_but_those_of_images_and_monitors_is_there(uneventful):
    hosts = {"img_is_black", "safety_monitor_triggered"}
    for steps in uneventful:
        assert set(steps) == set(TIME_AGGREGATION) - hosts
        assert all(rows.shape == (TICKS,) for rows in steps.values())


def test_driving_the_recording(uneventful):
    steps, strict = uneventful
    for name in ("collision_any", "offroad", "wrong_lane", "close_encounter_0.3m"):
        assert not steps[name].any() and not strict[name].any()
    np.testing.assert_allclose(steps["progress"], np.arange(TICKS) / (TICKS - 1), atol=1e-5)
    np.testing.assert_allclose(steps["dist_traveled_m"], np.arange(TICKS), atol=1e-4)
    np.testing.assert_allclose(strict["dist_traveled_m"], np.arange(TICKS), atol=1e-4)
    np.testing.assert_allclose(steps["gt_dist_traveled_m"], TICKS - 1, rtol=1e-5)
    # From the front of the ego (4.093 m less 1 %) to the rear of the car ahead.
    gap = 30.0 - 1.96 - (5.393 * 0.49 + 5.393 / 2 - 1.3)
    np.testing.assert_allclose(steps["min_distance_to_obstacle_m"], gap, atol=1e-4)
    room = 2.0 - 2.109 * 0.49
    np.testing.assert_allclose(steps["min_distance_to_lane_boundary_m"], room, atol=1e-4)


def test_what_needs_a_plan_is_unknown_without_one(uneventful):
    steps, _ = uneventful
    assert np.isnan(steps["open_loop_collision"][:WARMUP]).all()
    assert not steps["open_loop_collision"][WARMUP : TICKS - 1].any()
    assert np.isnan(steps["plan_deviation"][: WARMUP + 1]).all()
    np.testing.assert_allclose(steps["plan_deviation"][WARMUP + 1 : TICKS - 1], 0.0, atol=1e-5)


def test_an_error_is_known_as_far_as_the_recording_reaches(uneventful):
    steps, _ = uneventful
    known = ~np.isnan(steps["min_ade@1.0s"])
    assert known.nonzero()[0].tolist() == list(range(WARMUP, TICKS - 10))
    np.testing.assert_allclose(steps["min_ade@1.0s"][known], 0.0, atol=1e-5)
    assert np.isnan(steps["min_ade"]).all()


def test_beside_the_recording():
    made = scene()
    steps, _ = measured(made, rollout(made, (0.0, 1.5, 0.0)))
    after = slice(WARMUP, TICKS)
    np.testing.assert_allclose(steps["dist_to_gt_trajectory"][after], 1.5, atol=1e-5)
    np.testing.assert_allclose(steps["min_ade@0.5s"][WARMUP:24], 1.5, atol=1e-5)
    assert steps["offroad"][after].all() and not steps["offroad"][:WARMUP].any()


def test_reacting_agents_are_hit_where_they_are_and_plans_meet_those_of_the_log():
    made = scene()
    stopped = np.array(made.agent_pose)
    stopped[:, WARMUP:] = [WARMUP + 6.0, 0.0, 0.0]
    steps, _ = measured(made, rollout(made, agent=stopped))
    assert steps["collision_front"].any() and not steps["collision_front"][:WARMUP].any()
    assert not np.nan_to_num(steps["open_loop_collision"]).any()


def test_borders_of_scenes_are_padded():
    made = find_borders([scene(), scene(lanes=0)])
    assert made.lanes.shape == (2, 4, 2, 2) and made.road.shape == (2, 2, 2, 2)
    assert made.lanes_valid.sum(1).tolist() == [4, 0] and made.road_valid.all()
