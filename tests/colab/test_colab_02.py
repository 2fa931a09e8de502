"""The notebook on data and the Chain of Causation runs from top to bottom."""

import re

import pytest
from notebooks import COLAB, count_pictures, execute, printed

NOTEBOOK = COLAB / "02_data_and_coc.ipynb"


def test_it_names_files_that_exist():
    text = NOTEBOOK.read_text()
    names = set(re.findall(r"experiments/\w+\.py", text))
    assert names >= {f"experiments/{name}.py" for name in ("ingest", "label", "judge", "review")}
    assert all((NOTEBOOK.parents[1] / name).is_file() for name in names)
    (picture,) = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert (NOTEBOOK.parent / picture).stat().st_size < 300_000


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    return execute(NOTEBOOK.name, folder), folder


@pytest.mark.slow
def test_what_it_prints(executed):
    text = printed(executed[0])
    assert "'clips': 4, 'failed': []" in text and "strong decelerate" in text
    assert int(re.search(r"(\d+) labels; without one", text).group(1)) >= 5
    assert "refused:" in text and "after the keyframe" in text
    assert "causal_correctness: the trace says 'pedestrian'" in text
    assert "'paid_requests': 5, 'cached_requests': 0" in text
    assert "'paid_requests': 0, 'cached_requests': 5" in text
    assert text.count("CocLabel ") == 2 and "[5, 17]" in text
    assert re.search(r"structured +1 +0 +1.00 +1.00 +1.00 +1.00", text)
    assert re.search(r"t0 = +\d+\.\d s: \(nothing to say\)\nt0 = +\d+\.\d s: Slow down", text)


@pytest.mark.slow
def test_pictures_and_files(executed):
    notebook, folder = executed
    assert count_pictures(notebook) == 2  # speed, a labelled keyframe
    (work,) = folder.glob("coc_*")
    assert (work / "labels" / "labels.jsonl").is_file()
