"""The clips that other tests are made of are themselves sound."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alpamayo_jax.clip import RELEASE_CAMERAS, FTheta
from alpamayo_jax.data.clip_folder import read_clip
from alpamayo_jax.ops.camera import check_ftheta
from alpamayo_jax.testing.clips import edit_json, edit_npz, small_clip, write_small_clip


@pytest.mark.parametrize("seconds", [0.5, 8.0, 12.3])
@pytest.mark.parametrize("cameras", [(), ("left", "camera_front_wide_120fov", "x")])
def test_lengths_and_cameras_are_as_asked(seconds, cameras):
    clip = small_clip(seconds, cameras=cameras, num_agents=3, size=(40, 24), start=100.0)
    assert len(clip.ego.t) == round(seconds * 10) + 1
    assert clip.ego.t[0] == 100.0
    assert {c.name for c in clip.cameras} == set(cameras)
    assert set(clip.agents.track.tolist()) == {0, 1, 2}
    for camera in clip.cameras:
        assert camera.read(len(camera.times) - 1).shape == (24, 40, 3)
        assert abs(camera.times[-1] - clip.ego.t[-1]) < 0.1


def test_release_names_keep_their_indices():
    clip = small_clip(1.0, cameras=("odd", *RELEASE_CAMERAS[:3], "other"))
    indices = {c.name: c.index for c in clip.cameras}
    assert indices == {
        **{name: i for i, name in enumerate(RELEASE_CAMERAS[:3])},
        "odd": 3,
        "other": 4,
    }


def test_seeds_differ_and_repeat():
    first, again, other = small_clip(1.0, seed=1), small_clip(1.0, seed=1), small_clip(1.0, seed=2)
    np.testing.assert_array_equal(first.ego.xyz, again.ego.xyz)
    np.testing.assert_array_equal(first.cameras[0].read(3), again.cameras[0].read(3))
    assert np.abs(first.ego.xyz - other.ego.xyz).max() > 1
    assert (first.cameras[0].read(3) != first.cameras[0].read(4)).any()


def test_the_ego_moves_the_way_it_points():
    clip = small_clip(6.0)
    local_step = np.diff(clip.ego.xyz, axis=0)
    ahead = Rotation.from_quat(clip.ego.quat_wxyz[1:], scalar_first=True).apply([1.0, 0, 0])
    cosine = (local_step * ahead).sum(-1) / np.linalg.norm(local_step, axis=-1)
    assert cosine.min() > 0.999


def test_ftheta_lens_is_monotonic():
    lens = small_clip(1.0, ftheta=True).cameras[0].intrinsics
    assert isinstance(lens, FTheta)
    check_ftheta(lens.forward_poly, lens.max_angle)


def test_edits_change_the_file(tmp_path):
    folder = write_small_clip(tmp_path / "a", seconds=2.0)
    edit_npz(folder / "ego.npz", lambda ego: ego.update(xyz10=ego["xyz10"] + 1))
    edit_json(folder / "meta.json", lambda meta: meta.update(ground_z=-0.25))
    clip = read_clip(folder)
    assert clip.clip_id == "a"
    assert clip.ground_z == -0.25
    np.testing.assert_array_equal(clip.ego.xyz, small_clip(2.0).ego.xyz + 1)
