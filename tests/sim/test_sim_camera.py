"""Cameras of the procedural world: lenses, mounts and pixel tables."""

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax.clip import FTheta, Pinhole
from alpamayo_jax.config import ConfigError
from alpamayo_jax.ops.camera import camera_from_ego, project
from alpamayo_jax.sim import camera

LEVEL = camera.CameraSpec("level", 1, 90.0, "pinhole")
SPECS = (camera.FRONT, LEVEL) + camera.RIG


class CameraTest(parameterized.TestCase):
    @parameterized.parameters(*SPECS)
    def test_ground_table_projects_back_to_its_pixel(self, spec):
        view = camera.make_view(spec, 96, 60)
        rows, columns = np.nonzero(view.is_ground & (view.distance < 100.0))
        self.assertGreater(len(rows), 50)
        xy = view.ground[:, rows, columns].T.astype(np.float64)
        points = camera_from_ego(np.pad(xy, ((0, 0), (0, 1))), view.ego_from_camera)
        uv, valid = project(points, view.intrinsics)
        self.assertTrue(valid.all())
        np.testing.assert_allclose(uv, np.stack([columns, rows + view.top], -1), atol=0.05)

    @parameterized.parameters(*SPECS)
    def test_field_of_view_is_as_asked(self, spec):
        view = camera.make_view(spec, 200, 100)
        middle = view.rays[49:51].astype(np.float64).mean(0)
        left, right = (middle[0] * 1.5 - middle[1] * 0.5, middle[-1] * 1.5 - middle[-2] * 0.5)
        cosine = left @ right / np.linalg.norm(left) / np.linalg.norm(right)
        self.assertAlmostEqual(np.degrees(np.arccos(cosine)), spec.hfov, delta=1.0)

    def test_level_camera_has_its_horizon_in_the_middle(self):
        view = camera.make_view(LEVEL, 160, 100)
        self.assertEqual(view.top, 50)
        self.assertTrue(view.is_ground.all())

    def test_pitch_moves_the_horizon(self):
        view = camera.make_view(camera.FRONT, 320, 192)
        expected = (192 - 1) / 2 - view.intrinsics.fy * np.tan(np.radians(6.0))
        self.assertAlmostEqual(view.top, expected, delta=1.0)

    @parameterized.parameters((55.0, 0.0), (-120.0, 0.0), (0.0, 10.0))
    def test_mount_looks_where_it_is_turned(self, yaw, pitch):
        spec = camera.CameraSpec("c", 0, 60.0, "pinhole", (1.0, 0.5, 1.2), yaw, pitch)
        pose = camera.extrinsics(spec)
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
        self.assertAlmostEqual(np.linalg.det(pose[:3, :3]), 1.0)
        axis = pose[:3, 2]
        self.assertAlmostEqual(np.degrees(np.arctan2(axis[1], axis[0])), yaw)
        self.assertAlmostEqual(np.degrees(np.arcsin(axis[2])), pitch)
        np.testing.assert_array_equal(pose[:3, 3], spec.position)

    def test_lens_follows_the_model(self):
        self.assertIsInstance(camera.intrinsics(camera.FRONT, 64, 64), Pinhole)
        lens = camera.intrinsics(camera.RIG[1], 320, 192)
        self.assertIsInstance(lens, FTheta)
        half = np.radians(60.0)
        self.assertAlmostEqual(np.polyval(lens.forward_poly[::-1], half), 160.0, places=6)

    def test_rig_covers_the_release_indices(self):
        self.assertEqual([spec.index for spec in camera.RIG], list(range(7)))

    @parameterized.parameters(
        dict(model="fisheye"), dict(hfov=0.0), dict(hfov=175.0), dict(position=(0.0, 0.0, 0.0))
    )
    def test_bad_specs_are_refused(self, **change):
        arguments = {"hfov": 90.0, "model": "pinhole", **change}
        with pytest.raises(ConfigError, match="camera 'bad'"):
            camera.CameraSpec("bad", 0, **arguments)

    def test_tiny_images_are_refused(self):
        with pytest.raises(ConfigError, match="at least 16"):
            camera.make_view(LEVEL, 8, 64)
