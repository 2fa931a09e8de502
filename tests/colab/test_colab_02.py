"""The notebook on data and the Chain of Causation runs from top to bottom."""

import base64
import io
import pathlib
import re
import time

import pytest
from PIL import Image

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = pathlib.Path(__file__).resolve().parents[2] / "colab" / "02_data_and_coc.ipynb"


def test_committed_without_outputs():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        where = {"metadata": {"path": str(NOTEBOOK.parent)}}
        begin = time.monotonic()
        nbclient.NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources=where
        ).execute()
        print(f"{time.monotonic() - begin:.0f} s")
    return notebook, folder


def outputs(notebook, kind):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == kind:
                yield output["text"]
            elif kind in output.get("data", {}):
                yield output["data"][kind]


def test_what_it_prints(executed):
    text = "".join(outputs(executed[0], "stdout"))
    assert "'clips': 4, 'failed': []" in text and "strong decelerate" in text
    assert int(re.search(r"(\d+) labels; without one", text).group(1)) >= 5
    assert "refused:" in text and "after the keyframe" in text
    assert "causal_correctness: the trace says 'pedestrian'" in text
    assert "'paid_requests': 5, 'cached_requests': 0" in text
    assert "'paid_requests': 0, 'cached_requests': 5" in text
    assert text.count("CocLabel ") == 2 and "[5, 17]" in text
    assert re.search(r"structured +1 +0 +1.00 +1.00 +1.00 +1.00", text)
    assert re.search(r"t0 = +\d+\.\d s: \(nothing to say\)\nt0 = +\d+\.\d s: Slow down", text)


def test_pictures_and_files(executed):
    notebook, folder = executed
    pictures = [base64.b64decode(data) for data in outputs(notebook, "image/png")]
    assert len(pictures) == 2  # speed, a labelled keyframe
    for picture in pictures:
        with Image.open(io.BytesIO(picture)) as image:
            image.load()
    (work,) = folder.glob("coc_*")
    assert (work / "labels" / "labels.jsonl").is_file()
