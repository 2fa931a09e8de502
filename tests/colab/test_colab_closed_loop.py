"""The closed-loop notebook runs, and shows what it says."""

import re

import pytest
from notebooks import count_pictures, execute, outputs, printed


@pytest.mark.slow
def test_it_drives_and_compares(tmp_path):
    notebook = execute("05_closed_loop.ipynb", tmp_path)
    text = printed(notebook)
    assert "label: " in text and re.search(r": it .* at [\d.]+ s", text)
    tables = list(outputs(notebook, "text/html"))
    assert len(tables) == 4
    compared, by_class, own, rollouts = tables
    for name in ("recorded", "constant_velocity", "route_follower"):
        assert name in compared
    assert "scene score" in by_class and ">all<" in by_class
    assert ">slow<" in own and "reached the end" in rollouts + text or "it " in text
    assert count_pictures(notebook) == 2
