"""Trajectories land on the pixels where the geometry says the road is."""

import numpy as np
from absl.testing import absltest, parameterized

from alpamayo_jax import clip
from alpamayo_jax.types import InputError
from alpamayo_jax.viz import overlay, style

_FORWARD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # ego from a camera that looks ahead
_LENSES = {
    "pinhole": clip.Pinhole(300.0, 300.0, 319.5, 179.5),
    "ftheta": clip.FTheta(319.5, 179.5, (0.0, 300.0, 0.0, -6.0, 0.0), 1.3),
}
_GRAY = np.full((360, 640, 3), 128, np.uint8)


def _camera(lens="pinhole", position=(1.5, 0.0, 1.4)):
    ego_from_camera = np.eye(4)
    ego_from_camera[:3, :3], ego_from_camera[:3, 3] = _FORWARD, position
    return clip.Camera(
        name="front",
        index=1,
        width=640,
        height=360,
        intrinsics=_LENSES[lens],
        ego_from_camera=ego_from_camera,
        times=np.array([0.0]),
        read=lambda frame: _GRAY,
    )


def _path(speed=6.0, curvature=0.0):
    x = speed * np.arange(1, 65) / 10
    return np.stack([x, curvature * x**2 / 2, 0 * x], -1)


def _changed(image, base=_GRAY):
    return (image != base).any(-1)


class OverlayTest(parameterized.TestCase):
    def test_project_to_image_known_pixel(self):
        # 10 m ahead of the camera, 2 m to the left, on a road 1.4 m below it.
        uv, seen = overlay.project_to_image(_camera(), np.array([[11.5, 2.0, 0.0]]))
        np.testing.assert_allclose(uv, [[319.5 - 60.0, 179.5 + 42.0]])
        self.assertTrue(seen.all())

    def test_ground_z_lowers_the_road(self):
        point = np.array([[10.0, 0.0, 0.0]])
        camera = _camera(position=(0.0, 0.0, 0.0))  # the ego origin is the camera
        uv, _ = overlay.project_to_image(camera, point, ground_z=-1.65)
        np.testing.assert_allclose(uv, [[319.5, 179.5 + 300 * 0.165]])

    def test_behind_and_outside_are_not_seen(self):
        points = np.array([[-5.0, 0.0, 0.0], [2.0, 30.0, 0.0], [20.0, 0.0, 0.0]])
        np.testing.assert_array_equal(
            overlay.project_to_image(_camera(), points)[1], [False, False, True]
        )

    @parameterized.product(lens=("pinhole", "ftheta"), curvature=(0.0, 0.01, -0.01))
    def test_pixels_of_the_path_take_its_color(self, lens, curvature):
        camera, path = _camera(lens), _path(curvature=curvature)
        ribbon = overlay.Ribbon(path, (1.0, 0.0, 0.0), alpha=1.0, width=0.3)
        image = overlay.draw_ribbons(_GRAY, camera, [ribbon])
        uv, seen = overlay.project_to_image(camera, path)
        self.assertGreater(seen.sum(), 20)
        for u, v in np.rint(uv[seen]).astype(int)[:-1]:
            np.testing.assert_array_less([200, -1, -1], image[v, u].astype(int), err_msg=f"{u},{v}")
            np.testing.assert_array_less(image[v, u].astype(int), [256, 60, 60])
        rows = np.flatnonzero(_changed(image).any(-1))
        self.assertGreater(rows.min(), 179)  # nothing above the horizon of a flat road
        self.assertEqual(rows.max(), 359)  # down to the lower edge of the image

    def test_width_shrinks_with_distance(self):
        image = overlay.draw_ribbons(
            _GRAY, _camera(), [overlay.Ribbon(_path(), (1.0, 0, 0), alpha=1.0, width=1.0)]
        )
        widths = _changed(image).sum(-1)
        for depth in (4.0, 8.0, 16.0):
            row = round(179.5 + 300 * 1.4 / depth)
            self.assertAlmostEqual(widths[row], 300 / depth, delta=2.0)

    def test_far_ribbon_keeps_a_least_width(self):
        ribbon = overlay.Ribbon(_path(40.0), (1.0, 0, 0), alpha=1.0, width=0.01, min_pixels=3.0)
        widths = _changed(overlay.draw_ribbons(_GRAY, _camera(), [ribbon])).sum(-1)
        self.assertGreaterEqual(widths[185:355].min(), 3)

    def test_alpha_blends_once_where_a_ribbon_crosses_itself(self):
        turn = np.linspace(0, 4 * np.pi, 200)
        circle = np.stack([10 + 3 * np.sin(turn), 3 - 3 * np.cos(turn), 0 * turn], -1)
        ribbon = overlay.Ribbon(circle, (1.0, 1.0, 1.0), alpha=0.5, width=0.4)
        image = overlay.draw_ribbons(np.zeros_like(_GRAY), _camera(), [ribbon])
        self.assertEqual(image.max(), 128)

    def test_samples_lie_over_the_recorded_future(self):
        camera = _camera()
        both = overlay.draw_trajectories(_GRAY, camera, _path()[None], _path())
        only = overlay.draw_trajectories(_GRAY, camera, np.zeros((0, 64, 3)), _path())
        row = round(179.5 + 300 * 1.4 / 6)
        centre, side = both[row, 319], both[row, 319 + 18]  # 0.36 m to the right: the band alone
        np.testing.assert_array_equal(side, only[row, 319 + 18])
        self.assertGreater(int(side[1]), int(side[0]) + 20)  # green
        self.assertGreater(int(centre[0]), int(centre[1]) + 60)  # the first sample is orange

    def test_six_samples_are_told_apart(self):
        paths = np.stack([_path(curvature=c) for c in np.linspace(-0.02, 0.02, 6)])
        image = overlay.draw_trajectories(_GRAY, _camera(), paths)
        far = np.rint(overlay.project_to_image(_camera(), paths[:, 40])[0]).astype(int)
        colors = np.array([image[v, u] for u, v in far], int)
        distance = np.abs(colors[:, None] - colors[None]).sum(-1) + 1000 * np.eye(6, dtype=int)
        self.assertGreater(distance.min(), 60)

    def test_enlarged_output_has_the_same_geometry(self):
        camera = _camera()
        image = overlay.draw_trajectories(_GRAY, camera, _path()[None], width=1280)
        self.assertEqual(image.shape, (720, 1280, 3))
        u, v = 2 * (overlay.project_to_image(camera, _path()[20:21])[0][0] + 0.5) - 0.5
        self.assertTrue((image[round(v), round(u)] != 128).any())

    @parameterized.named_parameters(
        ("standing", np.zeros((64, 3))),
        ("backwards", _path(-3.0)),
        ("far to the side", _path() @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]])),
        ("absurdly far", _path(1e5)),
    )
    def test_paths_out_of_view_draw_without_error(self, path):
        image = overlay.draw_trajectories(_GRAY, _camera(), path[None], path)
        self.assertEqual(image.shape, _GRAY.shape)
        self.assertEqual(image.dtype, np.uint8)

    def test_standing_path_changes_nothing(self):
        image = overlay.draw_trajectories(_GRAY, _camera(), np.zeros((1, 64, 3)))
        np.testing.assert_array_equal(image, _GRAY)

    def test_input_is_not_written_and_result_is_deterministic(self):
        before = _GRAY.copy()
        images = [overlay.draw_trajectories(_GRAY, _camera(), _path()[None]) for _ in range(2)]
        np.testing.assert_array_equal(_GRAY, before)
        np.testing.assert_array_equal(*images)

    def test_bad_input(self):
        bad = _path()
        bad[7, 1] = np.nan
        with self.assertRaisesRegex(InputError, r"samples_xyz has NaN.*\[0, 7, 1\]"):
            overlay.draw_trajectories(_GRAY, _camera(), bad[None])
        with self.assertRaisesRegex(InputError, r"future_xyz has NaN"):
            overlay.draw_trajectories(_GRAY, _camera(), _path()[None], bad)
        with self.assertRaisesRegex(InputError, r"must be \[any, any, 3\], got \[64, 3\]"):
            overlay.draw_trajectories(_GRAY, _camera(), _path())
        with self.assertRaisesRegex(InputError, r"'front' must be uint8 \[360, 640, 3\]"):
            overlay.draw_trajectories(_GRAY[:100], _camera(), _path()[None])

    def test_many_samples_have_colors(self):
        for count in (0, 1, 8, 9, 40):
            self.assertLen(set(style.sample_colors(count)), count)


if __name__ == "__main__":
    absltest.main()
