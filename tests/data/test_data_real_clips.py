"""Recorded drives, where they are present: read whole, counted, compared with what is stored."""

import dataclasses
import json

import numpy as np
import pytest

from alpamayo_jax.data.clip_folder import find_clips, read_clip, write_clip
from alpamayo_jax.data.sources import FolderSource, split_by_time
from alpamayo_jax.data.windows import FRAME_TOLERANCE_S, observe, target, window_times


@pytest.fixture(scope="module")
def folders(real_clips_dir):
    return find_clips(real_clips_dir)


def _with_images(folders):
    found = [read_clip(folder) for folder in folders if (folder / "frames.csv").exists()]
    if not found:
        pytest.skip("no recorded clip has images")
    return found


def test_every_clip_is_read_and_equals_its_files(folders):
    for folder in folders:
        clip = read_clip(folder)
        with np.load(folder / "ego.npz") as stored:
            for name, field in (("t10", "t"), ("xyz10", "xyz"), ("quat10_wxyz", "quat_wxyz")):
                np.testing.assert_array_equal(getattr(clip.ego, field), stored[name])
        assert (clip.agents is not None) == (folder / "agents.npz").exists()
        assert (clip.map_lines is not None) == (folder / "map.npz").exists()
        if clip.agents is not None:
            with np.load(folder / "agents.npz") as stored:
                for name, value in vars(clip.agents).items():
                    np.testing.assert_array_equal(value, stored[name])
        if clip.map_lines is not None:
            with np.load(folder / "map.npz") as stored:
                for name, value in vars(clip.map_lines).items():
                    np.testing.assert_array_equal(value, stored[name])


def test_the_stored_grid_is_the_interpolated_track(folders, tmp_path):
    """What `read_clip` computes where a clip has no grid is what its authors computed."""
    for folder in folders:
        with np.load(folder / "ego.npz") as stored:
            raw = {name: stored[name] for name in ("t", "xyz", "quat_wxyz")}
        np.savez(tmp_path / "ego.npz", **raw)
        (tmp_path / "meta.json").write_text("{}")
        own, clip = read_clip(tmp_path).ego, read_clip(folder).ego
        assert len(own.t) == len(clip.t)
        np.testing.assert_allclose(own.t, clip.t, atol=1e-9)
        np.testing.assert_allclose(own.xyz, clip.xyz, atol=1e-6)
        cosine = np.abs((own.quat_wxyz * clip.quat_wxyz).sum(-1))
        np.testing.assert_allclose(cosine, 1.0, atol=1e-9)


def test_window_counts(folders):
    """A clip of n poses has n - 80 windows, t0 from pose 16 to the 65th before the last.

    The recorded counts every 0.5 s have one window more where n - 80 is a multiple of 5: that one
    would end a step behind the last pose.
    """
    for folder in folders:
        stored = json.loads((folder / "meta.json").read_text())["windows"]
        clip = read_clip(folder)
        n = len(clip.ego.t)
        assert len(window_times(clip, 0.1)) == stored["windows_stride_0p1s"] == n - 80
        assert len(window_times(clip, 8.0)) == stored["non_overlapping_8s"]
        surplus = 1 if (n - 80) % 5 == 0 else 0
        assert len(window_times(clip, 0.5)) == stored["windows_stride_0p5s"] - surplus


def test_images_decode_and_lie_near_t0(folders):
    for clip in _with_images(folders):
        times = window_times(clip, need_images=True)
        for t0 in times[:: max(len(times) // 4, 1)]:
            for camera, seen in zip(clip.cameras, observe(clip, t0).cameras):
                assert seen.images.shape == (4, camera.height, camera.width, 3)
                assert 20 < seen.images.mean() < 235
                wanted = [-0.3, -0.2, -0.1, 0.0]
                assert np.abs(seen.times - wanted).max() <= FRAME_TOLERANCE_S


def test_a_forward_camera_on_the_ego_origin(folders):
    for clip in _with_images(folders):
        assert 1 in [camera.index for camera in clip.cameras]
        assert -2.5 < clip.ground_z < 0


def test_histories_and_futures_join_at_t0(folders):
    for folder in folders:
        clip = read_clip(folder)
        for t0 in window_times(clip, 1.0, need_images=False):
            past, future = observe(clip, t0, cameras=()), target(clip, t0)
            np.testing.assert_array_equal(past.ego_history_xyz[-1], 0)
            steps = np.diff(np.concatenate([past.ego_history_xyz, future.ego_future_xyz]), axis=0)
            # Recorded cars change speed by at most a metre a second in a tenth, jitter included.
            assert np.abs(np.diff(np.linalg.norm(steps, axis=-1))).max() < 0.4
            row = int(np.argmin(np.abs(clip.ego.t - t0)))
            distance = np.linalg.norm(clip.ego.xyz[row + 64] - clip.ego.xyz[row])
            assert abs(np.linalg.norm(future.ego_future_xyz[-1]) - distance) < 1e-3


def test_a_recorded_clip_is_split_and_stored_again(folders, tmp_path):
    clip = _with_images(folders)[0]
    middle = (clip.ego.t[0] + clip.ego.t[-1]) / 2
    folder = next(f for f in folders if read_clip(f).clip_id == clip.clip_id)
    split = split_by_time(FolderSource(folder), (None, middle), (middle, None))
    assert max(t0 for _, t0 in split.train) + 8.0 <= min(t0 for _, t0 in split.test) + 1e-6
    short = write_clip(tmp_path / "again", _first_frames(clip, 5))
    again = read_clip(short)
    np.testing.assert_array_equal(again.ego.xyz, clip.ego.xyz)
    difference = np.abs(again.cameras[0].read(4).astype(int) - clip.cameras[0].read(4))
    assert difference.mean() < 3


def _first_frames(clip, count):
    cameras = tuple(dataclasses.replace(c, times=c.times[:count]) for c in clip.cameras)
    return dataclasses.replace(clip, cameras=cameras)
