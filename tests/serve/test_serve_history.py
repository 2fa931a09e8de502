"""Poses and frames to observations: any order, times since 1970, what is missing."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from serve_helpers import FRONT, car

from alpamayo_jax.serve.history import FrameHistory, PoseHistory, observation_at
from alpamayo_jax.serve.rehearsal import STEP_US
from alpamayo_jax.types import InputError


def filled(rehearsal, steps, order=None, first=0):
    """Poses from step `first` to `steps`, one message each, in `order`."""
    history = PoseHistory()
    times = np.arange(first, steps + 1)
    for step in times if order is None else order.permutation(times):
        time_us = rehearsal.begin_us + int(step) * STEP_US
        xyz, yaw = rehearsal.pose(time_us)
        quat = Rotation.from_euler("z", yaw).as_quat(scalar_first=True)
        history.add(np.array([time_us]), xyz[None], quat[None])
    return history


def frames(rehearsal, steps, index=1, name=FRONT):
    history = FrameHistory(name, index)
    for step in steps:
        history.add(rehearsal.begin_us + step * STEP_US, np.full((4, 6, 3), step, np.uint8))
    return history


def test_history_is_what_was_driven_in_the_frame_of_now():
    rehearsal = car()
    now_us = rehearsal.begin_us + 20 * STEP_US
    observation, t0_us = observation_at("s", filled(rehearsal, 20), [], now_us, 2)
    assert t0_us == now_us and observation.cameras == ()
    here, yaw = rehearsal.pose(now_us)
    ago = rehearsal.pose(now_us - 15 * STEP_US)
    offset = Rotation.from_euler("z", -yaw).apply(ago[0] - here)
    np.testing.assert_allclose(observation.ego_history_xyz[0], offset, atol=1e-3)
    np.testing.assert_allclose(observation.ego_history_xyz[-1], 0.0, atol=1e-6)
    turned = observation.ego_history_rot[0]
    np.testing.assert_allclose(np.arctan2(turned[1, 0], turned[0, 0]), ago[1] - yaw, atol=1e-5)


@pytest.mark.parametrize("seed", (0, 1))
def test_order_and_repetition_do_not_matter(seed):
    rehearsal = car()
    now_us = rehearsal.begin_us + 20 * STEP_US
    sorted_, shuffled = (filled(rehearsal, 20, o) for o in (None, np.random.default_rng(seed)))
    xyz, yaw = rehearsal.pose(now_us)
    quat = Rotation.from_euler("z", yaw).as_quat(scalar_first=True)
    shuffled.add(np.array([now_us]), xyz[None], quat[None])
    first, second = (observation_at("s", h, [], now_us, 2)[0] for h in (sorted_, shuffled))
    np.testing.assert_array_equal(first.ego_history_xyz, second.ego_history_xyz)


def test_the_last_of_two_poses_at_one_time_holds():
    history = PoseHistory()
    quat = np.array([[1.0, 0.0, 0.0, 0.0]] * 2)
    history.add(np.array([5, 5]), np.array([[1.0, 0, 0], [2.0, 0, 0]]), quat)
    assert len(history) == 1 and history.at(5).xyz[0] == 2.0


def test_old_poses_and_frames_are_forgotten():
    rehearsal = car()
    history = filled(rehearsal, 120)
    assert len(history) == 51 and history.last_us == rehearsal.begin_us + 120 * STEP_US
    kept = frames(rehearsal, range(120)).camera(rehearsal.begin_us, rehearsal.begin_us + 10**9)
    assert len(kept.times) == 51 and kept.times[0] == pytest.approx(6.9)


def test_a_step_between_large_times_is_exact():
    rehearsal = car()
    track = filled(rehearsal, 20).track(rehearsal.begin_us + 20 * STEP_US)
    np.testing.assert_allclose(np.diff(track.t), 0.1, atol=1e-12)


def test_a_heading_between_poses_takes_the_short_way():
    history = PoseHistory()
    quats = Rotation.from_euler("z", [[np.pi - 0.1], [-np.pi + 0.1]]).as_quat(scalar_first=True)
    history.add(np.array([0, 100]), np.zeros((2, 3)), quats)
    assert np.cos(history.at(50).yaw) == pytest.approx(-1.0)


def test_the_newest_frame_says_when_now_is():
    rehearsal = car()
    now_us = rehearsal.begin_us + 20 * STEP_US
    seen = frames(rehearsal, range(16, 20))
    observation, t0_us = observation_at("s", filled(rehearsal, 20), [seen], now_us, 2)
    assert t0_us == now_us - STEP_US
    (camera,) = observation.cameras
    assert camera.camera_index == 1 and camera.images[:, 0, 0, 0].tolist() == [18, 19]
    np.testing.assert_allclose(camera.times, [-0.1, 0.0], atol=1e-9)


def test_cameras_are_in_the_order_of_their_index_and_the_future_is_not_seen():
    rehearsal = car()
    now_us = rehearsal.begin_us + 20 * STEP_US
    cameras = [frames(rehearsal, range(15, 25), i, f"c{i}") for i in (6, 1)]
    observation, t0_us = observation_at("s", filled(rehearsal, 25), cameras, now_us, 4)
    assert t0_us == now_us
    assert [c.camera_index for c in observation.cameras] == [1, 6]
    assert observation.cameras[0].images.max() == 20


@pytest.mark.parametrize(
    "first, steps, shown, words",
    [
        (16, 20, range(17, 21), ("0.400 s of past", "1.5 s")),
        (20, 20, range(17, 21), ("1 ego poses",)),
        (0, 20, (), ("no image of camera", FRONT)),
        (0, 20, range(10, 16), ("newest image is 0.500 s old",)),
        (0, 17, range(17, 21), ("ego poses end 0.300 s before",)),
        (0, 20, (10, 20), ("no frame within",)),
    ],
)
def test_what_is_missing_is_said(first, steps, shown, words):
    rehearsal = car()
    now_us = rehearsal.begin_us + 20 * STEP_US
    poses = filled(rehearsal, steps, first=first)
    with pytest.raises(InputError) as error:
        observation_at("session s", poses, [frames(rehearsal, shown)], now_us, 2)
    assert "session s" in str(error.value)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    "xyz, quat, word",
    [
        ((np.nan, 0, 0), (1, 0, 0, 0), "NaN"),
        ((0, 0, 0), (0, 0, 0, 0), "unit quaternion"),
        ((0, 0, 0), (2, 0, 0, 0), "unit quaternion"),
    ],
)
def test_what_is_no_pose_changes_nothing(xyz, quat, word):
    history = PoseHistory()
    with pytest.raises(InputError, match=word):
        history.add(np.array([1]), np.array([xyz], float), np.array([quat], float))
    assert not len(history)
