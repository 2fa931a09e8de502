"""A small checkpoint that these tests make, and the recorded one where it is present."""

import pathlib
import shutil

import pytest
from convert_samples import random_params, small_config

from alpamayo_jax.convert import save_checkpoint


@pytest.fixture(scope="session")
def made_checkpoint(tmp_path_factory) -> pathlib.Path:
    """A checkpoint of `small_config` in one file; do not change it."""
    directory = tmp_path_factory.mktemp("made") / "checkpoint"
    save_checkpoint(directory, small_config(), random_params(small_config()))
    return directory


@pytest.fixture(params=["made", "recorded"])
def checkpoint(request, tmp_path, made_checkpoint) -> pathlib.Path:
    """A copy that a test may damage: of our own checkpoint, and of the recorded one."""
    source = made_checkpoint
    if request.param == "recorded":
        source = request.getfixturevalue("reference_dir") / "tiny_checkpoint"
        if not source.is_dir():
            pytest.skip(f"no {source}")
    target = tmp_path / "checkpoint"
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target
