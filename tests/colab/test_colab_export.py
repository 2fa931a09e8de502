"""The export notebook runs, and its programs agree with the model."""

import re

import pytest
from notebooks import count_pictures, execute, outputs, printed

pytest.importorskip("jax2onnx")


@pytest.mark.slow
def test_it_exports_and_drives(tmp_path):
    notebook = execute("06_export.ipynb", tmp_path)
    text = printed(notebook)
    assert "tokens the same: True" in text
    apart = re.search(r"differ by at most ([\d.e+-]+) m", text)
    assert apart and float(apart[1]) < 1e-3
    assert "vlm/language_model/layers.1/" in text and "'MatMul'" in text
    tables = list(outputs(notebook, "text/html"))
    assert len(tables) == 2
    assert tables[0].count(">yes<") == 7 and tables[1].count(">yes<") == 2
    assert count_pictures(notebook) == 1
