"""Ingest as a Beam pipeline: the same store as on one machine, with one and with two workers."""

import json
import pathlib

import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.data import beam, ingest, staging, store
from alpamayo_jax.testing.clips import write_small_clip
from alpamayo_jax.types import InputError

pytest.importorskip("apache_beam")
TWO_WORKERS = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three clips; the second is too short for a window."""
    root = tmp_path_factory.mktemp("drives")
    for number, seconds in enumerate((8.2, 4.0, 8.5)):
        write_small_clip(root / f"clip{number}", seconds=seconds, seed=number, size=(16, 8))
    return root


@pytest.mark.parametrize("flags", [(), TWO_WORKERS])
def test_the_store_is_that_of_one_machine(root, tmp_path, flags):
    options = {"root": str(root)}
    plain = ingest.ingest("clips", options, tmp_path / "plain", progress=False)
    summary = ingest.ingest(
        "clips", options, tmp_path / "beam", engine="beam", beam_options=flags, progress=False
    )
    for name in ("clips", "failed", "windows"):
        assert summary[name] == plain[name]
    assert [failure["name"] for failure in summary["failed"]] == ["clip1"]
    one, other = store.open_store(tmp_path / "plain"), store.open_store(tmp_path / "beam")
    for index in range(2):
        a, b = one.clip(index), other.clip(index)
        assert a.clip_id == b.clip_id
        np.testing.assert_array_equal(a.ego.xyz, b.ego.xyz)
        np.testing.assert_array_equal(a.cameras[0].read(7), b.cameras[0].read(7))
    media = [sorted((tmp_path / n).glob("media/*/*")) for n in ("plain", "beam")]
    assert [p.read_bytes() for p in media[0]] == [p.read_bytes() for p in media[1]]
    assert {p.name for p in (tmp_path / "beam").iterdir()} == {
        *("driving_clips", "media", "ingest.json", "summary.json")
    }


def test_begun_on_one_machine_and_finished_by_workers(root, tmp_path, monkeypatch):
    job = staging.Job("clips", (("root", str(root)),), str(tmp_path))
    assert staging.stage(job, 0)
    stamp = pathlib.Path(tmp_path / job.media_path(0)).stat().st_mtime_ns
    ingest.ingest("clips", {"root": str(root)}, tmp_path, engine="beam", progress=False)
    assert pathlib.Path(tmp_path / job.media_path(0)).stat().st_mtime_ns == stamp
    assert json.loads((tmp_path / "summary.json").read_text())["clips"] == 2


def test_stopping_at_a_clip_that_cannot_be_read(root, tmp_path):
    with pytest.raises(InputError, match="clip 'clip1': ego.t covers 4.0 s.*on_error=skip"):
        ingest.ingest(
            "clips", {"root": str(root)}, tmp_path, engine="beam", on_error="stop", progress=False
        )
    assert not store.is_complete(tmp_path)


def test_options_of_beam(tmp_path):
    assert "FnApiRunner" in str(beam.pipeline_options(()).display_data())
    assert "FnApiRunner" in str(beam.pipeline_options(("--runner=DirectRunner",)).display_data())
    assert "FlinkRunner" in str(beam.pipeline_options(("--runner=FlinkRunner",)).display_data())
    for flag in ("--no_such_option=1", "runner=FlinkRunner"):
        with pytest.raises(InputError, match="Beam does not know the option"):
            beam.pipeline_options((flag,))
    with pytest.raises(ConfigError):
        ingest.ingest("clips", {}, tmp_path, engine="Beam")


def _square(number):
    return number * number


def test_anything_else_on_workers():
    assert beam.for_each(_square, 5, ()) == [(i, i * i) for i in range(5)]
