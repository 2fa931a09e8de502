"""Plots are readable PNGs that show what they were given."""

import io

import numpy as np
from absl.testing import absltest, parameterized
from PIL import Image

from alpamayo_jax.types import InputError
from alpamayo_jax.viz import curves, style

_STEPS = np.arange(200)
_LOSS = 3 * np.exp(-_STEPS / 60) + 0.2


def _pixels(png):
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"), int)


def _count(png, color, tolerance=30):
    """Pixels close to a colour."""
    return (np.abs(_pixels(png) - 255 * np.array(color)).max(-1) < tolerance).sum()


_BLUE, _ORANGE = style.sample_colors(2)[1], style.sample_colors(2)[0]


class CurvesTest(parameterized.TestCase):
    @parameterized.product(log=(False, True), smooth=(1, 15), count=(1, 3, 9))
    def test_curves_draw(self, log, smooth, count):
        series = {f"run {i}": (_STEPS, _LOSS + i) for i in range(count)}
        png = curves.curves(series, "Loss", log=log, smooth=smooth)
        self.assertEqual(_pixels(png).shape[1], 720)
        self.assertGreater(_count(png, style.INK, 60), 200)  # labels
        if count == 3:
            self.assertGreater(_count(png, _BLUE), 300)
            self.assertGreater(_count(png, _ORANGE), 300)

    def test_a_falling_curve_falls(self):
        image = _pixels(curves.curves({"loss": (_STEPS, _LOSS)}))
        blue = np.abs(image[:-40] - 255 * np.array(_BLUE)).max(-1) < 30
        columns = np.flatnonzero(blue.any(0))
        heights = [np.flatnonzero(blue[:, c]).mean() for c in (columns[3], columns[-3])]
        self.assertLess(heights[0], heights[1] - 150)

    def test_values_that_are_not_finite_are_marked(self):
        red = (0.8, 0.1, 0.1)
        self.assertEqual(_count(curves.curves({"loss": (_STEPS, _LOSS)}), red), 0)
        broken = _LOSS.copy()
        broken[90:100] = np.nan
        broken[150] = np.inf
        self.assertGreater(_count(curves.curves({"loss": (_STEPS, broken)}, smooth=5), red), 20)
        zeros = np.where(_STEPS < 100, _LOSS, 0.0)
        self.assertGreater(_count(curves.curves({"loss": (_STEPS, zeros)}, log=True), red), 20)

    def test_nothing_finite_is_still_a_picture(self):
        curves.curves({"loss": (_STEPS, np.full(200, np.nan))}, log=True, smooth=3)

    def test_one_point(self):
        self.assertGreater(_count(curves.curves({"minADE": ([0], [3.0])}), _BLUE), 20)

    def test_running_mean(self):
        y = np.array([1.0, np.nan, 3.0, 5.0, np.nan])
        np.testing.assert_allclose(curves._running_mean(y, 3), [1.0, 2.0, 4.0, 4.0, 5.0])
        np.testing.assert_allclose(curves._running_mean(y, 50), np.full(5, 3.0))
        self.assertTrue(np.isnan(curves._running_mean(np.full(4, np.nan), 2)).all())

    @parameterized.parameters((64,), (10, 64), (1, 20))
    def test_error_over_horizon(self, *shape):
        grows = np.broadcast_to(np.arange(shape[-1]) * 0.05, shape)
        png = curves.error_over_horizon({"policy": grows, "constant velocity": 2 * grows})
        self.assertGreater(_count(png, _BLUE), 300)
        self.assertGreater(_count(png, _ORANGE), 300)

    @parameterized.parameters(1, 3, 7, 10)
    def test_long_names_fit_into_the_legend(self, count):
        names = [f"constant turn rate and acceleration {i}" for i in range(count)]
        image = _pixels(curves.error_over_horizon({name: np.arange(9.0) for name in names}))
        self.assertEqual(image[:, -8:].min(), 255)
        self.assertEqual(image[-3:].min(), 255)

    def test_a_name_that_matplotlib_would_hide(self):
        curves.curves({"_private": (_STEPS, _LOSS)})

    def test_histogram(self):
        rng = np.random.default_rng(0)
        png = curves.histogram({"a": rng.normal(size=300), "b": [2.0]}, "Errors", "m", bins=10)
        self.assertGreater(_count(png, _BLUE), 300)
        self.assertGreater(_count(png, _ORANGE), 100)
        curves.histogram({"all equal": np.ones(5)})

    @parameterized.named_parameters(
        ("curves", curves.curves, {"a": (_STEPS, _LOSS)}),
        ("horizon", curves.error_over_horizon, {"a": _LOSS}),
        ("histogram", curves.histogram, {"a": _LOSS}),
    )
    def test_written_deterministic_and_never_empty(self, plot, series):
        path = self.create_tempdir().full_path + "/sub/plot.png"
        png = plot(series, path=path, title="$x_ & <b>")
        self.assertEqual(png, plot(series, title="$x_ & <b>"))
        with open(path, "rb") as file:
            self.assertEqual(file.read(), png)
        with self.assertRaisesRegex(InputError, "nothing to draw"):
            plot({})

    def test_bad_input(self):
        with self.assertRaisesRegex(InputError, "'a' has 3 x and 2 y"):
            curves.curves({"a": ([1, 2, 3], [1, 2])})
        with self.assertRaisesRegex(InputError, "'a' has 0 x and 0 y"):
            curves.curves({"a": ([], [])})
        with self.assertRaisesRegex(InputError, "errors of 'a' has NaN"):
            curves.error_over_horizon({"a": [1.0, np.nan]})
        with self.assertRaisesRegex(InputError, "errors of 'a' are empty"):
            curves.error_over_horizon({"a": np.zeros((0, 64))})
        with self.assertRaisesRegex(InputError, "values of 'b' are empty"):
            curves.histogram({"a": [1.0], "b": []})


if __name__ == "__main__":
    absltest.main()
