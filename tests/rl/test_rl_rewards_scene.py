"""Boxes of a window, from clips whose agents are where the test puts them."""

import dataclasses

import numpy as np
import pytest
from reward_episodes import poses
from scipy.spatial.transform import Rotation

from alpamayo_jax.clip import AgentTable, Clip, EgoTrack
from alpamayo_jax.data.clip_folder import find_clips, read_clip
from alpamayo_jax.data.windows import target, window_times
from alpamayo_jax.rl.rewards.scene import EgoBox, Scene, collides, ego_boxes, window_scene
from alpamayo_jax.sim.source import ProceduralSource
from alpamayo_jax.testing.clips import small_clip
from alpamayo_jax.types import InputError

YAW = 0.7  # of the ego in the world


def _clip(rows):
    """An ego at 5 m/s from (100, 50) along YAW, and agents (t, track, x, y, yaw, l, w)."""
    t = np.round(0.1 * np.arange(101), 3)
    along = np.array([np.cos(YAW), np.sin(YAW), 0.0])
    quat = Rotation.from_euler("z", np.full((101, 1), YAW)).as_quat(scalar_first=True)
    rows = np.asarray(rows, float).reshape(-1, 7)
    agents = AgentTable(
        rows[:, 0], rows[:, 1].astype(np.int32),
        np.concatenate([rows[:, 2:4], np.zeros((len(rows), 1))], -1), rows[:, 4],
        np.concatenate([rows[:, 5:7], np.full((len(rows), 1), 1.5)], -1),
        np.full(len(rows), "CAR"),
    )  # fmt: skip
    return Clip("c", EgoTrack(t, [100, 50, 0] + 5.0 * t[:, None] * along, quat), agents=agents)


def _world(x, y, t0=2.0):
    """A point of the ego frame at t0."""
    c, s = np.cos(YAW), np.sin(YAW)
    origin = np.array([100, 50]) + 5.0 * t0 * np.array([c, s])
    return origin + np.array([x * c - y * s, x * s + y * c])


def test_boxes_are_in_the_ego_frame_at_t0():
    rows = [(2.0 + 0.1 * k, 7, *_world(20 + 0.3 * k, -2.0), YAW + 0.2, 4.2, 1.8)
            for k in range(-10, 75)]  # fmt: skip
    scene = window_scene(_clip(rows), 2.0)
    assert scene.boxes.shape == (64, 1, 5) and scene.boxes.dtype == np.float32
    assert scene.present.all()
    k = np.arange(1, 65)
    want = np.stack([20 + 0.3 * k, 0 * k - 2, 0 * k + 0.2, 0 * k + 4.2, 0 * k + 1.8], -1)
    np.testing.assert_allclose(scene.boxes[:, 0], want, atol=1e-5)


def test_short_gaps_are_filled_and_long_ones_are_not():
    times = [1.9, 2.3, 2.6, 4.0, 4.1]
    rows = [(t, 3, *_world(10 + t, 0), YAW, 4, 2) for t in times]
    scene = window_scene(_clip(rows), 2.0)
    there = np.round(2.0 + 0.1 * (np.flatnonzero(scene.present[:, 0]) + 1), 1)
    np.testing.assert_array_equal(there, [2.1, 2.2, 2.3, 2.4, 2.5, 2.6, 4.0, 4.1])
    np.testing.assert_allclose(scene.boxes[scene.present][:, 0], 10 + there, atol=1e-4)
    assert not scene.boxes[~scene.present].any()


def test_yaw_goes_the_short_way_round():
    place = _world(10, 0)
    rows = [(2.0, 1, *place, np.pi - 0.1, 4, 2), (2.4, 1, *place, -np.pi + 0.1, 4, 2)]
    scene = window_scene(_clip(rows), 2.0)
    yaw = scene.boxes[:4, 0, 2] + YAW
    np.testing.assert_allclose(yaw, np.pi - 0.1 + 0.05 * np.arange(1, 5), atol=1e-5)


def test_who_is_not_near_in_time_is_not_there():
    rows = [(0.5, 1, *_world(10, 0), 0, 4, 2), (9.9, 2, *_world(10, 0), 0, 4, 2)]
    scene = window_scene(_clip(rows), 2.0)
    assert scene.boxes.shape == (64, 0, 5)
    assert not collides(scene, *poses(5.0))


def test_without_annotation_there_is_no_scene():
    clip = dataclasses.replace(_clip([]), agents=None)
    assert window_scene(clip, 2.0) is None
    assert window_scene(_clip([]), 2.0).boxes.shape == (64, 0, 5)


def test_outside_the_track():
    with pytest.raises(InputError, match="t0=11.000 s is outside"):
        window_scene(_clip([]), 11.0)


def test_other_lengths():
    assert window_scene(_clip([]), 2.0, num_waypoints=20).present.shape == (20, 0)


def test_the_ego_box_is_ahead_of_its_axle():
    xyz, rot = poses(10.0, np.full(64, np.pi / 2))
    boxes = ego_boxes(EgoBox(4.0, 2.0, 1.5), xyz, rot)
    np.testing.assert_allclose(boxes[0], [0, 1 + 1.5, np.pi / 2, 4, 2], atol=1e-6)


def test_only_at_the_same_time():
    """Someone crosses at 2 to 3 s where the ego is at 4 s: no collision; at 4 s: one."""
    for begin, want in ((1.5, False), (3.5, True)):
        boxes, present = np.zeros((64, 1, 5), np.float32), np.zeros((64, 1), bool)
        rows = slice(round(begin * 10), round(begin * 10) + 10)
        boxes[rows], present[rows] = [20 + 1.4, 0, np.pi / 2, 1.0, 1.0], True
        assert collides(Scene(boxes, present), *poses(5.0)) == want


def test_batch_dimensions():
    boxes = np.tile(np.float32([20, 0, 0, 4, 2]), (64, 1, 1))
    scene = Scene(boxes, np.ones((64, 1), bool))
    xyz, rot = (np.stack([np.stack([a, b])]) for a, b in zip(poses(5.0), poses(1.0)))
    np.testing.assert_array_equal(collides(scene, xyz, rot), [[True, False]])
    with pytest.raises(AssertionError):
        collides(scene, xyz[..., :10, :], rot[..., :10, :, :])


def test_simulated_experts_do_not_collide():
    source = ProceduralSource(6, 3, cameras=())
    windows = [(clip, t0) for clip in map(source.clip, range(6)) for t0 in window_times(clip, 2.0)]
    agents = 0
    for clip, t0 in windows:
        scene, wanted = window_scene(clip, t0), target(clip, t0)
        if scene is not None:
            agents += scene.present.shape[1]
            assert not collides(scene, wanted.ego_future_xyz, wanted.ego_future_rot)
    assert agents > 0


def test_agents_that_drive_beside_are_found():
    clip = small_clip(num_agents=3)
    scene = window_scene(clip, float(clip.ego.t[20]))
    assert scene.present.any(0).sum() == 3


def test_recorded_drivers_do_not_collide(real_clips_dir):
    checked = 0
    for folder in find_clips(real_clips_dir)[:3]:
        clip = read_clip(folder)
        for t0 in window_times(clip, 4.0, need_images=False):
            scene, wanted = window_scene(clip, t0), target(clip, t0)
            if scene is not None and scene.present.any():
                checked += 1
                assert not collides(scene, wanted.ego_future_xyz, wanted.ego_future_rot), t0
    assert checked
