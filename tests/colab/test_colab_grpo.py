"""The notebook on reinforcement learning runs from top to bottom."""

import base64
import io
import pathlib
import re

import pytest
from PIL import Image

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = pathlib.Path(__file__).resolve().parents[2] / "colab" / "04_grpo.ipynb"


def test_it_names_files_that_exist():
    text = NOTEBOOK.read_text()
    names = set(re.findall(r"(?:configs|experiments|docs)/[\w/]+\.(?:py|md)", text))
    assert len(names) >= 5 and all((NOTEBOOK.parents[1] / name).is_file() for name in names)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grpo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("XLA_FLAGS", "")  # one device, as in a reader's process
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        where = {"metadata": {"path": str(NOTEBOOK.parent)}}
        nbclient.NotebookClient(
            notebook, timeout=900, kernel_name="python3", resources=where
        ).execute()
    return notebook, folder


def _outputs(notebook, kind):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == kind:
                yield output["text"]
            elif kind in output.get("data", {}):
                yield output["data"][kind]


@pytest.mark.slow
def test_what_it_prints(executed):
    text = "".join(_outputs(executed[0], "stdout"))
    ((first, last),) = re.findall(r"loss ([\d.]+) at first, ([\d.]+) at the end", text)
    assert float(last) < 0.8 * float(first)
    for name in ("reward", "reasoning", "consistency", "collision", "ade_most_likely"):
        assert re.search(rf"^{name} +-?[\d.]+ +-?[\d.]+$", text, re.M), name
    assert re.search(r"consistency +0 to 1 +- +weight 1", text)
    assert float(re.search(r"(\d+) rollouts per second", text).group(1)) > 0
    assert "['step_000001.png', 'step_000006.png']" in text


@pytest.mark.slow
def test_pictures(executed):
    pictures = [base64.b64decode(data) for data in _outputs(executed[0], "image/png")]
    assert len(pictures) == 3  # a frame, the curves, a rollout
    for picture in pictures:
        with Image.open(io.BytesIO(picture)) as image:
            image.load()
