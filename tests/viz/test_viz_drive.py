"""The picture of one decision, with and without a camera, and on a recorded drive."""

import csv
import io
import json

import numpy as np
from absl.testing import absltest, parameterized
from PIL import Image
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from alpamayo_jax import clip
from alpamayo_jax.types import InputError
from alpamayo_jax.viz import drive, overlay

_X = 8.0 * np.arange(1, 65) / 10
_FUTURE = np.stack([_X, 0.004 * _X**2, 0 * _X], -1)
_HISTORY = np.stack([8.0 * np.arange(-15, 1) / 10, np.zeros(16), np.zeros(16)], -1)
_SAMPLES = np.stack([_FUTURE * [s, 1, 1] for s in (0.9, 1.0, 1.1)])


def _camera(index=1, width=480, height=270, yaw=0.0, intrinsics=None):
    ego_from_camera = np.eye(4)
    c, s = np.cos(yaw), np.sin(yaw)
    ego_from_camera[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ [
        [0, 0, 1],
        [-1, 0, 0],
        [0, -1, 0],
    ]
    ego_from_camera[:3, 3] = [1.5, 0.0, 1.4]
    if intrinsics is None:
        intrinsics = clip.Pinhole(250.0, 250.0, (width - 1) / 2, (height - 1) / 2)
    frame = np.full((height, width, 3), 90, np.uint8)
    return clip.Camera(
        "front", index, width, height, intrinsics, ego_from_camera, np.zeros(1), lambda i: frame
    )


def _pixels(png):
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"), int)


def _picture(camera=None, samples=_SAMPLES, future=_FUTURE, **options):
    frame = None if camera is None else camera.read(0)
    return drive.drive_picture(None, frame, camera, samples, _HISTORY, future, **options)


class DriveTest(parameterized.TestCase):
    @parameterized.product(
        camera=(None, _camera(), _camera(width=300, height=400)), count=(0, 1, 3, 12)
    )
    def test_every_layout_is_a_picture(self, camera, count):
        samples = np.tile(_FUTURE, (count, 1, 1))
        image = _pixels(_picture(camera, samples, future=None, reasoning="Go.", title="A drive"))
        self.assertEqual(image.shape[1], 1600)
        self.assertGreater(image.shape[0], 600)

    def test_camera_shows_the_overlay_pixel_for_pixel(self):
        camera = _camera()
        image = _pixels(_picture(camera))
        want = overlay.draw_trajectories(camera.read(0), camera, _SAMPLES, _FUTURE, width=1040)
        np.testing.assert_array_equal(image[24 : 24 + len(want), 24 : 24 + 1040], want)

    def test_text_makes_the_picture_higher_but_not_endless(self):
        camera = _camera()
        short, long, endless = (
            len(_pixels(_picture(camera, reasoning="because " * n))) for n in (1, 300, 9000)
        )
        self.assertLess(short, long)
        self.assertLess(endless, 2000)

    def test_reasoning_changes_pixels_below_the_image_only(self):
        camera = _camera()
        one, other = (_pixels(_picture(camera, reasoning=t)) for t in ("Keep lane.", "Yield now."))
        self.assertEqual(one.shape, other.shape)
        rows, columns = np.nonzero((one != other).any(-1))
        self.assertGreater(rows.min(), 24 + 585)
        self.assertLess(columns.max(), 24 + 1040)

    def test_equal_texts_are_shown_once(self):
        camera = _camera(width=960, height=200)
        same = _picture(camera, reasoning=["Keep lane."] * 3)
        self.assertEqual(same, _picture(camera, reasoning="Keep lane."))
        self.assertNotEqual(same, _picture(camera, reasoning=["Keep lane.", "Stop.", "Keep lane."]))
        with self.assertRaisesRegex(InputError, "2 reasoning texts for 3 samples"):
            _picture(camera, reasoning=["a", "b"])

    def test_reasoning_lines(self):
        lines = drive._reasoning_lines(["Keep lane.", "Stop.", "Keep lane."], 3, 400, "")
        self.assertEqual(
            lines,
            [
                ("Reasoning of samples 1, 3", True),
                ("Keep lane.", False),
                ("Reasoning of sample 2", True),
                ("Stop.", False),
            ],
        )
        self.assertEqual(drive._reasoning_lines("", 3, 400, ""), [])
        self.assertEqual(drive._reasoning_lines(["", ""], 2, 400, "")[1], ("(empty)", False))
        lines = drive._reasoning_lines("word " * 5000, 1, 400, "")
        self.assertLen(lines, 30)
        self.assertRegex(lines[-1][0], r"and \d+ more lines")

    def test_text_of_an_untrained_model_is_drawn(self):
        text = "\x00\x1b[31m $\\frac{1}$ 中文 \ud800 " + "x" * 5000
        self.assertGreater(len(_picture(_camera(), reasoning=text, title="$_{" * 200)), 1000)

    def test_standing_samples_are_noted(self):
        camera = _camera()
        image, note = drive._camera_image(
            camera.read(0), camera, np.zeros((2, 64, 3)), None, 0.0, 480
        )
        np.testing.assert_array_equal(image, camera.read(0))
        self.assertIn("No sample reaches the road", note)
        note = drive._camera_image(camera.read(0), camera, _SAMPLES, None, 0.0, 480)[1]
        self.assertEqual(note, "")

    def test_deterministic_and_written(self):
        camera, path = _camera(), self.create_tempdir().full_path + "/a/drive.png"
        png = drive.drive_picture(path, camera.read(0), camera, _SAMPLES, _HISTORY, title="A")
        with open(path, "rb") as file:
            self.assertEqual(file.read(), png)
        self.assertEqual(png, _picture(camera, future=None, title="A"))

    def test_bad_input_leaves_the_old_file(self):
        camera, path = _camera(), self.create_tempdir().create_file("drive.png", "old").full_path
        bad = _SAMPLES.copy()
        bad[1, 2, 0] = np.nan
        with self.assertRaisesRegex(InputError, r"samples_xyz has NaN.*first at \[1, 2, 0\]"):
            drive.drive_picture(path, camera.read(0), camera, bad, _HISTORY)
        with self.assertRaisesRegex(InputError, "given together"):
            drive.drive_picture(path, camera.read(0), None, _SAMPLES, _HISTORY)
        with open(path) as file:
            self.assertEqual(file.read(), "old")

    def test_front_camera(self):
        left, ahead, back = _camera(0, yaw=0.9), _camera(6), _camera(4, yaw=np.pi)
        self.assertIs(drive.front_camera([left, ahead, back]), ahead)
        wide = _camera(1, yaw=0.05)
        self.assertIs(drive.front_camera([left, wide, ahead]), wide)
        self.assertIsNone(drive.front_camera([]))


def test_road_stays_on_the_same_pixels_of_a_recorded_drive(real_clips_dir):
    """A patch of road seen from two places has the same gray values if projection is right.

    It has them only with the right lens, the right poses, and the road at the right height.
    """
    folder = real_clips_dir / "kitti_odometry" / "seq03"
    if not folder.is_dir():
        pytest.skip(f"no clip at {folder}")
    with np.load(folder / "ego.npz", allow_pickle=False) as ego:
        xyz, rotation = ego["xyz"], Rotation.from_quat(ego["quat_wxyz"], scalar_first=True)
    with open(folder / "frames.csv", newline="") as file:
        files = [row["file"] for row in csv.DictReader(file)]
    calibration = json.loads((folder / "meta.json").read_text())["cameras"]["camera_0"]
    width, height = calibration["stored_size"]
    intrinsics = clip.Pinhole(**{name: calibration[name] for name in ("fx", "fy", "cx", "cy")})
    camera = _camera(width=width, height=height, intrinsics=intrinsics)
    camera.ego_from_camera[:3, 3] = 0.0  # the ego origin is the camera
    patch = np.stack(np.meshgrid(np.arange(8, 16, 0.1), np.arange(-2.5, 2.5, 0.1)), -1)
    patch = np.pad(patch.reshape(-1, 2), ((0, 0), (0, 1)))
    agreement = {-1.0: [], -1.65: [], -2.5: []}
    for i in range(60, 760, 40):
        j = i + 4
        if np.linalg.norm(xyz[j] - xyz[i]) < 1.0:
            continue
        for ground_z, values in agreement.items():
            here = patch + [0.0, 0.0, ground_z]
            there = rotation[j].inv().apply(rotation[i].apply(here) + xyz[i] - xyz[j])
            gray = []
            for frame, points in ((i, here), (j, there)):
                with Image.open(folder / files[frame]) as image:
                    pixels = np.asarray(image.convert("L"), float)
                uv, seen = overlay.project_to_image(camera, points)
                gray.append((map_coordinates(pixels, uv[:, ::-1].T, order=1), seen))
            both = gray[0][1] & gray[1][1]
            values.append(np.corrcoef(gray[0][0][both], gray[1][0][both])[0, 1])
    mean = {ground_z: np.mean(values) for ground_z, values in agreement.items()}
    assert mean[-1.65] > 0.8 and mean[-1.65] > mean[-1.0] + 0.1 and mean[-1.65] > mean[-2.5] + 0.1


if __name__ == "__main__":
    absltest.main()
