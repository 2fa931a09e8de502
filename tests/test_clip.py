"""`Clip.validate` and the checks it shares with the reader of clip folders."""

import dataclasses

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax import clip as clip_lib
from alpamayo_jax.testing.clips import small_clip
from alpamayo_jax.types import InputError


def _with_ego(clip, **fields):
    return dataclasses.replace(clip, ego=dataclasses.replace(clip.ego, **fields))


def _with_camera(clip, number, **fields):
    cameras = list(clip.cameras)
    cameras[number] = dataclasses.replace(cameras[number], **fields)
    return dataclasses.replace(clip, cameras=tuple(cameras))


def _changed(array, row, value):
    out = array.copy()
    out[row] = value
    return out


class ClipTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.clip = small_clip(
            3.0, cameras=clip_lib.RELEASE_CAMERAS[:2], num_agents=2, with_map=True
        )

    def test_valid_clip_is_returned(self):
        self.assertIs(self.clip.validate(), self.clip)

    @parameterized.parameters(
        ("t", 5, np.nan, r"ego\.t has 1 NaN.*row 5"),
        ("t", 5, 0.3, r"ego\.t goes backwards in row 5"),
        ("t", 5, 0.4, r"ego\.t repeats in row 5"),
        ("t", 30, 3.4, r"ego\.t must be a grid of 0\.1 s, but row 30"),
        ("xyz", 7, np.inf, r"ego\.xyz has 3 NaN or infinite values, the first in row 7 of 31"),
        ("quat_wxyz", 2, 0.9, r"ego\.quat_wxyz row 2 of 31 has norm 1\.8"),
    )
    def test_defective_ego(self, field, row, value, message):
        ego = _changed(getattr(self.clip.ego, field), row, value)
        with self.assertRaisesRegex(InputError, "clip 'small': " + message):
            _with_ego(self.clip, **{field: ego}).validate()

    def test_wrong_shapes_and_empty_tracks(self):
        for fields, message in (
            ({"xyz": self.clip.ego.xyz[:-1]}, r"ego\.xyz must be \[31, 3\], got \[30, 3\]"),
            ({"t": np.zeros(0)}, r"ego\.t is empty"),
            ({"t": np.zeros((31, 1))}, r"ego\.t must be \[31\], got \[31, 1\]"),
        ):
            with self.assertRaisesRegex(InputError, message):
                _with_ego(self.clip, **fields).validate()

    def test_one_pose_is_no_track(self):
        one = {name: value[:1] for name, value in vars(self.clip.ego).items()}
        with self.assertRaisesRegex(InputError, "at least two"):
            _with_ego(self.clip, **one).validate()

    def test_defective_cameras(self):
        camera = self.clip.cameras[1]
        turned = camera.ego_from_camera.copy()
        turned[:3, :3] *= 1.1
        mirrored = camera.ego_from_camera.copy()
        mirrored[:3, 0] *= -1
        for fields, message in (
            ({"index": 0}, r"indices must rise from 0 without repeats, got \[0, 0\]"),
            ({"times": camera.times[::-1]}, "times goes backwards"),
            ({"times": np.zeros(0)}, "times is empty"),
            ({"ego_from_camera": turned}, r"ego_from_camera is not a rotation.*differs .*0\.21"),
            ({"ego_from_camera": mirrored}, "det R = -1"),
            ({"ego_from_camera": np.eye(3)}, r"must be \[4, 4\]"),
        ):
            with self.assertRaisesRegex(InputError, message):
                _with_camera(self.clip, 1, **fields).validate()

    @parameterized.parameters(0.1, np.nan)
    def test_ground_above_the_origin(self, ground_z):
        with self.assertRaisesRegex(InputError, "ground_z"):
            dataclasses.replace(self.clip, ground_z=ground_z).validate()

    def test_defective_agents(self):
        agents = self.clip.agents
        for field, value, message in (
            ("yaw", agents.yaw[:-1], r"agents: yaw must be \[62\], got \[61\]"),
            ("xyz", agents.xyz[:, :2], r"agents: xyz must be \[62, 3\]"),
            ("lwh", _changed(agents.lwh, 3, 0.0), r"lwh row 3 is \[0.0, 0.0, 0.0\]"),
            ("category", agents.category[:1], r"category must be \[62\]"),
        ):
            table = dataclasses.replace(agents, **{field: value})
            with self.assertRaisesRegex(InputError, message):
                dataclasses.replace(self.clip, agents=table).validate()

    @parameterized.parameters(
        ("offsets", np.array([0, 4, 9]), r"offsets must be \[4\], one more than kind"),
        ("offsets", np.array([0, 5, 4, 9]), "offsets must rise"),
        ("offsets", np.array([0, 4, 4, 8]), "to the 9 points"),
        ("offsets", np.array([1, 4, 4, 9]), "offsets must rise from 0"),
        ("points", np.zeros((9, 2)), r"points must be \[9, 3\]"),
        ("ids", np.array(["a"]), r"ids must be \[3\]"),
    )
    def test_defective_map(self, field, value, message):
        lines = dataclasses.replace(self.clip.map_lines, **{field: value})
        with self.assertRaisesRegex(InputError, "map_lines: .*" + message):
            dataclasses.replace(self.clip, map_lines=lines).validate()

    def test_reasoning_out_of_order(self):
        labels = (clip_lib.ReasoningLabel(2.0, "b"), clip_lib.ReasoningLabel(1.0, "a"))
        with self.assertRaisesRegex(InputError, r"reasoning must rise.*\[2.0, 1.0\]"):
            dataclasses.replace(self.clip, reasoning=labels).validate()

    def test_camera_by_index(self):
        self.assertEqual(self.clip.camera(1).name, "camera_front_wide_120fov")
        with self.assertRaisesRegex(InputError, "no camera has index 6; it has 0 .camera_cross_le"):
            self.clip.camera(6)
        with self.assertRaisesRegex(InputError, "it has none"):
            small_clip(1.0, cameras=()).camera(0)


def test_the_camera_at_the_ego_origin_looks_ahead():
    axes = clip_lib.EGO_FROM_FORWARD_CAMERA[:3, :3]
    np.testing.assert_array_equal(axes @ [0, 0, 1], [1, 0, 0])  # forward is ego x
    np.testing.assert_array_equal(axes @ [1, 0, 0], [0, -1, 0])  # right is ego -y
    np.testing.assert_array_equal(axes @ [0, 1, 0], [0, 0, -1])  # down is ego -z
    clip_lib.check_transform("", "", clip_lib.EGO_FROM_FORWARD_CAMERA)
    with pytest.raises(ValueError):
        clip_lib.EGO_FROM_FORWARD_CAMERA[0, 0] = 1.0
