"""Pictures, pages, videos and recordings of runs made by hand."""

import html.parser

import numpy as np
import pytest
from loop_runs import TICKS, make_run

from alpamayo_jax.closed_loop import page, pictures
from alpamayo_jax.closed_loop.rerun_file import write_rerun
from alpamayo_jax.viz import style

EGO = tuple(round(255 * part) for part in style.EGO)
HIT = (217, 13, 13)


@pytest.fixture(scope="module")
def run():
    return make_run()


def count(image, color, tolerance=3):
    return int((np.abs(image.astype(int) - color) <= tolerance).all(-1).sum())


def test_the_ego_is_red_once_it_has_collided(run):
    before, after = (pictures.from_above(run, 1, 0, tick) for tick in (39, 40))
    assert before.shape == (560, 560, 3) and before.dtype == np.uint8
    assert count(before, EGO) > 200 and count(before, HIT) == 0
    assert count(after, HIT) > 200 and count(after, EGO) == 0
    assert count(pictures.from_above(run, 1, 1, 40), HIT) == 0  # the other rollout did not


def test_what_surrounds_the_ego_is_drawn(run):
    image = pictures.from_above(run, 1, 0, 25)
    for color in ((115, 140, 173), (219, 102, 128), (217, 26, 26)):  # car, walker, red light
        assert count(image, color) > 10
    plain = pictures.from_above(run, 0, 0, 25)
    assert count(plain, (115, 140, 173)) == 0


def test_the_plan_is_drawn_when_there_is_one(run):
    plan = tuple(round(255 * part) for part in style.sample_colors(1)[0])
    assert count(pictures.from_above(run, 0, 0, 5), plan) == 0
    assert count(pictures.from_above(run, 0, 0, 20), plan) > 100


def test_reasoning_is_that_of_the_time(run):
    said = [pictures.reasoning_at(run, 1, 0, tick) for tick in (16, 17, 29, 30, 59)]
    assert said == ["", "Keep going.", "Keep going.", *["Stop for the car ahead."] * 2]


def test_pictures_end_shortly_after_the_rollout(run):
    shapes = {frame.shape for frame in pictures.frames(run, 1, 0, None)}
    assert len(shapes) == 1 and all(side % 2 == 0 for side in shapes.pop()[:2])
    assert sum(1 for _ in pictures.frames(run, 1, 0, None)) == 51
    assert sum(1 for _ in pictures.frames(run, 0, 0, None)) == TICKS


def test_a_strip_goes_from_the_first_plan_to_the_end(run):
    assert pictures.strip_ticks(run, 1, 0)[::3] == [17, 40]
    assert pictures.strip_ticks(run, 0, 0)[-1] == TICKS - 1


class Texts(html.parser.HTMLParser):
    """All text of a page."""

    def __init__(self, text):
        super().__init__()
        self.parts, self.images = [], 0
        self.feed(text)

    def handle_data(self, data):
        self.parts.append(data)

    def handle_starttag(self, tag, attrs):
        self.images += tag == "img"


def test_the_page_tells_what_happened(run, tmp_path):
    path = page.write_page(
        tmp_path / "report.html", run, "mine", [1], None, links={1: ["a.mp4", "a.rrd"]}
    )
    read = Texts(path.read_text())
    text = " ".join(read.parts)
    for words in (
        "policy mine", "It collided at the front at 4.0 s.", "a car stands there", "a.mp4, a.rrd",
        "Stop for the car ahead.", "stop_for_lead", "no incident", "reached the end",
    ):  # fmt: skip
        assert words in text, words
    assert read.images == 4


def test_a_page_of_no_chosen_scene(run, tmp_path):
    read = Texts(page.write_page(tmp_path / "r.html", run, "x", [], None).read_text())
    assert read.images == 0


def test_files_have_names_that_stay_in_their_folder(run, tmp_path):
    pytest.importorskip("av")
    pytest.importorskip("rerun")
    names = page.write_files(tmp_path, run, 1, 0, None, video=True, rerun=True)
    assert names == ["busy_street-0.mp4", "busy_street-0.rrd"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert page.write_files(tmp_path, run, 1, 0, None, video=False, rerun=False) == []


def test_a_recording_of_a_rollout(tmp_path):
    rr = pytest.importorskip("rerun")
    path = write_rerun(tmp_path / "one.rrd", make_run(samples=False), 1, 0)
    assert path.stat().st_size > 10_000 and path.read_bytes()[:4] == b"RRF2"
    assert [p.name for p in tmp_path.iterdir()] == ["one.rrd"]
    assert rr.__version__
