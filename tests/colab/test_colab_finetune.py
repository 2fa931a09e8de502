"""The fine-tuning notebook runs from top to bottom."""

import base64
import io
import pathlib
import re

import pytest
from PIL import Image

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = pathlib.Path(__file__).resolve().parents[2] / "colab" / "03_finetune.ipynb"


def test_it_names_files_that_exist():
    text = NOTEBOOK.read_text()
    for name in set(re.findall(r"(?:configs|experiments|alpamayo_jax)/[\w/]+\.(?:py|sh)", text)):
        assert (NOTEBOOK.parents[1] / name).is_file(), name


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ALPAMAYO_JAX_CHECKPOINT", raising=False)
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("XLA_FLAGS", "")  # one device, as in a reader's process
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        where = {"metadata": {"path": str(NOTEBOOK.parent)}}
        nbclient.NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources=where
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
def test_losses_fall_and_little_trains(executed):
    text = "".join(_outputs(executed[0], "stdout"))
    (share,) = re.findall(r"matrices train: ([\d.]+) %", text)
    assert 0 < float(share) < 10
    for name, share in (("\nloss", 0.9), ("flow loss", 0.97)):
        ((before, after),) = re.findall(name + r" ([\d.]+) before, ([\d.]+) after", text)
        assert float(after) < share * float(before)
    assert "step 40" in text


@pytest.mark.slow
def test_pictures_and_files(executed):
    notebook, folder = executed
    pictures = [base64.b64decode(data) for data in _outputs(notebook, "image/png")]
    assert len(pictures) == 3  # a frame, the loss, the drive
    for picture in pictures:
        with Image.open(io.BytesIO(picture)) as image:
            image.load()
    (work,) = folder.glob("finetune_*")
    assert (work / "checkpoint" / "config.json").is_file()
    assert list((work / "lora" / "checkpoints").iterdir())
