"""The fine-tuning notebook runs from top to bottom."""

import re

import pytest
from notebooks import COLAB, count_pictures, execute, printed

NOTEBOOK = COLAB / "03_finetune.ipynb"


def test_it_names_files_that_exist():
    text = NOTEBOOK.read_text()
    for name in set(re.findall(r"(?:configs|experiments|alpamayo_jax)/[\w/]+\.(?:py|sh)", text)):
        assert (NOTEBOOK.parents[1] / name).is_file(), name


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune")
    return execute(NOTEBOOK.name, folder), folder


@pytest.mark.slow
def test_losses_fall_and_little_trains(executed):
    text = printed(executed[0])
    (share,) = re.findall(r"matrices train: ([\d.]+) %", text)
    assert 0 < float(share) < 10
    for name, share in (("\nloss", 0.9), ("flow loss", 0.97)):
        ((before, after),) = re.findall(name + r" ([\d.]+) before, ([\d.]+) after", text)
        assert float(after) < share * float(before)
    assert "step 40" in text


@pytest.mark.slow
def test_pictures_and_files(executed):
    notebook, folder = executed
    assert count_pictures(notebook) == 3  # a frame, the loss, the drive
    (work,) = folder.glob("finetune_*")
    assert (work / "checkpoint" / "config.json").is_file()
    assert list((work / "lora" / "checkpoints").iterdir())
