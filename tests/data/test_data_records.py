"""Any clip, as a record and back, is the same clip."""

import dataclasses
import json
import pathlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alpamayo_jax.clip import AgentTable, Event, MapLines, ReasoningLabel
from alpamayo_jax.data import clip_meta, records, staging
from alpamayo_jax.testing.clips import small_clip

BASE = small_clip(8.2, cameras=())
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
WORDS = TEXTS.filter(lambda text: text and "\0" not in text)
NUMBERS = st.floats(-1e6, 1e6)
TIMES = st.lists(st.floats(0, 100), unique=True, max_size=5).map(sorted)


@st.composite
def agents(draw):
    count = draw(st.integers(0, 4))
    values = st.lists(NUMBERS, min_size=3 * count, max_size=3 * count)
    sizes = st.lists(st.floats(1e-3, 50), min_size=3 * count, max_size=3 * count)
    return AgentTable(
        t=np.array(draw(st.lists(NUMBERS, min_size=count, max_size=count)), np.float64),
        track=np.arange(count, dtype=np.int32),
        xyz=np.array(draw(values), np.float64).reshape(count, 3),
        yaw=np.zeros(count),
        lwh=np.array(draw(sizes), np.float64).reshape(count, 3),
        category=np.array(draw(st.lists(WORDS, min_size=count, max_size=count)), str),
    )


@st.composite
def maps(draw):
    parts = draw(st.lists(st.integers(0, 3), max_size=4))
    offsets = np.concatenate([[0], np.cumsum(parts)]).astype(np.int64)
    count = 3 * sum(parts)
    points = draw(st.lists(NUMBERS, min_size=count, max_size=count))
    words = st.lists(WORDS, min_size=len(parts), max_size=len(parts))
    ids = draw(st.none() | words)
    return MapLines(
        points=np.array(points, np.float64).reshape(-1, 3),
        offsets=offsets,
        kind=np.array(draw(words), str),
        ids=None if ids is None else np.array(ids, str),
    )


@st.composite
def clips(draw):
    places = st.none() | st.tuples(NUMBERS, NUMBERS, NUMBERS)
    labels = [ReasoningLabel(t, draw(TEXTS)) for t in draw(TIMES)]
    events = [Event(t, draw(WORDS), draw(TEXTS), draw(places)) for t in draw(TIMES)]
    return dataclasses.replace(
        BASE,
        clip_id=draw(WORDS),
        ground_z=draw(st.floats(-10, 0)),
        agents=draw(st.none() | agents()),
        map_lines=draw(st.none() | maps()),
        reasoning=tuple(labels),
        events=tuple(events),
    ).validate()


def _same(found, expected):
    for name in ("clip_id", "ground_z", "reasoning", "events"):
        assert getattr(found, name) == getattr(expected, name)
    for name in ("ego", "agents", "map_lines"):
        a, b = getattr(found, name), getattr(expected, name)
        assert (a is None) == (b is None)
        for column, value in vars(b).items() if b is not None else ():
            other = getattr(a, column)
            assert (other is None) == (value is None)
            if value is not None:
                assert other.dtype.kind == value.dtype.kind and other.shape == value.shape
                np.testing.assert_array_equal(other, value)


@given(clips())
@settings(max_examples=60, deadline=None)
def test_a_record_is_the_clip(clip):
    record = records.to_record(clip, None, "")
    _same(records.to_clip(record, pathlib.Path("/nowhere")), clip)


@given(clips())
@settings(max_examples=30, deadline=None)
def test_so_is_a_staged_one(clip):
    job = staging.Job("clips", (), "")
    record = records.to_record(clip, None, "")
    staged = staging.unpack(staging.pack(record))
    assert job.media_path(1234567) == "media/1234/1234567.array_record"
    _same(records.to_clip(staged, pathlib.Path("/nowhere")), clip)


@given(clips())
@settings(max_examples=30, deadline=None)
def test_the_description_is_plain_json(clip):
    text = json.dumps(clip_meta.describe(clip), allow_nan=False)
    assert clip_meta.parse_meta("here", text)["clip_id"] == clip.clip_id
