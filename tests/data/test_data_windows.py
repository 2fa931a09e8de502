"""Windows of a clip: which there are, and what is in them."""

import dataclasses

import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from alpamayo_jax.clip import EgoTrack, ReasoningLabel
from alpamayo_jax.data.windows import (
    FRAME_TOLERANCE_S,
    FUTURE_S,
    NUM_FUTURE,
    NUM_HISTORY,
    PAST_S,
    observe,
    target,
    window_times,
)
from alpamayo_jax.testing.clips import small_clip
from alpamayo_jax.types import InputError

TWO = ("camera_front_wide_120fov", "camera_front_tele_30fov")


def _world_poses(clip, t0, xyz, rot):
    """Local poses back in the world."""
    at = [np.interp(t0, clip.ego.t, clip.ego.xyz[:, axis]) for axis in range(3)]
    row = int(np.argmin(np.abs(clip.ego.t - t0)))
    turn = Rotation.from_quat(clip.ego.quat_wxyz[row], scalar_first=True).as_matrix()
    return xyz @ turn.T + at, turn @ rot


class WindowTimesTest(parameterized.TestCase):
    @parameterized.parameters(
        (8.0, 0.1, 1), (8.1, 0.1, 2), (20.0, 0.1, 121), (20.0, 0.5, 25), (20.0, 8.0, 2),
        (24.0, 8.0, 3), (23.9, 8.0, 2),
    )  # fmt: skip
    def test_counts(self, seconds, stride, count):
        for cameras in ((), TWO):
            clip = small_clip(seconds, cameras=cameras, start=500.0)
            self.assertLen(window_times(clip, stride), count)

    def test_first_and_last(self):
        times = window_times(small_clip(10.0, start=3.0))
        self.assertAlmostEqual(times[0], 3.0 + 1.6)
        self.assertAlmostEqual(times[-1], 13.0 - 6.4)
        self.assertIsInstance(times[0], float)

    def test_range_holds_the_whole_window(self):
        clip = small_clip(30.0)
        times = window_times(clip, 0.1, start_s=5.05, end_s=20.0)
        self.assertAlmostEqual(times[0], 6.7)  # the first grid time with 1.6 s after 5.05 s
        self.assertAlmostEqual(times[-1], 13.6)
        self.assertEqual(window_times(clip, 0.1, 5.0, 12.9), [])
        self.assertEqual(window_times(clip, 0.1, 28.0), [])
        self.assertEqual(window_times(clip, 0.1, -100.0, 1e6), window_times(clip))

    def test_two_ranges_share_no_time(self):
        clip = small_clip(30.0)
        train, test = window_times(clip, end_s=15.0), window_times(clip, start_s=15.0)
        self.assertLessEqual(train[-1] + FUTURE_S, test[0] - PAST_S + 1e-9)

    @parameterized.parameters(0.5, 7.9)
    def test_short_clip_is_refused_with_numbers(self, seconds):
        with self.assertRaisesRegex(InputError, rf"'small': ego\.t covers {seconds} s .*8\.0 s in"):
            window_times(small_clip(seconds))

    @parameterized.parameters(0.0, -0.1, 0.05, 0.25, 0.04, float("nan"), float("inf"))
    def test_stride_is_a_multiple_of_the_grid(self, stride):
        with self.assertRaisesRegex(InputError, "stride_s is .*, not a multiple of 0.1"):
            window_times(small_clip(9.0), stride)

    @parameterized.parameters("start_s", "end_s")
    def test_a_range_is_not_nan(self, name):
        with self.assertRaisesRegex(InputError, f"{name} is nan"):
            window_times(small_clip(9.0), **{name: float("nan")})

    def test_images_that_are_not_there(self):
        clip = small_clip(14.0, cameras=TWO)
        wide, tele = clip.cameras
        # A hole from 5.0 to 5.5 s takes the windows that want a frame in it.
        keep = (tele.times < 4.95) | (tele.times > 5.55)
        tele = dataclasses.replace(tele, times=tele.times[keep])
        holed = dataclasses.replace(clip, cameras=(wide, tele))
        every = window_times(clip)
        lost = [t0 for t0 in every if 4.95 < t0 < 5.85]
        self.assertEqual(window_times(holed), [t0 for t0 in every if t0 not in lost])
        self.assertLen(lost, 9)
        self.assertEqual(window_times(holed, need_images=False), every)
        self.assertEqual(window_times(holed, cameras=[1]), every)
        self.assertLess(len(window_times(holed, num_frames=6)), len(every) - len(lost))

    def test_images_of_a_clip_without_cameras(self):
        clip = small_clip(9.0, cameras=())
        self.assertLen(window_times(clip), 11)
        with self.assertRaisesRegex(InputError, "images are needed, but no camera"):
            window_times(clip, need_images=True)
        with self.assertRaisesRegex(InputError, "no camera has index 6"):
            window_times(small_clip(9.0), cameras=[6])

    def test_slow_cameras(self):
        self.assertLen(window_times(small_clip(10.0, frame_dt=0.12)), 21)
        self.assertEmpty(window_times(small_clip(10.0, frame_dt=0.5)))


class ObserveTest(parameterized.TestCase):
    def test_shapes_and_origin(self):
        clip = small_clip(10.0, cameras=TWO, size=(40, 24))
        observation = observe(clip, 5.0)
        self.assertEqual(observation.ego_history_xyz.shape, (NUM_HISTORY, 3))
        self.assertEqual(observation.ego_history_rot.dtype, np.float32)
        np.testing.assert_array_equal(observation.ego_history_xyz[-1], 0)
        np.testing.assert_allclose(observation.ego_history_rot[-1], np.eye(3), atol=1e-7)
        self.assertEqual([c.camera_index for c in observation.cameras], [1, 6])
        self.assertEqual(observation.cameras[0].images.shape, (4, 24, 40, 3))
        self.assertEqual((observation.clip_id, observation.t0), ("small", 5.0))

    def test_frames_are_those_near_t0(self):
        clip = small_clip(10.0, cameras=TWO)
        for camera, seen in zip(clip.cameras, observe(clip, 5.02, num_frames=3).cameras):
            np.testing.assert_allclose(seen.times, [-0.22, -0.12, -0.02], atol=1e-9)
            for image, frame in zip(seen.images, (48, 49, 50)):
                np.testing.assert_array_equal(image, camera.read(frame))

    def test_a_frame_just_after_t0_says_so(self):
        seen = observe(small_clip(10.0), 4.96).cameras[0]
        np.testing.assert_allclose(seen.times, [-0.26, -0.16, -0.06, 0.04], atol=1e-9)

    def test_cameras_can_be_chosen(self):
        clip = small_clip(10.0, cameras=TWO)
        self.assertEqual([c.camera_index for c in observe(clip, 5.0, cameras=[6]).cameras], [6])
        self.assertEqual(observe(clip, 5.0, cameras=[6, 1]).cameras[0].camera_index, 1)
        self.assertEmpty(observe(clip, 5.0, cameras=()).cameras)
        for wrong, message in (([3], "no camera has index 3"), ([1, 1], "indices repeat")):
            with self.assertRaisesRegex(InputError, message):
                observe(clip, 5.0, cameras=wrong)

    @parameterized.parameters(
        (-0.5, "t0=-0.500 s is outside the ego track, 0.000 to 10.000 s"),
        (10.2, "t0=10.200 s is outside"),
        (float("nan"), "outside"),
        (1.4, "t0=1.400 s has 1.400 s of past on the ego track .*, 1.5 s are needed"),
        (0.0, "has 0.000 s of past"),
    )
    def test_too_early_or_outside(self, t0, message):
        with self.assertRaisesRegex(InputError, f"clip 'small': .*{message}"):
            observe(small_clip(10.0), t0)

    def test_the_end_of_a_drive_can_be_observed(self):
        self.assertEqual(observe(small_clip(10.0), 10.0).t0, 10.0)
        self.assertEqual(observe(small_clip(1.5), 1.5).ego_history_xyz.shape, (16, 3))

    def test_missing_frames(self):
        clip = small_clip(10.0, frame_dt=0.5)
        with self.assertRaisesRegex(
            InputError, r"no frame within 0\.06 s of 4\.700 s .t0=5\.000 s.; the nearest is at 4\.5"
        ):
            observe(clip, 5.0)
        with self.assertRaisesRegex(InputError, "num_frames is 0"):
            observe(clip, 5.0, num_frames=0)

    def test_a_turned_world_changes_nothing(self):
        clip = small_clip(12.0)
        turn = Rotation.from_euler("xyz", [0.3, -0.2, 2.0])
        quat = turn * Rotation.from_quat(clip.ego.quat_wxyz, scalar_first=True)
        xyz = turn.apply(clip.ego.xyz) + [1e5, -2e5, 30]
        ego = EgoTrack(clip.ego.t, xyz, quat.as_quat(scalar_first=True))
        moved = dataclasses.replace(clip, ego=ego)
        for part, field in ((observe, "ego_history"), (target, "ego_future")):
            a, b = part(clip, 4.03), part(moved, 4.03)
            for name in (f"{field}_xyz", f"{field}_rot"):
                np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-6)


class TargetTest(parameterized.TestCase):
    @parameterized.parameters(
        (6.0, "has 4.000 s of future on the ego track .*, 6.4 s are needed"),
        (3.61, "has 6.390 s of future"),
        (11.0, "is outside"),
    )
    def test_too_late(self, t0, message):
        with self.assertRaisesRegex(InputError, message):
            target(small_clip(10.0), t0)

    def test_the_first_pose_can_have_a_target(self):
        self.assertEqual(target(small_clip(6.4), 0.0).ego_future_xyz.shape, (NUM_FUTURE, 3))

    @parameterized.parameters(
        (1.9, ""), (2.0, "Yield."), (4.2, "Yield."), (4.4, "Keep lane."), (5.5, "")
    )
    def test_the_reasoning_that_has_begun(self, t0, text):
        labels = [(2.0, "Yield."), (4.3, "Keep lane."), (5.0, "")]
        self.assertEqual(target(small_clip(12.0, reasoning=labels), t0).reasoning, text)

    def test_labels_use_the_clock_of_the_clip(self):
        clip = small_clip(10.0, start=90.0)
        clip = dataclasses.replace(clip, reasoning=(ReasoningLabel(92.0, "Stop."),))
        self.assertEqual(target(clip, 91.8).reasoning, "")
        self.assertEqual(target(clip, clip.ego.t[20]).reasoning, "Stop.")


@settings(deadline=None, max_examples=40)
@given(
    seconds=st.floats(8.0, 20.0),
    start=st.floats(-1e3, 1e4),
    stride=st.integers(1, 30),
    margin=st.tuples(st.floats(0, 4), st.floats(0, 4)),
    frame_dt=st.floats(0.05, 0.119),
    seed=st.integers(0, 5),
)
def test_every_listed_window_can_be_read(seconds, start, stride, margin, frame_dt, seed):
    seconds = round(seconds, 1)
    clip = small_clip(seconds, start=start, seed=seed, frame_dt=frame_dt, size=(8, 8))
    low, high = start + margin[0], start + seconds - margin[1]
    times = window_times(clip, stride / 10, low, high)
    room = seconds - sum(margin) - PAST_S - FUTURE_S
    if room > 0.1:
        assert times
    np.testing.assert_allclose(np.diff(times), stride / 10, atol=1e-6)
    for t0 in times[:: max(len(times) // 3, 1)]:
        assert low - 2e-3 <= t0 - PAST_S and t0 + FUTURE_S <= high + 2e-3
        assert np.abs(clip.ego.t - t0).min() < 1e-9
        observation, future = observe(clip, t0), target(clip, t0)
        wanted = np.array([-0.3, -0.2, -0.1, 0.0])
        assert np.abs(observation.cameras[0].times - wanted).max() <= FRAME_TOLERANCE_S + 2e-6
        # The local poses, put back into the world, are the recorded ones.
        row = int(np.argmin(np.abs(clip.ego.t - t0)))
        for xyz, rot, rows in (
            (observation.ego_history_xyz, observation.ego_history_rot, slice(row - 15, row + 1)),
            (future.ego_future_xyz, future.ego_future_rot, slice(row + 1, row + 65)),
        ):
            xyz, rot = _world_poses(clip, t0, xyz, rot)
            np.testing.assert_allclose(xyz, clip.ego.xyz[rows], atol=2e-5)
            expected = Rotation.from_quat(clip.ego.quat_wxyz[rows], scalar_first=True).as_matrix()
            np.testing.assert_allclose(rot, expected, atol=2e-6)


@settings(deadline=None, max_examples=40)
@given(fraction=st.floats(0, 1), row=st.integers(20, 40))
def test_between_poses_it_is_interpolated(fraction, row):
    """A drive of constant speed and turn is known between the poses too."""
    t = 0.1 * np.arange(120)
    yaw = 0.15 * t
    quat = Rotation.from_rotvec(yaw[:, None] * [0.0, 0.0, 1.0]).as_quat(scalar_first=True)
    straight = t[:, None] * [7.0, 2.0, 0.0]
    clip = dataclasses.replace(small_clip(cameras=()), ego=EgoTrack(t, straight, quat))
    t0 = t[row] + 0.1 * fraction
    past, future = observe(clip, t0), target(clip, t0)
    c, s = np.cos(0.15 * t0), np.sin(0.15 * t0)
    to_local = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    for xyz, rot, steps in (
        (past.ego_history_xyz, past.ego_history_rot, np.arange(-15, 1)),
        (future.ego_future_xyz, future.ego_future_rot, np.arange(1, 65)),
    ):
        expected = 0.1 * steps[:, None] * (to_local @ [7.0, 2.0, 0.0])
        np.testing.assert_allclose(xyz, expected, atol=1e-5)
        np.testing.assert_allclose(np.arctan2(rot[:, 1, 0], rot[:, 0, 0]), 0.015 * steps, atol=1e-6)


@pytest.mark.parametrize("t0", [3.0, 3.05])
def test_unreadable_frames_reach_the_caller(t0):
    clip = small_clip(10.0)

    def read(frame):
        raise InputError(f"clip 'small': frame {frame} is cut off")

    camera = dataclasses.replace(clip.cameras[0], read=read)
    with pytest.raises(InputError, match="frame 27 is cut off"):
        observe(dataclasses.replace(clip, cameras=(camera,)), t0)
