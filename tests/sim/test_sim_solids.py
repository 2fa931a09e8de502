"""Boxes and ellipsoids: place, depth, occlusion, and that no pixel of theirs is left out."""

from unittest import mock

import numpy as np
from absl.testing import parameterized

from alpamayo_jax.ops.camera import camera_from_ego, project
from alpamayo_jax.sim import camera, ground, solids

LOOK = ground.make_look(0)
LEVEL = camera.CameraSpec("level", 1, 90.0, "pinhole")
LENSES = (LEVEL, camera.RIG[1], camera.RIG[0])
RED, BLUE = (250.0, 0.0, 0.0), (0.0, 0.0, 250.0)


def drawn(spec, rows, size=(200, 120)):
    view = camera.make_view(spec, *size)
    image = np.zeros((3, size[1], size[0]), np.float32)
    depth = solids.draw(view, LOOK, solids.make_solids(rows), 0.0, image)
    return view, image, depth


def box(x, y, z, yaw=0.0, size=(2.0, 2.0, 2.0), colour=RED, ball=False):
    return solids.part((x, y, yaw), (0.0, 0.0, z), size, colour, True, ball)


class SolidsTest(parameterized.TestCase):
    @parameterized.product(spec=LENSES, ball=(False, True))
    def test_appears_at_its_projection(self, spec, ball):
        heading = np.radians(spec.yaw + 8.0)
        x, y = 14.0 * np.cos(heading), 14.0 * np.sin(heading)
        view, image, depth = drawn(spec, [box(x, y, 1.4, heading, ball=ball)])
        hit = np.isfinite(depth)
        rows, columns = np.nonzero(hit)
        centre = camera_from_ego(np.array([[x, y, 1.4]]), view.ego_from_camera)
        uv, _ = project(centre, view.intrinsics)
        np.testing.assert_allclose([columns.mean(), rows.mean()], uv[0], atol=1.5)
        self.assertTrue((image[0][hit] > image[2][hit]).all())
        self.assertEqual(image[:, ~hit].max(), 0.0)

    def test_depth_is_the_distance_to_the_face(self):
        view, _, depth = drawn(LEVEL, [box(11.7, 0.0, 1.5)], (201, 121))
        self.assertAlmostEqual(depth[60, 100], 11.7 - 1.0 - 1.7, places=3)

    def test_depth_of_a_ball(self):
        view, _, depth = drawn(LEVEL, [box(11.7, 0.0, 1.5, size=(4, 4, 4), ball=True)], (201, 121))
        self.assertAlmostEqual(depth[60, 100], 10.0 - 2.0, places=3)

    @parameterized.parameters(False, True)
    def test_nearer_hides_further_in_any_order(self, swap):
        rows = [box(10.0, 0.0, 1.5), box(20.0, 0.0, 1.5, size=(2, 8, 8), colour=BLUE)]
        view, image, _ = drawn(LEVEL, rows[::-1] if swap else rows, (201, 121))
        self.assertGreater(image[0, 60, 100], image[2, 60, 100])
        edge = image[:, 60, 82]
        self.assertGreater(edge[2], edge[0])

    def test_behind_the_camera_is_not_drawn(self):
        _, image, depth = drawn(LEVEL, [box(-8.0, 0.0, 1.5), box(900.0, 0.0, 1.5)])
        self.assertFalse(np.isfinite(depth).any())
        self.assertEqual(image.max(), 0.0)

    def test_nothing_to_draw(self):
        _, image, depth = drawn(LEVEL, [])
        self.assertFalse(np.isfinite(depth).any())

    @parameterized.parameters(*LENSES, camera.FRONT, camera.RIG[6])
    def test_no_pixel_is_left_out(self, spec):
        rng = np.random.default_rng(3)
        rows = []
        for _ in range(60):
            x, y = rng.uniform(-10, 40), rng.uniform(-25, 25)
            size = rng.uniform(0.2, 5.0, 3)
            # The lens is outside every solid.
            if np.hypot(x - 1.8, y) > np.hypot(size[0], size[1]) / 2 + 1.2:
                z, yaw, ball = rng.uniform(0, 3), rng.uniform(-3, 3), rng.random() < 0.3
                rows.append(box(x, y, z, yaw, size, ball=ball))
        view, image, depth = drawn(spec, rows)

        def everything(view, objects):
            n = np.zeros(len(objects.yaw), np.int64)
            return n, n, n + view.width, n + view.height

        with mock.patch.object(solids, "_rectangles", everything):
            _, full, full_depth = drawn(spec, rows)
        seen = view.seen
        np.testing.assert_array_equal(depth[seen], full_depth[seen])
        np.testing.assert_array_equal(image[:, seen], full[:, seen])
        self.assertGreater(np.isfinite(depth).mean(), 0.05)

    def test_faces_are_shaded_by_the_sun(self):
        row = solids.part((9.0, 3.0, 0.6), (0, 0, 0.6), (2, 2, 1.0), (200.0, 200.0, 200.0))
        view = camera.make_view(LEVEL, 200, 120)
        image = np.zeros((3, 120, 200), np.float32)
        depth = solids.draw(view, LOOK, solids.make_solids([row]), 0.0, image)
        shades = np.unique(np.round(image[0][np.isfinite(depth)] / 12.0))
        self.assertGreaterEqual(len(shades), 2)

    def test_to_ego_inverts_the_pose(self):
        world = solids.make_solids([box(5.0, 7.0, 1.0, 0.5)])
        moved = solids.to_ego(world, (5.0, 6.0, np.pi / 2))
        np.testing.assert_allclose(moved.centre, [[1.0, 0.0, 1.0]], atol=1e-12)
        np.testing.assert_allclose(moved.yaw, [0.5 - np.pi / 2])

    def test_join_keeps_order(self):
        first, second = (solids.make_solids([box(x, 0.0, 1.0)]) for x in (1.0, 2.0))
        joined = solids.join([first, solids.make_solids([]), second])
        np.testing.assert_array_equal(joined.centre[:, 0], [1.0, 2.0])
