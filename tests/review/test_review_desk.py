"""Pictures for the page: made once, bounded, and never of what may not be seen yet."""

import io

import numpy as np
import pytest
from PIL import Image
from review_drives import drives
from review_labels import label

from alpamayo_jax.review import desk as desk_lib
from alpamayo_jax.review import pictures
from alpamayo_jax.review.book import Book
from alpamayo_jax.review.desk import Desk
from alpamayo_jax.types import InputError


@pytest.fixture
def desk(tmp_path):
    return Desk(drives(), Book([], tmp_path / "edits.jsonl"))


def test_drives_are_found_by_name(desk):
    first, second = desk.clips
    assert desk.clip(second).clip_id == second and desk.clip(first) is desk.clip(first)
    with pytest.raises(InputError, match="'nobody' is not in drives"):
        desk.clip("nobody")


def test_two_drives_of_one_name_are_refused(tmp_path):
    source = drives()
    object.__setattr__(source, "clip_name", lambda index: "same")
    with pytest.raises(InputError, match="two clips are called 'same'"):
        Desk(source, Book([], tmp_path / "edits.jsonl"))


@pytest.mark.parametrize("kind, mime", [("camera", "jpeg"), ("above", "png"), ("motion", "png")])
def test_pictures(desk, kind, mime):
    name = desk.clips[0]
    found, data = desk.picture(kind, name, 6.0, 5.0, False)
    assert found == f"image/{mime}"
    with Image.open(io.BytesIO(data)) as image:
        assert image.format.lower() == mime
    assert desk.picture(kind, name, 6.0, 5.0, False)[1] is data
    plots = [desk.picture("motion", name, 6.0, t, False) for t in (4.0, 5.0)]
    assert plots[0] == plots[1]


@pytest.mark.parametrize("kind", desk_lib.KINDS)
def test_the_future_is_not_shown_before_it_is_asked_for(desk, kind):
    name = desk.clips[0]
    now = desk.picture(kind, name, 6.0, 6.0, False)
    assert desk.picture(kind, name, 6.0, 9.0, False) == now
    assert desk.picture(kind, name, 6.0, 9.0, True) != now


def test_motion_without_the_future_does_not_depend_on_it(desk):
    clip = desk.clip(desk.clips[0])
    late = clip.ego.t > 6.05
    xyz = clip.ego.xyz + 50.0 * late[:, None]
    track = type(clip.ego)(clip.ego.t, xyz, clip.ego.quat_wxyz)
    other = type(clip)(**(vars(clip) | {"ego": track}))
    assert pictures.motion_picture(clip, 6.0, False) == pictures.motion_picture(other, 6.0, False)
    assert pictures.motion_picture(clip, 6.0, True) != pictures.motion_picture(other, 6.0, True)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("x-ray", 0, 6.0, 6.0), "no picture 'x-ray'"),
        (("camera", None, 6.0, 6.0), "nobody"),
        (("camera", 0, 99.0, 99.0), "no frame"),
        (("above", 0, 99.0, 99.0), "outside the ego track"),
        (("motion", 0, 99.0, 99.0), "poses"),
        (("above", 0, float("nan"), 1.0), "not both times"),
    ],
)
def test_what_cannot_be_shown(desk, arguments, words):
    kind, clip, keyframe, t = arguments
    name = "nobody" if clip is None else desk.clips[clip]
    with pytest.raises(InputError, match=words):
        desk.picture(kind, name, keyframe, t, False)


def test_little_is_kept(desk, monkeypatch):
    monkeypatch.setattr(desk_lib, "_MOST_PICTURES", 3)
    for t in np.arange(2.0, 4.0, 0.1):
        desk.picture("camera", desk.clips[0], 6.0, float(t), False)
    assert len(desk._pictures) == 3


def test_the_span_ends_where_the_drive_does(desk):
    name = desk.clips[0]
    assert desk.span(name, 6.0, False) == (-2.0, 0.0)
    assert desk.span(name, 6.0, True) == (-2.0, 6.0)
    start, end = desk.span(name, 1.0, True)
    assert (start, end) == (-1.0, 6.0)
    last = float(desk.clip(name).ego.t[-1])
    assert desk.span(name, last - 1.5, True)[1] == pytest.approx(1.5)


def test_what_is_wrong_with_a_label(desk):
    name = desk.clips[0]
    found = desk.failures(label(name, 6.0))
    assert found and all(": " in text for text in found)
    assert any(text.startswith("not annotated: components[0]") for text in found)
    words = desk.failures(label(name, 6.0, trace="Slow down because of the pedestrian."))
    assert any("pedestrian" in text for text in words)


def test_road_users_are_circled(desk):
    clip = desk.clip(desk.clips[1])
    track = int(clip.agents.track[0])
    plain = desk.picture("above", desk.clips[1], 6.0, 6.0, True)
    marked = desk.picture("above", desk.clips[1], 6.0, 6.0, True, (track,))
    assert marked != plain
    assert desk.picture("above", desk.clips[1], 6.0, 6.0, True, (999,)) == plain
