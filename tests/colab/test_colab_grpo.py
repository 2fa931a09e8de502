"""The notebook on reinforcement learning runs from top to bottom."""

import re

import pytest
from notebooks import COLAB, count_pictures, execute, printed

NOTEBOOK = COLAB / "04_grpo.ipynb"


def test_it_names_files_that_exist():
    text = NOTEBOOK.read_text()
    names = set(re.findall(r"(?:configs|experiments|docs)/[\w/]+\.(?:py|md)", text))
    assert len(names) >= 5 and all((NOTEBOOK.parents[1] / name).is_file() for name in names)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grpo")
    return execute(NOTEBOOK.name, folder), folder


@pytest.mark.slow
def test_what_it_prints(executed):
    text = printed(executed[0])
    ((first, last),) = re.findall(r"loss ([\d.]+) at first, ([\d.]+) at the end", text)
    assert float(last) < 0.8 * float(first)
    for name in ("reward", "reasoning", "consistency", "collision", "ade_most_likely"):
        assert re.search(rf"^{name} +-?[\d.]+ +-?[\d.]+$", text, re.M), name
    assert re.search(r"consistency +0 to 1 +- +weight 1", text)
    assert float(re.search(r"(\d+) rollouts per second", text).group(1)) > 0
    assert "['step_000001.png', 'step_000006.png']" in text


@pytest.mark.slow
def test_pictures(executed):
    assert count_pictures(executed[0]) == 3  # a frame, the curves, a rollout
