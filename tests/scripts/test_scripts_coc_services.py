"""label.py --labeller=vlm, judge.py and review.py --export against an endpoint on this machine."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest
from script_process import EXPERIMENTS, assert_refused, read_summary, run_script

from alpamayo_jax.coc.schema import append_labels, read_labels
from alpamayo_jax.data.ingest import ingest
from alpamayo_jax.testing.chat_server import serving

SEEN = {
    "components": [
        {
            "kind": "lane",
            "attributes": {
                "type": "clear_road", "side": None, "state": "free", "note": None,
            },
            "seconds_before": 0,
        }
    ]
}  # fmt: skip
DECIDED = {
    "usable": True,
    "unusable_reason": None,
    "scenario_class": "passing_intersection",
    "longitudinal": "set_speed_tracking",
    "longitudinal_detail": None,
    "lateral": None,
    "lateral_detail": None,
    "causes": [0],
    "unobserved": None,
    "trace": "Keep the speed because the lane ahead is clear.",
}


def stage(body):
    return body.get("response_format", {}).get("json_schema", {}).get("name", "free")


def model(body):
    """Labels every keyframe alike, tells free-form stories, and finds every trace perfect."""
    if stage(body) == "seen":
        return json.dumps(SEEN)
    if stage(body) == "decided":
        return json.dumps(DECIDED)
    if stage(body) == "free":
        return "The car drives on."
    text = body["messages"][1]["content"]
    asked = [line for line in text.splitlines() if line[:1].isdigit()]
    wrong = ("not among these", "the car's own motion")
    perfect = [not any(words in line for words in wrong) for line in asked]
    if "drives on" in text:
        perfect = [True] * len(asked)
    answers = [{"number": i, "answer": value} for i, value in enumerate(perfect)]
    return json.dumps({"answers": answers})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    options = {"num_clips": 2, "seed": 4, "seconds": 20.0, "image_size": (64, 48)}
    ingest("procedural", options, root, progress=False)
    return root


def label_flags(store, workdir, url):
    return [
        "label", "--labeller=vlm", f"--store={store}", f"--workdir={workdir}", f"--endpoint={url}",
        "--model=m", "--prices=1,10", "--concurrency=2",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def labelled(store, tmp_path_factory):
    """The folder of an undisturbed run, and how many requests it took."""
    workdir = tmp_path_factory.mktemp("labels")
    with serving(model) as (url, endpoint):
        done = run_script(*label_flags(store, workdir, url))
    assert done.returncode == 0, done.stderr
    return workdir, len(endpoint.bodies)


def test_labels_by_a_model(labelled):
    workdir, requests = labelled
    labels, summary = read_labels(workdir / "labels.jsonl"), read_summary(workdir)
    rejected = sum(summary["rejected"].values())
    assert summary["labels"] == len(labels) and 2 * (len(labels) + rejected) == requests
    assert requests >= 4 and all(label.author == "vlm:m" for label in labels)
    assert summary["prompt_tokens"] == 100 * requests
    assert summary["dollars"] == pytest.approx((100 + 10 * 20) * requests / 1e6)
    assert (workdir / "quarantine.jsonl").read_text() == ""


def test_an_endpoint_that_goes_away_costs_nothing_twice(store, labelled, tmp_path):
    undisturbed, requests = labelled
    left = iter(range(5))

    def reply(body):
        return (401, {}, b"no credit") if next(left, None) is None else model(body)

    with serving(reply) as (url, endpoint):
        stopped = run_script(*label_flags(store, tmp_path, url))
        assert stopped.returncode == 1 and "no credit" in stopped.stderr
        assert not (tmp_path / "labels.jsonl").exists()
        endpoint.reply = model
        asked = len(endpoint.bodies)
        again = run_script(*label_flags(store, tmp_path, url))
        assert again.returncode == 0, again.stderr
        assert len(endpoint.bodies) - asked == requests - 5
    for name in ("labels.jsonl", "rejected.jsonl", "quarantine.jsonl"):
        assert (tmp_path / name).read_bytes() == (undisturbed / name).read_bytes(), name
    seconds = {"seconds": 0}
    assert read_summary(tmp_path) | seconds == read_summary(undisturbed) | seconds


def test_killed_in_the_middle_of_a_question(store, labelled, tmp_path):
    """kill -9 while answers are under way; started again it ends as if nothing had been."""
    undisturbed, requests = labelled
    script = EXPERIMENTS / "label.py"
    running, left = [], iter(range(6))

    def reply(body):
        if next(left, None) is None:
            running[0].kill()
        return model(body)

    with serving(reply) as (url, endpoint):
        command = [sys.executable, script, *label_flags(store, tmp_path, url)[1:]]
        env = os.environ | {"PYTHONPATH": str(EXPERIMENTS.parent)}
        running.append(subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL))
        assert running[0].wait(120) == -signal.SIGKILL
        assert not (tmp_path / "labels.jsonl").exists()
        endpoint.reply, asked = model, len(endpoint.bodies)
        again = run_script(*label_flags(store, tmp_path, url))
        assert again.returncode == 0, again.stderr
        # What was under way when it died may be paid for again, and nothing else.
        assert requests - asked <= len(endpoint.bodies) - asked <= requests - 4
    for name in ("labels.jsonl", "rejected.jsonl", "quarantine.jsonl"):
        assert (tmp_path / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_malformed_answers_are_kept_and_counted(store, tmp_path):
    with serving(lambda body: "I would rather not.") as (url, _):
        done = run_script(*label_flags(store, tmp_path, url))
    assert done.returncode == 0, done.stderr
    summary = read_summary(tmp_path)
    assert summary["labels"] == 0 and summary["rejected"]["malformed_answer"] >= 2
    lines = (tmp_path / "quarantine.jsonl").read_text().splitlines()
    assert len(lines) == summary["rejected"]["malformed_answer"]
    assert json.loads(lines[0])["answer"] == "I would rather not."


def some_labels(path, store):
    """Two valid labels of the store's drives, whatever the checks make of them."""
    from alpamayo_jax.coc.vlm_answer import read_decided, read_seen
    from alpamayo_jax.data.store import open_store

    source = open_store(store)
    labels = []
    for index in range(2):
        seen = read_seen(json.dumps(SEEN), 8.0, 2.0)
        label = read_decided(json.dumps(DECIDED), source.clip_name(index), 8.0, seen, "ann")
        labels.append(label)
    append_labels(path, labels)
    return labels


def test_judged(store, tmp_path):
    some_labels(tmp_path / "labels.jsonl", store)
    out = tmp_path / "out"
    flags = [f"--labels={tmp_path}", f"--store={store}", "--model=m", f"--workdir={out}"]
    with serving(model) as (url, endpoint):
        done = run_script("judge", *flags, f"--endpoint={url}")
        assert done.returncode == 0, done.stderr
        asked = len(endpoint.bodies)
        human = [json.loads(line) for line in (out / "questions.jsonl").read_text().splitlines()]
        human[0]["answer"] = not human[0]["answer"]
        (tmp_path / "human.jsonl").write_text("".join(f"{json.dumps(h)}\n" for h in human))
        again = run_script(
            "judge", *flags, f"--endpoint={url}", f"--human={tmp_path / 'human.jsonl'}"
        )
        assert again.returncode == 0 and len(endpoint.bodies) == asked, again.stderr
    summary = read_summary(out)
    assert summary["traces"] == 4 and summary["unusable"] == 0
    assert summary["scores"]["structured"]["overall"] == 1.0
    assert summary["scores"]["free_form"]["cause_effect"] == 0.5
    assert summary["gain_percent"] == pytest.approx(100.0)
    row = summary["agreement"]["all"]
    assert row["agreement"] == pytest.approx(1 - 1 / row["questions"])
    page = (out / "report.html").read_text()
    assert "free_form" in page and "Agreement with people" in page


def test_reviewed_without_a_page(store, tmp_path):
    labels = some_labels(tmp_path / "labels.jsonl", store)
    flags = ["review", f"--store={store}", f"--labels={tmp_path}", f"--workdir={tmp_path / 'out'}"]
    done = run_script(*flags, "--export")
    assert done.returncode == 0, done.stderr
    reviewed = read_labels(tmp_path / "out" / "reviewed.jsonl")
    assert reviewed == [dataclasses.replace(label) for label in labels]
    assert read_summary(tmp_path / "out")["proposed"] == 2


def test_refused_flags(store, tmp_path):
    done = run_script("review", f"--store={tmp_path}", f"--labels={tmp_path}", "--export")
    assert_refused(done, "review", "no store is there")
    done = run_script("review", f"--store={store}", f"--labels={tmp_path / 'x'}", "--export",
                      f"--workdir={tmp_path}")  # fmt: skip
    assert_refused(done, "review", str(tmp_path / "x"))
    flags = ["--labels=x", "--model=m", f"--workdir={tmp_path}"]
    (tmp_path / "labels.jsonl").write_text("")
    flags[0] = f"--labels={tmp_path}"
    assert_refused(run_script("judge", *flags, "--endpoint=there"), "judge", "'there'")
    done = run_script("judge", *flags, "--endpoint=http://127.0.0.1:9/v1", "--prices=much")
    assert_refused(done, "judge", "--prices=much")
    done = run_script("judge", *flags, "--endpoint=http://127.0.0.1:9/v1")
    assert_refused(done, "judge", "no label")
