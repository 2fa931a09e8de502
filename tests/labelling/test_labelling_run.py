"""Labelling a store: counts, failures by name, and runs that are killed and go on."""

import collections
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from alpamayo_jax.coc.schema import read_labels
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.store import StoreSource, open_store
from alpamayo_jax.labelling import run
from alpamayo_jax.types import InputError

from labelling_store import NAMES, make_store

HERE = pathlib.Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("drives"))


def label(store, out, **changes):
    return run.label_store(run.Job(str(store), str(out), **changes), progress=False)


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("labels")
    label(store, out)
    return out


def contents(folder):
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    summary = json.loads(found.pop("summary.json"))
    return found, summary | {"seconds": 0.0}


def test_what_is_written(store, undisturbed):
    summary = json.loads((undisturbed / "summary.json").read_text())
    labels = read_labels(undisturbed / "labels.jsonl")
    assert [one.clip for one in labels] == ["a_lead", "c_walker", "d_lead"]
    assert summary["labels"] == 3 and summary["clips"] == len(NAMES) and summary["failed"] == []
    assert summary["per_class"]["stop_for_lead"] == 2
    assert summary["per_decision"]["lead_obstacle_following"] == 2
    rejected = [json.loads(x) for x in (undisturbed / "rejected.jsonl").read_text().splitlines()]
    assert summary["rejected"] == dict(collections.Counter(entry["rule"] for entry in rejected))
    assert all(entry["clip"] in NAMES and entry["reason"] for entry in rejected)
    assert {path.name for path in undisturbed.iterdir()} == {
        "labels.jsonl", "rejected.jsonl", "label.json", "summary.json"
    }  # fmt: skip


def test_again_is_nothing_to_do(store, undisturbed):
    stamps = {path: path.stat().st_mtime_ns for path in undisturbed.iterdir()}
    assert label(store, undisturbed) == json.loads((undisturbed / "summary.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


KILLS = (("file", 0), ("file", 2), ("rename", 1), ("clip", 2), ("merge", 0), ("file", 6),
         ("cleaning", 0))  # fmt: skip


@pytest.mark.parametrize("place, count", KILLS)
def test_killed_at_any_moment_and_started_again(store, undisturbed, tmp_path, place, count):
    out = tmp_path / "labels"
    command = [sys.executable, str(HERE / "killed_labelling.py"), str(store), str(out), place]
    paths = os.pathsep.join([str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
    killed = subprocess.run(
        [*command, str(count)], env=os.environ | {"PYTHONPATH": paths}, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    label(store, out)
    assert contents(out) == contents(undisturbed)


def test_what_is_done_is_not_done_again(store, tmp_path, monkeypatch):
    job = run.Job(str(store), str(tmp_path))
    run.label_part(job, 0)
    run.label_part(job, 3)
    done, original = [], run.label_clip
    monkeypatch.setattr(run, "label_clip", lambda clip: done.append(clip.clip_id) or original(clip))
    label(store, tmp_path)
    assert done == ["b_quiet", "c_walker"]


def test_a_damaged_clip_is_named_and_the_rest_is_labelled(
    store, undisturbed, tmp_path, monkeypatch
):
    original = StoreSource.clip

    def broken(self, index):
        if index == 0:
            raise InputError("clip 'a_lead': agents: t is NaN")
        return original(self, index)

    monkeypatch.setattr(StoreSource, "clip", broken)
    summary = label(store, tmp_path)
    assert summary["failed"] == [{"name": "a_lead", "reason": "clip 'a_lead': agents: t is NaN"}]
    want = read_labels(undisturbed / "labels.jsonl")
    assert read_labels(tmp_path / "labels.jsonl") == want[1:]


def test_a_label_that_fails_a_check_is_kept_aside(store, tmp_path, monkeypatch):
    from alpamayo_jax.coc.checks import Failure

    monkeypatch.setattr(run, "check_label", lambda one: [Failure("proximate_cause", "no")])
    summary = label(store, tmp_path)
    assert summary["labels"] == 0 and summary["rejected"]["proximate_cause"] == 3
    entries = [json.loads(x) for x in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    kept = [entry["label"]["clip"] for entry in entries if "label" in entry]
    assert kept == ["a_lead", "c_walker", "d_lead"]


def test_balance(store, tmp_path):
    summary = label(store, tmp_path, most_per_class=1)
    assert summary["labels"] == 2 and summary["left_out_by_balance"] == 1
    assert max(summary["per_class"].values()) == 1


def test_another_job_does_not_mix_with_what_is_there(store, undisturbed):
    with pytest.raises(InputError, match="choose another folder"):
        label(store, undisturbed, most_per_class=7)
    with pytest.raises(ConfigError, match="labeller 'nobody'"):
        label(store, undisturbed, labeller="nobody")


def test_a_damaged_claim(store, tmp_path):
    (tmp_path / "label.json").write_text("{")
    with pytest.raises(InputError, match="label.json is damaged"):
        label(store, tmp_path)


def test_no_store(tmp_path):
    with pytest.raises(InputError):
        label(tmp_path / "nothing", tmp_path / "out")


def test_two_workers_of_beam_label_the_same(store, undisturbed, tmp_path):
    pytest.importorskip("apache_beam")
    flags = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    job = run.Job(str(store), str(tmp_path))
    run.label_store(job, engine="beam", beam_options=flags, progress=False)
    assert contents(tmp_path) == contents(undisturbed)


def test_clips_of_the_store_are_those_of_the_labels(store, undisturbed):
    source = open_store(store)
    names = {source.clip_name(i) for i in range(len(source))}
    assert {one.clip for one in read_labels(undisturbed / "labels.jsonl")} <= names
