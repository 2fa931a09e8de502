"""The report page: whole, escaped, self-contained."""

import base64
import html.parser
import io
import os
import re

import numpy as np
from absl.testing import absltest, parameterized
from PIL import Image

from alpamayo_jax.types import InputError
from alpamayo_jax.viz import report

_HOSTILE = """<script>alert("x")</script> & 'quote' <img src=http://evil/x.png>"""
_VOID = {"meta", "img", "br"}


class _Checker(html.parser.HTMLParser):
    """Collects tags, attributes and text, and fails on tags that do not nest."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(page)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return "".join(self.words)


def _image(kind="PNG", size=(40, 30)):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def _full():
    return (
        report.Report(_HOSTILE, _HOSTILE)
        .figures({_HOSTILE: 1.5, "clips": 1234, "text": _HOSTILE})
        .section(_HOSTILE, f"{_HOSTILE}\n\nsecond\nline")
        .code(_HOSTILE)
        .table([{_HOSTILE: _HOSTILE, "n": 0.25}, {"n": None}], caption=_HOSTILE)
        .section("Pictures")
        .picture(_image(), _HOSTILE)
        .pictures([(_image(), "left"), (_image("JPEG"), "right")])
    )


class ReportTest(parameterized.TestCase):
    def test_nothing_given_becomes_markup(self):
        checker = _Checker(_full().html())
        self.assertNotIn("script", checker.tags)
        self.assertEqual(checker.tags.count("img"), 3)
        # Title, h1, subtitle, figure name and value, heading and its link, paragraph, code, table
        # head and cell, caption, picture caption: all of it arrives as text.
        self.assertEqual(checker.text.count(_HOSTILE), 13)

    def test_no_request_leaves_the_page(self):
        checker = _Checker(_full().html())
        for tag, name, value in checker.attributes:
            self.assertFalse(name.startswith("on"), name)
            if name in ("src", "href", "srcset", "data", "action", "style"):
                self.assertRegex(value, r"^(data:image/(png|jpeg);base64,|#s\d+$)", f"{tag} {name}")
        self.assertFalse({"link", "iframe", "object", "embed", "form", "base"} & set(checker.tags))
        style = re.search(r"<style>(.*?)</style>", _full().html(), re.S).group(1)
        self.assertNotRegex(style, r"url\(|@import|//")
        policy = [v for _, n, v in checker.attributes if n == "content" and "default-src" in v]
        self.assertIn("default-src 'none'", policy[0])

    def test_pictures_arrive_as_given(self):
        page = report.Report("r").picture(_image("JPEG"), "photo").html()
        kind, data = re.search(r'src="data:image/(\w+);base64,([^"]+)"', page).groups()
        self.assertEqual((kind, base64.b64decode(data)), ("jpeg", _image("JPEG")))
        self.assertIn('width="40" height="30"', page)
        self.assertIn('alt="photo"', page)

    def test_pictures_from_a_path_and_as_jpeg(self):
        path = self.create_tempdir().create_file("a.png", _image(size=(400, 300)), mode="wb")
        page = report.Report("r").picture(path.full_path, jpeg_quality=60).html()
        data = re.search(r'src="data:image/jpeg;base64,([^"]+)"', page).group(1)
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            self.assertEqual((image.format, image.size), ("JPEG", (400, 300)))

    @parameterized.named_parameters(
        ("text", b"not a picture"),
        ("empty", b""),
        ("cut off", _image()[:-200]),
        ("another format", _image("GIF")),
    )
    def test_a_bad_picture_is_named(self, data):
        with self.assertRaisesRegex(InputError, "picture 'drive 7' is not a whole PNG or JPEG"):
            report.Report("r").picture(data, "drive 7")
        with self.assertRaisesRegex(InputError, "nowhere.png' is not a file"):
            report.Report("r").picture("nowhere.png")

    def test_tables_and_figures_are_formatted(self):
        page = report.Report("r").figures({"windows": 12345, "ade": 1.23456}).table(
            [{"model": "policy", "ade": 1.23456}, {"model": "baseline", "ade": None}], digits=2
        )
        text = _Checker(page.html()).text
        for wanted in ("12,345", "1.235", "1.23", "baseline"):
            self.assertIn(wanted, text)
        self.assertIn('<td class="number">1.23</td>', page.html())
        self.assertIn("No rows.", report.Report("r").table([]).html())

    def test_sections_are_linked(self):
        page = report.Report("r").section("One").section("Two").html()
        for i in (1, 2):
            self.assertIn(f'href="#s{i}"', page)
            self.assertIn(f'id="s{i}"', page)
        self.assertNotIn("<nav>", report.Report("r").section("One").html())

    def test_empty_report_is_a_page(self):
        self.assertEqual(_Checker(report.Report("Only a title").html()).tags.count("h1"), 1)

    def test_write_is_whole_or_not_at_all(self):
        folder = self.create_tempdir().full_path
        path = report.Report("first").write(os.path.join(folder, "sub", "report.html"))
        before = path.read_bytes()
        self.assertEqual(oct(path.stat().st_mode)[-3:], "644")
        with absltest.mock.patch.object(os, "replace", side_effect=OSError("disk full")):
            with self.assertRaises(OSError):
                report.Report("second").write(path)
        self.assertEqual(path.read_bytes(), before)
        self.assertEqual(os.listdir(path.parent), ["report.html"])
        report.Report("second").write(path)
        self.assertIn(b"second", path.read_bytes())

    def test_deterministic_and_any_text_is_utf8(self):
        page = _full().text("中文 é \ud800 \x00").write(self.create_tempdir().full_path + "/r.html")
        page.read_text(encoding="utf-8")
        self.assertEqual(_full().html(), _full().html())


if __name__ == "__main__":
    absltest.main()
