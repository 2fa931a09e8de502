"""Scenes of clips: hand-made ones, and every recorded one."""

import numpy as np
import pytest

from alpamayo_jax.clip import AgentTable, Clip, EgoTrack, Event, MapLines
from alpamayo_jax.data.clip_folder import find_clips, read_clip
from alpamayo_jax.sim.recorded import scene_from_clip
from alpamayo_jax.sim.scenes import AgentKind, Light

TICKS = 60


def lines(**named):
    """MapLines of name -> (kind, points)."""
    points, offsets, kinds, ids = [], [0], [], []
    for name, (kind, line) in named.items():
        rows = np.zeros((len(line), 3))
        rows[:, :2] = line
        points.append(rows)
        offsets.append(offsets[-1] + len(line))
        kinds.append(kind)
        ids.append(name.rpartition("__")[0] or name)
    return MapLines(np.concatenate(points), np.array(offsets), np.array(kinds), np.array(ids))


def clip(agents=None, map_lines=None, events=(), speed=10.0):
    t = np.arange(TICKS) * 0.1
    xyz = np.stack([100.0 + speed * t, np.full(TICKS, 50.0), 0 * t], -1)
    quat = np.tile([1.0, 0, 0, 0], (TICKS, 1))
    return Clip("made", EgoTrack(t, xyz, quat), agents=agents, map_lines=map_lines, events=events)


def table(tracks, category="REGULAR_VEHICLE"):
    """AgentTable of (times, x, y) tracks of one yaw."""
    t = np.concatenate([times for times, *_ in tracks])
    n = len(t)
    xyz = np.concatenate([np.stack([x + 0 * t, y + 0 * t, 0 * t], -1) for t, x, y in tracks])
    return AgentTable(
        t, np.repeat(np.arange(len(tracks)), [len(times) for times, *_ in tracks]).astype(np.int32),
        xyz, np.zeros(n), np.tile([4.0, 2.0, 1.5], (n, 1)), np.full(n, category),
    )  # fmt: skip


def test_the_frame_begins_at_the_ego():
    scene = scene_from_clip(clip())
    assert scene.origin.tolist() == [100.0, 50.0] and scene.name == "made"
    np.testing.assert_allclose(scene.arrays.ego_pose[-1], [59.0, 0.0, 0.0], atol=1e-4)
    np.testing.assert_allclose(scene.arrays.ego_speed, 10.0, rtol=1e-5)
    assert scene.arrays.speed_limit == pytest.approx(10.0)


def test_agents_come_onto_the_ticks():
    t = 0.53 + 0.1 * np.arange(40)
    made = scene_from_clip(clip(table([(t, 110.0 + 5.0 * (t - 0.53), 53.0)]))).arrays
    present = made.agent_present[0]
    assert np.flatnonzero(present)[[0, -1]].tolist() == [5, 44]
    np.testing.assert_allclose(made.agent_pose[0, 10, :2], [10.0 + 5.0 * 0.47, 3.0], atol=1e-4)
    assert made.agent_kind.tolist() == [AgentKind.VEHICLE]
    assert made.agent_size.tolist() == [[4.0, 2.0, 1.5]]


def test_who_is_seen_shortly_or_far_away_is_left_out():
    short, far = 0.1 * np.arange(20), 0.1 * np.arange(50)
    tracks = [(short, 110.0, 50.0), (far, 110.0, 55.0), (far, 900.0, 50.0)]
    made = scene_from_clip(clip(table(tracks))).arrays
    assert len(made.agent_pose) == 1
    np.testing.assert_allclose(made.agent_pose[0, 0, :2], [10.0, 5.0])
    assert len(scene_from_clip(clip(table(tracks)), shortest=1.0).arrays.agent_pose) == 2


def test_a_long_gap_is_not_bridged():
    t = np.concatenate([0.1 * np.arange(20), 4.0 + 0.1 * np.arange(15)])
    present = scene_from_clip(clip(table([(t, 110.0, 55.0)]))).arrays.agent_present[0]
    assert present[:20].all() and not present[21:39].any() and present[41:53].all()


def test_turning_through_half_a_circle_goes_the_short_way():
    t = 0.2 * np.arange(25)
    agents = table([(t, 110.0, 55.0)])
    agents.yaw[:] = np.where(np.arange(25) % 2, np.pi - 0.01, -np.pi + 0.01)
    yaw = scene_from_clip(clip(agents)).arrays.agent_pose[0, :, 2]
    assert np.abs(np.cos(yaw[:48]) + 1).max() < 1e-3


def test_lanes_of_two_boundaries_and_of_a_centre_alone():
    road = lines(
        a__l=("lane_left:NONE", [[90, 52], [200, 52]]),
        a__r=("lane_right:NONE", [[90, 48], [200, 48]]),
        b=("lane_centre", [[90, 55], [150, 55], [200, 55]]),
        far=("lane_centre", [[2000, 55], [2100, 55]]),
    )
    made = scene_from_clip(clip(map_lines=road)).arrays
    assert made.lane_valid.sum() == 2
    widths = sorted(np.ptp(polygon[:, 1]) for polygon in made.lane_polygon)
    np.testing.assert_allclose(widths, [3.7, 4.0], atol=1e-4)


def test_road_edges_are_those_of_all_drivable_areas_together():
    road = lines(
        a=("drivable_area", [[90, 48], [130, 48], [130, 54], [90, 54]]),
        b=("drivable_area", [[130, 48], [180, 48], [180, 54], [130, 54]]),
    )
    made = scene_from_clip(clip(map_lines=road)).arrays
    length = np.linalg.norm(np.diff(made.road_edge, axis=1), axis=-1).sum()
    np.testing.assert_allclose(length, 2 * 90 + 2 * 6, atol=1e-3)
    assert len(made.drivable) == 2


def test_lights_wait_at_the_nearest_stop_line():
    road = lines(s=("stop_line", [[140, 52], [140, 48]]), z=("stop_line", [[180, 52], [180, 48]]))
    events = (
        Event(0.0, "traffic_light", "red", (150.0, 50.0, 5.0)),
        Event(2.0, "traffic_light", "green", (150.0, 50.0, 5.0)),
    )
    made = scene_from_clip(clip(map_lines=road, events=events)).arrays
    assert made.light_state[0, [0, 19, 20, -1]].tolist() == [
        Light.RED, Light.RED, Light.GREEN, Light.GREEN,
    ]  # fmt: skip
    np.testing.assert_allclose(made.light_stop[0, :, 0], 40.0)
    assert made.stop_line_valid.sum() == 2


def test_the_route_goes_on_along_the_lanes_then_straight():
    road = lines(b=("lane_centre", [[90, 50], [165, 50], [200, 85]]))
    route = scene_from_clip(clip(map_lines=road)).arrays.route
    ends = route[-1]
    assert ends[0] > 70 and ends[1] > 20
    assert np.linalg.norm(np.diff(route, axis=0), axis=-1).sum() > 140


def test_a_drive_that_stands_still_has_a_route_ahead():
    route = scene_from_clip(clip(speed=0.0)).arrays.route
    np.testing.assert_allclose(route[-1], [100.0, 0.0], atol=1.0)


def test_every_recorded_clip_with_agents_makes_a_scene(real_clips_dir):
    made = 0
    for folder in find_clips(real_clips_dir):
        if (folder / "agents.npz").exists():
            scene = scene_from_clip(read_clip(folder))
            assert scene.arrays.agent_present.any() and scene.arrays.lane_valid.any()
            made += 1
    assert made
