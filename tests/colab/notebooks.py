"""Notebooks of colab/: read, executed, and what their cells put out."""

import base64
import io
import pathlib

import pytest
from PIL import Image

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

COLAB = pathlib.Path(__file__).resolve().parents[2] / "colab"


def read(name):
    return nbformat.read(COLAB / name, as_version=4)


def execute(name, folder, **environment):
    """The notebook with its outputs; its temporary files are in `folder`.

    It runs as in a reader's process: one device, and no checkpoint unless `environment` says so.
    """
    notebook = read(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ALPAMAYO_JAX_CHECKPOINT", raising=False)
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("XLA_FLAGS", "")
        for variable, value in environment.items():
            patch.setenv(variable, str(value))
        where = {"metadata": {"path": str(COLAB)}}
        client = nbclient.NotebookClient(
            notebook, timeout=900, kernel_name="python3", resources=where
        )
        client.execute()
    return notebook


def outputs(notebook, kind):
    """Every output of a MIME type or stream name, in order."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == kind:
                yield output["text"]
            elif kind in output.get("data", {}):
                yield output["data"][kind]


def printed(notebook):
    return "".join(outputs(notebook, "stdout"))


def count_pictures(notebook):
    """How many pictures are shown; each is decoded."""
    pictures = [base64.b64decode(data) for data in outputs(notebook, "image/png")]
    for picture in pictures:
        with Image.open(io.BytesIO(picture)) as image:
            image.load()
    return len(pictures)
