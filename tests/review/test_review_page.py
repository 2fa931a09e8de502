"""The page in a real browser: looking, changing, judging, by several people."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from review_labels import label

from alpamayo_jax.coc.decisions import Longitudinal
from alpamayo_jax.coc.schema import append_labels, read_labels
from alpamayo_jax.data.ingest import ingest
from alpamayo_jax.data.store import open_store
from alpamayo_jax.review.edits import Action, Role, read_edits

pytest.importorskip("nicegui")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
]  # fmt: skip

ROOT = pathlib.Path(__file__).resolve().parents[2]
TIMES = (5.0, 7.0, 9.0, 11.0)
QUIET = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
HOSTILE = '<img src=x onerror="document.title=1"> Slow down because the vehicle ahead is slowing.'


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a store of one drive, and automatic labels of it."""
    folder = tmp_path_factory.mktemp("review")
    options = {"num_clips": 1, "seed": 4, "seconds": 18.0, "image_size": (96, 64)}
    ingest("procedural", options, folder / "store", progress=False)
    name = open_store(folder / "store").clip_name(0)
    labels = [label(name, t) for t in TIMES]
    labels[3] = label(name, TIMES[3], trace=HOSTILE)
    append_labels(folder / "labels.jsonl", labels)
    return folder


@contextlib.contextmanager
def serving_page(store, folder):
    """Yields (address, process) of experiments/review.py."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, ROOT / "experiments" / "review.py", f"--store={store}",
        f"--labels={folder / 'labels.jsonl'}", f"--port={port}", "--author=ann",
    ]  # fmt: skip
    # NiceGUI looks for pytest there, and would serve something else.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    env["PYTHONPATH"] = str(ROOT)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env, cwd=folder)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the page ended"
                time.sleep(0.1)
        yield address, process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(work):
    with serving_page(work / "store", work) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, server):
    """Opens the page; remembers what it asked for, and fails on errors of scripts."""
    address, _ = server
    pages, errors = [], []

    def go(query=""):
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(60_000)
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.goto(f"{address}/{query}")
        page.get_by_test_id("motion").wait_for()
        page.wait_for_load_state("networkidle")
        pages.append(page)
        return page

    yield go
    for page in pages:
        asked = [url for url in page.asked if not url.startswith(("data:", "blob:"))]
        assert asked and all("://127.0.0.1:" in url for url in asked)
        page.close()
    assert not errors


def query(work, t, **more):
    name = read_labels(work / "labels.jsonl")[0].clip
    return "?" + "&".join(f"{k}={v}" for k, v in ({"clip": name, "t": t} | more).items())


def pictures(page, kind):
    return [url for url in page.asked if f"/picture/{kind}" in url]


def choose(page, name, option):
    page.get_by_test_id(name).locator("visible=true").first.click()
    page.get_by_role("option", name=option, exact=True).click()


def wait_for_edit(work, count):
    for _ in range(600):
        edits = read_edits(work / "edits.jsonl")
        if len(edits) >= count:
            return edits
        time.sleep(0.05)
    raise AssertionError(f"{len(edits)} edits, not {count}")


def test_only_the_past_until_the_future_is_asked_for(open_page, work):
    page = open_page(query(work, 9.0))
    assert page.get_by_test_id("stage").inner_text().startswith("Stage I ")
    assert "at 9.0 s" in page.get_by_test_id("name").inner_text()
    for kind in ("camera", "above", "motion"):
        size = page.get_by_test_id(kind).evaluate("e => [e.naturalWidth, e.clientWidth]")
        assert min(size) > 50, kind
        assert pictures(page, kind) and all("future=0" in url for url in pictures(page, kind))
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('[data-testid=time]').innerText == '+0.0 s'")
    page.wait_for_timeout(700)
    shown = {float(url.split("&t=")[1].split("&")[0]) for url in pictures(page, "camera")}
    assert len(shown) > 2 and min(shown) == 7.0 and max(shown) <= 9.0
    page.get_by_test_id("reveal").click()
    motion = "document.querySelector('[data-testid=motion]')"
    page.wait_for_function(f"{motion}.src.includes('future=1')")
    assert page.get_by_test_id("stage").inner_text().startswith("Stage II ")
    assert not page.get_by_test_id("reveal").is_visible()


def test_words_of_a_label_are_never_part_of_the_page(open_page, work):
    page = open_page(query(work, 11.0))
    assert page.get_by_test_id("trace").input_value() == HOSTILE
    assert page.title() == "Chain of Causation review" and page.locator("img[src=x]").count() == 0


def test_checks_speak_while_one_writes(open_page, work):
    page = open_page(query(work, 5.0))
    problems = page.get_by_test_id("problems")
    page.get_by_test_id("trace").fill("Slow down because of the pedestrian.")
    problems.get_by_text("pedestrian").first.wait_for()
    page.get_by_test_id("trace").fill("")
    problems.get_by_text("write the trace").wait_for()


def test_change_and_accept(open_page, work):
    page = open_page(query(work, 5.0))
    page.get_by_test_id("trace").fill("Yield to the vehicle that is slowing ahead.")
    choose(page, "longitudinal", "yield")
    page.get_by_test_id("accept").click()
    (edit,) = wait_for_edit(work, 1)
    assert (edit.author, edit.role, edit.action) == ("ann", Role.ANNOTATOR, Action.ACCEPT)
    assert edit.label.longitudinal is Longitudinal.YIELD and edit.label.author == "ann"
    assert edit.label.trace.startswith("Yield") and not edit.late_components
    page.get_by_text("at 7.0 s").wait_for()  # on to the next one
    assert "1 accepted" in page.get_by_test_id("counts").inner_text()


def test_reject_only_with_a_reason(open_page, work):
    page = open_page(query(work, 7.0))
    page.get_by_test_id("reject").click()
    page.get_by_text("a rejection needs a note").wait_for()
    assert len(read_edits(work / "edits.jsonl")) == 1
    page.get_by_test_id("note").fill("the car is parked")
    page.get_by_test_id("reject").click()
    edits = wait_for_edit(work, 2)
    assert edits[1].action is Action.REJECT and edits[1].note == "the car is parked"


def test_a_component_that_was_added_after_the_future_is_marked(open_page, work):
    page = open_page(query(work, 9.0))
    page.get_by_test_id("reveal").click()
    page.get_by_test_id("adder").click()
    choose(page, "kind", "traffic light")
    choose(page, "attribute_state", "red")
    page.get_by_test_id("add").click()
    page.get_by_test_id("components").get_by_text("traffic light").wait_for()
    page.get_by_test_id("save").click()
    edit = wait_for_edit(work, 3)[2]
    assert edit.late_components and edit.action is Action.SAVE
    assert edit.label.components[-1].attributes == {"state": "red"}
    page.get_by_test_id("history").click()
    page.get_by_text("components changed after the future was shown").wait_for()


def test_the_second_annotator_is_somebody_else(open_page, work):
    page = open_page(query(work, 5.0, role="second"))
    page.get_by_test_id("accept").click()
    page.get_by_text("another pass").wait_for()
    page.get_by_test_id("author").fill("bob")
    page.get_by_test_id("accept").click()
    edit = wait_for_edit(work, 4)[3]
    assert (edit.author, edit.role, edit.base) == ("bob", Role.SECOND, 1)
    assert edit.label.author == "ann"  # whose words they still are


def test_two_pages_do_not_overwrite_each_other(open_page, work):
    one, other = open_page(query(work, 11.0)), open_page(query(work, 11.0, author="cleo"))
    one.get_by_test_id("trace").fill("Keep a gap to the vehicle that is slowing.")
    one.get_by_test_id("save").click()
    wait_for_edit(work, 5)
    other.get_by_test_id("accept").click()
    other.get_by_text("was changed by ann").wait_for()
    assert len(read_edits(work / "edits.jsonl")) == 5
    expected = "Keep a gap to the vehicle that is slowing."
    assert other.get_by_test_id("trace").input_value() == expected


def test_a_keyframe_of_ones_own(open_page, work):
    page = open_page()
    page.get_by_label("New keyframe").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox", name="Drive").click()
    page.get_by_role("option").first.click()
    dialog.get_by_role("spinbutton").fill("8.0")
    dialog.get_by_text("Begin").click()
    page.get_by_text("at 8.0 s").wait_for()
    page.get_by_test_id("accept").click()
    page.get_by_text("choose the scenario").first.wait_for()


def test_an_empty_desk(browser, work, tmp_path):
    """Without labels the page says how to begin."""
    (tmp_path / "labels.jsonl").write_text("")
    with serving_page(work / "store", tmp_path) as (address, _):
        page = browser.new_page()
        page.goto(address)
        page.get_by_text("There is no label yet").wait_for()
        assert not page.get_by_test_id("accept").is_visible()
        page.keyboard.press("Space")
        page.get_by_label("New keyframe").click()
        page.get_by_role("dialog").get_by_role("combobox", name="Drive").click()
        page.get_by_role("option").first.click()
        page.get_by_role("dialog").get_by_role("spinbutton").fill("99")
        page.get_by_text("Begin", exact=True).click()
        page.get_by_text("the time must be").wait_for()
        page.close()


def test_only_this_machine_is_answered(server):
    address, _ = server
    request = urllib.request.Request(address, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=5)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{address}/picture/camera?clip=x&keyframe=1&t=1", timeout=5)


def test_stopped_it_writes_what_came_out(server, work):
    """The last test of this file: it stops the page."""
    _, process = server
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    reviewed = read_labels(work / "reviewed.jsonl")
    assert [(one.keyframe_s, one.status.value) for one in reviewed] == [
        (5.0, "accepted"), (7.0, "rejected"), (9.0, "proposed"), (11.0, "proposed"),
    ]  # fmt: skip
    summary = json.loads((work / "summary.json").read_text())
    assert (summary["labels"], summary["edits"], summary["late_components"]) == (4, 5, 1)
    assert read_labels(work / "labels.jsonl")[0].longitudinal is Longitudinal.FOLLOW_LEAD
