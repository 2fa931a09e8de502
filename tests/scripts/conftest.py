"""One short run of the pipeline, and clips on disk, for all tests of scripts."""

import os
import pathlib
import sys

import pytest
from script_process import PipelineRun, pipeline_flags, run_script

from alpamayo_jax.data.clip_folder import write_clip
from alpamayo_jax.sim.source import procedural_clip


@pytest.fixture(scope="session")
def pipeline_run(tmp_path_factory) -> PipelineRun:
    workdir = tmp_path_factory.mktemp("pipeline") / "deep" / "out"
    run = PipelineRun(run_script("pipeline", *pipeline_flags(workdir)), workdir)
    assert run.done.returncode == 0, run.done.stderr
    return run


@pytest.fixture(scope="session")
def clips_folder(tmp_path_factory) -> pathlib.Path:
    """Two procedural drives of 10 s: clips/a and clips/b."""
    root = tmp_path_factory.mktemp("recorded") / "clips"
    for index, name in enumerate("ab"):
        write_clip(root / name, procedural_clip(7, index, seconds=10.0))
    return root


@pytest.fixture(scope="module")
def configurations_of_this_folder():
    """Configurations that import another one of this folder find it, in scripts too."""
    here = str(pathlib.Path(__file__).resolve().parent)
    with pytest.MonkeyPatch.context() as patch:
        before = os.environ.get("PYTHONPATH", "")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (here, before))))
        patch.setattr(sys, "path", [here, *sys.path])
        yield
