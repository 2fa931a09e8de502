"""The closed-loop notebook runs, and shows what it says."""

import re

import pytest
from test_colab_notebooks import execute, outputs

pytest.importorskip("nbclient")


def test_it_drives_and_compares(monkeypatch):
    monkeypatch.delenv("ALPAMAYO_JAX_CHECKPOINT", raising=False)
    notebook = execute("05_closed_loop.ipynb")
    text = "".join(outputs(notebook, "stdout"))
    assert "label: " in text and re.search(r": it .* at [\d.]+ s", text)
    tables = list(outputs(notebook, "text/html"))
    assert len(tables) == 4
    compared, by_class, own, rollouts = tables
    for name in ("recorded", "constant_velocity", "route_follower"):
        assert name in compared
    assert "scene score" in by_class and ">all<" in by_class
    assert ">slow<" in own and "reached the end" in rollouts + text or "it " in text
    assert len(list(outputs(notebook, "image/png"))) == 2
