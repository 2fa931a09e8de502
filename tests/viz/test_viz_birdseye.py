"""The view from above: scale, orientation, limits, road users and map in the ego frame."""

import io

import numpy as np
from absl.testing import absltest, parameterized
from PIL import Image

from alpamayo_jax import clip
from alpamayo_jax.types import InputError
from alpamayo_jax.viz import birdseye, scene, style

_X = 8.0 * np.arange(1, 65) / 10
_FUTURE = np.stack([_X, 0.004 * _X**2, 0 * _X], -1)
_HISTORY = np.stack([8.0 * np.arange(-15, 1) / 10, np.zeros(16), np.zeros(16)], -1)


def _axes(width=500, height=600):
    return style.Page(width, height).axes(60, 20, width - 80, height - 80)


def _labels(handles):
    return [handle.get_label() for handle in handles]


class BirdseyeTest(parameterized.TestCase):
    @parameterized.parameters((500, 600), (900, 400), (300, 800))
    def test_scale_is_equal_forward_is_up_and_left_is_left(self, width, height):
        axes = _axes(width, height)
        birdseye.draw_birdseye(axes, _FUTURE[None], _HISTORY, _FUTURE)
        axes.figure.canvas.draw()
        origin, ahead, left = axes.transData.transform([(0, 0), (0, 10), (10, 0)])
        np.testing.assert_allclose(ahead - origin, [0, np.linalg.norm(ahead - origin)], atol=1e-6)
        np.testing.assert_allclose(left - origin, [-np.linalg.norm(ahead - origin), 0], atol=1e-6)

    @parameterized.parameters(0.0, 1.0, -1.0)
    def test_everything_near_is_inside_the_limits(self, bend):
        axes, future = _axes(), _FUTURE * [1, bend, 1]
        birdseye.draw_birdseye(axes, 1.2 * future[None], _HISTORY, future)
        for points in (1.2 * future, _HISTORY):
            right, left = sorted(axes.get_xlim())
            self.assertTrue((points[:, 1] > right).all() and (points[:, 1] < left).all())
            low, high = axes.get_ylim()
            self.assertTrue((points[:, 0] > low).all() and (points[:, 0] < high).all())

    def test_a_wild_sample_does_not_push_the_rest_out_of_sight(self):
        axes = _axes()
        birdseye.draw_birdseye(axes, np.stack([_FUTURE, 1e4 * _FUTURE]), _HISTORY)
        self.assertLess(axes.get_ylim()[1], 700)

    def test_standing_still_has_sensible_limits(self):
        axes = _axes()
        birdseye.draw_birdseye(axes, np.zeros((2, 64, 3)), np.zeros((16, 3)), np.zeros((64, 3)))
        low, high = axes.get_ylim()
        self.assertLess(low, -5)
        self.assertGreater(high, 20)

    def test_legend_names_what_is_there(self):
        boxes = np.array([[12, 3, 0.1, 4.5, 1.8], [6, -4, 0, 0.7, 0.7], [500, 0, 0, 4, 2]])
        around = scene.Scene(boxes, ("REGULAR_VEHICLE", "PEDESTRIAN", "CONSTRUCTION_CONE"))
        handles = birdseye.draw_birdseye(
            _axes(), np.stack([_FUTURE] * 2), _HISTORY, _FUTURE, around
        )
        want = ["history", "recorded future", "sample 1", "sample 2", "ego at t0"]
        self.assertEqual(_labels(handles), want + ["people, two-wheelers", "vehicles"])
        handles = birdseye.draw_birdseye(_axes(), np.stack([_FUTURE] * 16), _HISTORY)
        self.assertEqual(_labels(handles), ["history", "16 samples", "ego at t0"])

    def test_pixels_where_things_are(self):
        around = scene.Scene(np.array([[20.0, 6.0, 0.0, 8.0, 3.0]]), ("TRUCK",))
        page = style.Page(600, 600)
        axes = page.axes(60, 20, 520, 520)
        birdseye.draw_birdseye(axes, _FUTURE[None], _HISTORY, None, around)
        image = np.asarray(Image.open(io.BytesIO(page.png())).convert("RGB"), int)

        def pixel(x, y):
            u, v = axes.transData.transform((y, x))
            return image[round(600 - v), round(u)]

        self.assertGreater(pixel(18.0, 6.5)[2], pixel(18.0, 6.5)[0] + 20)  # vehicle blue
        self.assertLess(pixel(-0.5, 0.7).max(), 150)  # the ego's body
        on_sample = pixel(*_FUTURE[44, :2])
        self.assertGreater(on_sample[0], on_sample[2] + 100)  # orange
        self.assertGreater(pixel(20.0, -6.0).min(), 200)  # nothing on the other side

    @parameterized.parameters(
        "drivable_area", "lane_left:DASHED_WHITE", "lane_right:NONE", "stop_line", "lane_centre",
        "ped_crossing_edge1", "road_edge", "LANE_SURFACE_STREET:polygon",
        "ROAD_LINE_SOLID_SINGLE_YELLOW:polyline", "LANE_SURFACE_STREET:polyline", "",
    )  # fmt: skip
    def test_map_kinds_of_every_source_draw(self, kind):
        line = scene.MapLine(np.array([[0.0, 3.0], [20.0, 3.0], [20.0, 6.0]]), kind)
        handles = birdseye.draw_birdseye(
            _axes(), _FUTURE[None], _HISTORY, None, scene.Scene(lines=(line,))
        )
        self.assertIn("map", _labels(handles))

    def test_picture_is_a_png_and_deterministic(self):
        path = self.create_tempdir().full_path + "/bev/view.png"
        first = birdseye.birdseye_picture(path, _FUTURE[None], _HISTORY, _FUTURE, title="$a^b_c")
        second = birdseye.birdseye_picture(None, _FUTURE[None], _HISTORY, _FUTURE, title="$a^b_c")
        self.assertEqual(first, second)
        with Image.open(path) as image:
            self.assertEqual((image.format, image.size), ("PNG", (900, 900)))

    def test_bad_input(self):
        bad = _HISTORY.copy()
        bad[3] = np.inf
        with self.assertRaisesRegex(InputError, "history_xyz has NaN or infinite"):
            birdseye.draw_birdseye(_axes(), _FUTURE[None], bad)
        with self.assertRaisesRegex(InputError, "1 boxes, but 0 categories"):
            birdseye.draw_birdseye(
                _axes(), _FUTURE[None], _HISTORY, None, scene.Scene(np.zeros((1, 5)))
            )


def _clip(heading):
    """Drives straight at 5 m/s along `heading`; one car 10 m ahead and 2 m left at every time."""
    t = np.arange(40) * 0.1
    ahead = np.array([np.cos(heading), np.sin(heading), 0.0])
    left = np.array([-np.sin(heading), np.cos(heading), 0.0])
    xyz = np.array([100.0, -50.0, 3.0]) + 5.0 * t[:, None] * ahead
    quat = np.array([np.cos(heading / 2), 0, 0, np.sin(heading / 2)])
    near = np.stack([xyz[0] + 4 * left, xyz[0] + 30 * ahead + 4 * left])
    return clip.Clip(
        clip_id="made",
        ego=clip.EgoTrack(t, xyz, np.tile(quat, (40, 1))),
        agents=clip.AgentTable(
            t=t,
            track=np.zeros(40, np.int32),
            xyz=xyz + 10 * ahead + 2 * left,
            yaw=np.full(40, heading + 0.3),
            lwh=np.tile([4.5, 1.8, 1.5], (40, 1)),
            category=np.full(40, "VEHICLE"),
        ),
        map_lines=clip.MapLines(
            points=np.concatenate([near, near + 5000.0]),
            offsets=np.array([0, 2, 4]),
            kind=np.array(["road_edge", "far away"]),
        ),
    ).validate()


class SceneTest(parameterized.TestCase):
    @parameterized.product(heading=(0.0, 2.5, -1.2), t0=(0.0, 2.0, 2.03, 3.9))
    def test_boxes_and_lines_are_in_the_ego_frame(self, heading, t0):
        made = scene.scene_at(_clip(heading), t0)
        nearest = round(t0, 1)
        np.testing.assert_allclose(made.boxes[0, :2], [10 + 5 * (nearest - t0), 2.0], atol=1e-9)
        np.testing.assert_allclose(np.sin(made.boxes[0, 2] - 0.3), 0.0, atol=1e-9)
        self.assertEqual(made.categories, ("VEHICLE",))
        self.assertEqual([line.kind for line in made.lines], ["road_edge"])
        want = [[-5 * t0, 4.0], [30 - 5 * t0, 4.0]]
        np.testing.assert_allclose(made.lines[0].xy, want, atol=1e-9)

    def test_old_annotations_are_left_out(self):
        made = _clip(0.0)
        agents = clip.AgentTable(
            **{
                field: getattr(made.agents, field)[:5]
                for field in ("t", "track", "xyz", "yaw", "lwh", "category")
            }
        )
        made = clip.Clip("made", made.ego, agents=agents)
        self.assertLen(scene.scene_at(made, 0.45).boxes, 1)
        self.assertEmpty(scene.scene_at(made, 2.0).boxes)

    def test_a_long_line_across_the_ego_is_kept(self):
        made = _clip(0.0)
        ends = made.ego.xyz[0] + np.array([[-900.0, 3.0, 0.0], [900.0, 3.0, 0.0]])
        lines = clip.MapLines(ends, np.array([0, 2]), np.array(["road_edge"]))
        self.assertLen(scene.scene_at(clip.Clip("made", made.ego, map_lines=lines), 1.0).lines, 1)

    def test_pose_only_clip_is_empty_and_t0_is_checked(self):
        made = clip.Clip("made", _clip(0.0).ego)
        self.assertEmpty(scene.scene_at(made, 1.0).lines)
        with self.assertRaisesRegex(InputError, "'made': t0=9.000 s is outside the ego track"):
            scene.scene_at(made, 9.0)


if __name__ == "__main__":
    absltest.main()
