"""Measured and cleaned text; checked arrays."""

import io
import warnings

import numpy as np
from absl.testing import absltest, parameterized
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties
from PIL import Image

from alpamayo_jax.types import InputError
from alpamayo_jax.viz import style, text

_SENTENCE = "Nudge left to keep clear of the parked van, because the oncoming lane is empty."


class TextTest(parameterized.TestCase):
    @parameterized.parameters(
        ("plain", "plain"),
        ("a\tb\r\nc", "a b\nc"),
        ("x\x00\x1b y", "x\ufffd\ufffd y"),
        ("中é", "\ufffdé"),
        ("\ud800", "\ufffd"),
    )
    def test_printable(self, given, want):
        self.assertEqual(text.printable(given), want)

    def test_printable_text_draws_without_a_warning(self):
        page = style.Page(300, 60)
        page.text(10, 10, text.printable("中 \x00 $x^2$ ok"), 14)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            page.png()

    @parameterized.product(size=(11.0, 15.0, 19.0), bold=(False, True))
    def test_width_is_that_of_the_drawn_line(self, size, bold):
        font = FontProperties(family=text.FONT, size=size, weight="bold" if bold else "normal")
        drawn = RendererAgg(8, 8, 100).get_text_width_height_descent(_SENTENCE, font, False)[0]
        measured = text.width(_SENTENCE, size, 100, bold)
        self.assertBetween(measured / drawn, 0.999, 1.01)  # never too narrow: lines must fit

    @parameterized.parameters(120, 300, 1000)
    def test_wrap_keeps_words_and_width(self, limit):
        lines = text.wrap(_SENTENCE, limit, 15.0, 100)
        self.assertEqual(" ".join(lines), _SENTENCE)
        self.assertLessEqual(max(text.width(line, 15.0, 100) for line in lines), limit)
        self.assertLessEqual(len(lines), 2 + 1.3 * text.width(_SENTENCE, 15.0, 100) / limit * 1.4)

    def test_wrap_cuts_long_words_and_keeps_newlines(self):
        lines = text.wrap("a\n" + "x" * 500 + " end", 200, 15.0, 100)
        self.assertEqual(lines[0], "a")
        self.assertEqual("".join(lines[1:]).replace("end", "").strip(), "x" * 500)
        self.assertLessEqual(max(text.width(line, 15.0, 100) for line in lines), 200)
        self.assertEqual(text.wrap(" \n ", 200, 15.0, 100), [])

    def test_wrap_ends_even_where_one_character_is_too_wide(self):
        self.assertEqual(text.wrap("abc", 1, 15.0, 100), ["a", "b", "c"])

    def test_ellipsis(self):
        self.assertEqual(text.ellipsis("short", 500, 15.0, 100), "short")
        cut = text.ellipsis(_SENTENCE * 5, 300, 15.0, 100)
        self.assertTrue(cut.endswith("…"))
        self.assertLessEqual(text.width(cut, 15.0, 100), 300)
        self.assertGreater(text.width(cut, 15.0, 100), 250)

    def test_checked(self):
        np.testing.assert_array_equal(style.checked("a", [[1, 2]], (None, 2)), [[1.0, 2.0]])
        self.assertEqual(style.checked("a", np.zeros((0, 64, 3)), (None, None, 3)).size, 0)
        for value, message in (
            (np.zeros((2, 4)), r"a must be \[any, 3\], got \[2, 4\]"),
            (np.zeros(3), r"a must be \[any, 3\], got \[3\]"),
            ([[0, 0, np.inf]], r"a has NaN or infinite values, first at \[0, 2\]"),
        ):
            with self.assertRaisesRegex(InputError, message):
                style.checked("a", value, (None, 3))
        with self.assertRaisesRegex(InputError, "not empty"):
            style.checked("a", np.zeros((2, 0, 3)), (None, None, 3))

    def test_page_places_by_the_upper_left_corner(self):
        page = style.Page(200, 100)
        page.image(30, 20, np.zeros((10, 40, 3), np.uint8))
        axes = page.axes(50, 40, 100, 30)
        box = axes.get_window_extent()
        np.testing.assert_allclose([box.x0, box.y0, box.width, box.height], [50, 30, 100, 30])
        axes.remove()

        pixels = np.asarray(Image.open(io.BytesIO(page.png())).convert("L"))
        rows, columns = np.nonzero(pixels < 128)
        self.assertEqual((rows.min(), rows.max() + 1), (20, 30))
        self.assertEqual((columns.min(), columns.max() + 1), (30, 70))


if __name__ == "__main__":
    absltest.main()
