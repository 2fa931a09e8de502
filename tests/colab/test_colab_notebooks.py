"""Notebooks run from top to bottom, and are committed without outputs."""

import ast
import os
import re

import jax
import pytest
from notebooks import COLAB, count_pictures, execute, printed, read

import alpamayo_jax
from alpamayo_jax.decode.policy import new_policy
from alpamayo_jax.presets import preset

NOTEBOOKS = sorted(path.name for path in COLAB.glob("*.ipynb"))
QUICKSTART = "01_quickstart.ipynb"


def check_quickstart(notebook):
    # A frame, the drive picture, the view from above, errors over time.
    assert count_pictures(notebook) == 4
    text = printed(notebook)
    assert "float32 [6, 64, 3]" in text and "(most likely)" in text
    assert re.search(r"min_ade +[\d.]+\n", text) and "ade_constant_turn_rate" in text
    return text


def test_the_notebooks_are_found():
    assert QUICKSTART in NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_committed_without_outputs(name):
    for cell in read(name).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_code_cell_is_introduced(name):
    kinds = [cell.cell_type for cell in read(name).cells]
    assert kinds[0] == "markdown"
    assert ("code", "code") not in set(zip(kinds, kinds[1:]))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_code_that_is_only_shown_uses_real_names(name):
    text = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    used = set(re.findall(r"`?aj\.(\w+)", text))
    for block in blocks:
        ast.parse(block)
    assert blocks and used <= set(alpamayo_jax.__all__)
    for script in re.findall(r"python (experiments/\w+\.py)", text):
        assert (COLAB.parent / script).is_file()


@pytest.mark.slow
def test_quickstart_trains_its_own_policy(tmp_path):
    text = check_quickstart(execute(QUICKSTART, tmp_path))
    assert "sft: loss" in text and "expert: loss" in text
    assert [name for name in os.listdir(tmp_path) if name.startswith("tiny_policy_")]


@pytest.mark.slow
def test_quickstart_loads_a_checkpoint(tmp_path):
    mine = tmp_path / "mine"
    new_policy(preset("tiny"), jax.random.key(0)).save(mine)
    text = check_quickstart(execute(QUICKSTART, tmp_path, ALPAMAYO_JAX_CHECKPOINT=mine))
    assert "sft: loss" not in text and f"loaded {mine}" in text
