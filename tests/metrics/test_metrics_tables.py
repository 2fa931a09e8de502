import json
import os
import pathlib

from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.metrics import tables

ROWS = [
    {"policy": "ours | tiny", "min_ade": 1.23456, "windows": 12345},
    {"policy": "<b>CV</b>", "min_ade": None, "note": "baseline"},
]


class FormatTest(parameterized.TestCase):
    @parameterized.parameters(
        (None, "-"),
        (True, "yes"),
        (np.bool_(False), "no"),
        (1234567, "1,234,567"),
        (np.int32(7), "7"),
        (1.23456, "1.235"),
        (np.float32(0.5), "0.500"),
        (jnp.float32(0.25), "0.250"),
        (0.0, "0.000"),
        (0.0000123, "1.23e-05"),
        (-12345678.0, "-1.23e+07"),
        (float("nan"), "nan"),
        ("text", "text"),
    )
    def test_value(self, value, want):
        assert tables.format_value(value) == want

    def test_digits(self):
        assert tables.format_value(2 / 3, digits=1) == "0.7"


class TableTest(parameterized.TestCase):
    def test_text(self):
        want = "\n".join([
            "policy       min_ade  windows  note",
            "-----------  -------  -------  --------",
            "ours | tiny    1.235   12,345  -",
            "<b>CV</b>          -        -  baseline",
        ])
        assert tables.text_table(ROWS) == want

    def test_markdown_escapes_bars(self):
        lines = tables.markdown_table(ROWS, ["policy", "min_ade"], digits=2).splitlines()
        assert lines == [
            "| policy | min_ade |",
            "| --- | ---: |",
            "| ours \\| tiny | 1.23 |",
            "| <b>CV</b> | - |",
        ]

    def test_html_is_escaped(self):
        page = tables.html_table(ROWS, ["policy", "min_ade"])
        assert "&lt;b&gt;CV&lt;/b&gt;" in page and "<b>" not in page
        assert '<td class="number">1.235</td>' in page
        assert page.count("<tr>") == 3

    def test_columns_appear_in_order_of_first_use(self):
        assert tables.columns_of(ROWS) == ["policy", "min_ade", "windows", "note"]

    def test_no_rows(self):
        assert tables.text_table([], ["a", "b"]) == "a  b\n-  -"
        assert "<tbody>" in tables.html_table([])


class TestSummary:
    def test_round_trip_of_plain_values(self, tmp_path):
        path = tmp_path / "out" / "summary.json"
        tables.write_summary(path, {
            "a": np.float32(0.5), "b": jnp.arange(2), "c": {"d": (1, "x")}, "e": True, "f": tmp_path
        })
        want = {"a": 0.5, "b": [0, 1], "c": {"d": [1, "x"]}, "e": True, "f": str(tmp_path)}
        assert json.loads(path.read_text()) == want

    def test_numbers_that_are_not_finite_become_null(self, tmp_path):
        path = tmp_path / "summary.json"
        values = {"a": float("nan"), "b": np.float32("inf"), "c": [1.0, -np.inf]}
        tables.write_summary(path, values)
        assert json.loads(path.read_text()) == {"a": None, "b": None, "c": [1.0, None]}

    @pytest.mark.parametrize("bad", [{"a": {"b": object()}}, {"a": {1: 2}}, {"a": 1 + 2j}])
    def test_a_bad_value_is_named_and_the_old_file_kept(self, tmp_path, bad):
        path = tmp_path / "summary.json"
        tables.write_summary(path, {"old": 1})
        with pytest.raises(TypeError, match="a"):
            tables.write_summary(path, bad)
        assert json.loads(path.read_text()) == {"old": 1}
        assert os.listdir(tmp_path) == ["summary.json"]

    def test_an_interrupted_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "summary.json"
        tables.write_summary(path, {"old": 1})

        def fail(*_):
            raise OSError("disk full")

        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            tables.write_summary(path, {"new": 1})
        assert json.loads(path.read_text()) == {"old": 1}
        assert [p.name for p in pathlib.Path(tmp_path).iterdir()] == ["summary.json"]
