"""label.py and label_report.py: from a folder of drives to labels and a page about them."""

import json

import pytest
from script_process import assert_refused, read_summary, run_script

from alpamayo_jax.coc.schema import read_labels
from alpamayo_jax.data.ingest import ingest


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    options = {"num_clips": 3, "seed": 0, "seconds": 20.0, "image_size": (48, 32)}
    ingest("procedural", options, root, progress=False)
    return root


@pytest.fixture(scope="module")
def labelled(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("labels")
    return out, run_script("label", f"--store={store}", f"--workdir={out}")


def test_labels(labelled):
    out, done = labelled
    assert done.returncode == 0, done.stderr
    summary = read_summary(out)
    labels = read_labels(out / "labels.jsonl")
    assert summary["labels"] == len(labels) >= 3 and summary["clips"] == 3
    assert sum(summary["per_class"].values()) == len(labels)
    assert {"labels", "per_decision", "per_class", "rejected"} <= set(summary)
    assert f"{len(labels)} labels of 3 clips" in done.stdout
    line = json.loads((out / "labels.jsonl").read_text().splitlines()[0])
    assert {"schema_version", "clip", "keyframe_s", "scenario_class", "decisions", "components",
            "trace", "author", "provenance"} <= set(line)  # fmt: skip


def test_report(store, labelled, tmp_path):
    labels, _ = labelled
    done = run_script(
        "label_report", f"--labels={labels}", f"--store={store}", f"--workdir={tmp_path}",
        "--pictures=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = read_summary(tmp_path)
    assert summary["failed_labels"] == 0 and summary["pictures"] == 2
    assert set(summary["failures"]) >= {"causal_coverage", "not_annotated"}
    assert (tmp_path / "report.html").read_text().count("<img ") == 4  # and what the camera saw


def test_refused(store, labelled, tmp_path):
    done = run_script("label", f"--store={tmp_path}", f"--workdir={tmp_path / 'out'}")
    assert_refused(done, "label", str(tmp_path))
    done = run_script(
        "label", "--labeller=vlm", f"--store={store}", f"--workdir={tmp_path / 'vlm'}"
    )
    assert_refused(done, "label", "--endpoint", "--model")
    done = run_script(
        "label", f"--store={store}", f"--workdir={labelled[0]}", "--most_per_class=9"
    )
    assert_refused(done, "label", "choose another folder")
    bad = tmp_path / "labels.jsonl"
    bad.write_text('{"clip": "x"}\n')
    done = run_script(
        "label_report", f"--labels={bad}", f"--store={store}", f"--workdir={tmp_path / 'report'}"
    )
    assert_refused(done, "label_report", "labels.jsonl:1", "schema_version")
