"""Events of a clip: written, read, checked, mirrored."""

import dataclasses

import pytest

from alpamayo_jax.clip import Event
from alpamayo_jax.data import clip_meta
from alpamayo_jax.data.clip_folder import read_clip, write_clip
from alpamayo_jax.data.mirror import mirror_clip
from alpamayo_jax.testing.clips import edit_json, small_clip, write_small_clip
from alpamayo_jax.types import InputError

EVENTS = (
    Event(0.0, "traffic_light", "red", (10.0, -2.0, 0.5)),
    Event(1.5, "turn_signal", "left"),
    Event(1.5, "keyframe"),
)


def _clip():
    return dataclasses.replace(small_clip(2.0, cameras=()), events=EVENTS).validate()


def test_events_come_back_from_a_folder(tmp_path):
    assert read_clip(write_clip(tmp_path / "drive", _clip())).events == EVENTS
    assert "events" not in clip_meta.describe(small_clip(2.0, cameras=()))


def test_events_in_a_mirror():
    first, second, third = mirror_clip(_clip()).events
    assert first == Event(0.0, "traffic_light", "red", (10.0, 2.0, 0.5))
    assert second == Event(1.5, "turn_signal", "right")
    assert third == EVENTS[2]


@pytest.mark.parametrize(
    "events, message",
    [
        ({}, "events must be a list"),
        ([3], r"events\[0\]: must be an object of t, kind, value and xyz, got 3"),
        ([{"t": 0}], r"events\[0\]: must be an object"),
        ([{"t": 0, "kind": "a", "colour": "red"}], "must be an object"),
        ([{"kind": "a"}], r"events\[0\]: t is missing"),
        ([{"t": "now", "kind": "a"}], "t is 'now'"),
        ([{"t": 0, "kind": 3}], "kind must be text"),
        ([{"t": 0, "kind": "a", "value": 3}], "value must be text"),
        ([{"t": 0, "kind": "a", "xyz": [1, 2]}], "xyz must be three numbers"),
        ([{"t": 0, "kind": "a", "xyz": [1, 2, "x"]}], r"xyz\[2\] is 'x'"),
        ([{"t": 0, "kind": ""}], r"events\[0\]: kind is empty"),
        ([{"t": 1, "kind": "a"}, {"t": 0, "kind": "a"}], r"events\[1\]: t is 0.0 after 1.0"),
    ],
)
def test_defective_events_name_clip_and_field(tmp_path, events, message):
    folder = write_small_clip(tmp_path / "drive", seconds=2.0, cameras=())
    edit_json(folder / "meta.json", lambda meta: meta.update(events=events))
    with pytest.raises(InputError, match=f"clip 'drive'.*{message}"):
        read_clip(folder)


def test_metadata_of_any_size_is_refused_before_it_is_read(tmp_path, monkeypatch):
    folder = write_small_clip(tmp_path / "drive", seconds=2.0, cameras=())
    monkeypatch.setattr(clip_meta, "MAX_BYTES", 100)
    with pytest.raises(InputError, match="meta.json: has .* bytes, more than 100"):
        read_clip(folder)


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
def test_metadata_that_is_no_object(text):
    with pytest.raises(InputError, match="^here: (is not valid JSON|must hold an object)"):
        clip_meta.parse_meta("here", text)
