"""Background rendering: markings where the road has them, horizon, textures."""

import dataclasses

import numpy as np
from absl.testing import parameterized

from alpamayo_jax.ops.camera import camera_from_ego, project
from alpamayo_jax.sim import camera, ground
from alpamayo_jax.sim.road import build_road, curve, road_field

WIDE = camera.RIG[1]
PIECES = [(18.0, 0.0)] + curve(0.03, 0.8, 6.0) + [(150.0, 0.0)]
ROAD = build_road(PIECES, origin=(12.0, 5.0), heading=2.1, dashed=False)
FIELD = road_field(ROAD)
LOOK = dataclasses.replace(ground.make_look(0), haze=1e4)


def picture(spec, size=(320, 192), **extra):
    view = camera.make_view(spec, *size)
    (x, y), heading, _ = ROAD.pose(2.0)
    pose = (float(x), float(y), float(heading))
    return view, pose, ground.background(view, LOOK, ROAD, FIELD, pose, **extra)


def pixels(view, pose, xy):
    """Image coordinates of world points [N, 2] on the road, and which are inside the image."""
    x, y, heading = pose
    delta = xy - np.array([x, y])
    cos, sin = np.cos(heading), np.sin(heading)
    along = cos * delta[:, 0] + sin * delta[:, 1]
    ego = np.stack([along, cos * delta[:, 1] - sin * delta[:, 0], np.zeros_like(along)], -1)
    uv, valid = project(camera_from_ego(ego, view.ego_from_camera), view.intrinsics)
    size = np.array([view.width, view.height])
    return np.rint(uv).astype(int), valid & (uv > 0).all(-1) & (uv < size - 1.5).all(-1)


class GroundTest(parameterized.TestCase):
    @parameterized.parameters(camera.FRONT, WIDE, camera.RIG[0], camera.RIG[6])
    def test_edge_line_is_bright_and_the_lane_is_not(self, spec):
        view, pose, image = picture(spec, (480, 288))
        s = np.arange(4.0, 24.0, 0.5)
        offset = {0: ROAD.edges[2]}.get(spec.index, ROAD.edges[0])
        line, seen = pixels(view, pose, ROAD.pose(s, offset)[0])
        lane, lane_seen = pixels(view, pose, ROAD.pose(s, offset + np.sign(-offset) * 1.0)[0])
        seen &= lane_seen
        self.assertGreater(seen.sum(), 6)
        on = image[:, line[seen, 1], line[seen, 0]].mean(0)
        off = image[:, lane[seen, 1], lane[seen, 0]].mean(0)
        self.assertGreater((on - off).min(), 25.0)

    def test_middle_line_is_yellow(self):
        view, pose, image = picture(camera.FRONT)
        line, seen = pixels(view, pose, ROAD.pose(np.arange(8.0, 16.0, 0.5), ROAD.edges[1])[0])
        red, green, blue = image[:, line[seen, 1], line[seen, 0]]
        self.assertGreater(seen.sum(), 8)
        self.assertGreater((red - blue).min(), 40.0)

    def test_stop_line_appears_where_it_is(self):
        view, pose, with_line = picture(camera.FRONT, stop_line=14.0)
        _, _, without = picture(camera.FRONT)
        changed = np.abs(with_line - without).max(0) > 30.0
        rows, columns = np.nonzero(changed)
        line, seen = pixels(view, pose, ROAD.pose(np.full(9, 14.2), np.linspace(-1.6, 1.6, 9))[0])
        self.assertTrue(seen.all())
        self.assertTrue(changed[line[:, 1], line[:, 0]].all())
        self.assertBetween(rows.mean(), line[:, 1].mean() - 2, line[:, 1].mean() + 2)
        self.assertLess(np.ptp(rows), 10)

    def test_crossing_clears_the_markings(self):
        (x, y), heading, _ = ROAD.pose(14.0)
        view, pose, image = picture(camera.FRONT, crossing=(float(x), float(y), float(heading)))
        line, seen = pixels(view, pose, ROAD.pose(np.arange(10.5, 17.5, 0.5), ROAD.edges[1])[0])
        red, _, blue = image[:, line[seen, 1], line[seen, 0]]
        self.assertLess((red - blue).max(), 20.0)

    def test_sky_above_the_horizon_and_ground_below(self):
        level = camera.CameraSpec("level", 1, 80.0, "pinhole")
        view, _, image = picture(level, (160, 100))
        sky, grass = image[:, 5].mean(-1), image[:, 60, :8].mean(-1)
        self.assertGreater(sky[2], sky[0])
        self.assertGreater(grass[1], grass[2])
        self.assertTrue(np.isfinite(image).all())
        self.assertTrue((image >= 0).all() and (image < 300).all())

    def test_coverage_is_the_share_of_the_footprint(self):
        value = np.float32([[0.0, 0.5, 1.0, 3.0]])
        footprint = np.float32([[0.2, 1.0, 1.0, 8.0]])
        cover = ground._cover(value, footprint, 0.0, 1.0)
        np.testing.assert_allclose(cover, [[0.5, 1.0, 0.5, 0.125]], atol=1e-6)

    def test_texture_moves_with_the_ego(self):
        view = camera.make_view(camera.FRONT, 160, 96)
        frames = []
        for s in (2.0, 3.0):
            (x, y), heading, _ = ROAD.pose(s)
            pose = (float(x), float(y), float(heading))
            frames.append(ground.background(view, LOOK, ROAD, FIELD, pose))
        self.assertGreater(np.abs(frames[0] - frames[1])[:, 60:].mean(), 0.5)

    def test_look_depends_on_its_seed_only(self):
        first, second, other = ground.make_look(1), ground.make_look(1), ground.make_look(2)
        np.testing.assert_array_equal(first.texture, second.texture)
        np.testing.assert_array_equal(first.skyline, second.skyline)
        self.assertGreater(np.abs(first.grass - other.grass).max(), 0.0)
