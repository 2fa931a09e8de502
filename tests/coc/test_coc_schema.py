"""Labels: round trips, and a clear error with clip and field for everything that is wrong."""

import copy
import json

from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from alpamayo_jax.coc import schema
from alpamayo_jax.coc.component import ATTRIBUTES, Component, Kind
from alpamayo_jax.coc.decisions import SIDES, Lateral, Longitudinal, SpeedDetail
from alpamayo_jax.coc.scenarios import KEYFRAME_RULES, ScenarioClass
from alpamayo_jax.coc.schema import CocLabel, Status
from alpamayo_jax.types import InputError


def label(**changes) -> CocLabel:
    values = dict(
        clip="drive-1",
        keyframe_s=4.2,
        scenario=ScenarioClass.SLOW_FOR_LEAD,
        longitudinal=Longitudinal.FOLLOW_LEAD,
        longitudinal_detail=SpeedDetail.SLOW,
        lateral=None,
        components=(
            Component(
                Kind.OBJECT,
                {"type": "vehicle", "pose": "in_path", "motion": "slowing"},
                4.2,
                track=7,
                fact={"gap_m": 14.2},
            ),
        ),
        trace="Slow down because the vehicle ahead is slowing down.",
        author="rules",
    )
    return CocLabel(**(values | changes))


TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)
WORDS = TEXT.filter(lambda text: text.strip())
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def components(draw, keyframe):
    kind = draw(st.sampled_from(list(Kind)))
    attributes = {
        name: draw(st.sampled_from(values) if values else WORDS)
        for name, values in ATTRIBUTES[kind].items()
        if draw(st.booleans())
    }
    values = NUMBERS | TEXT | st.booleans() | st.integers(-9, 9)
    fact = draw(st.dictionaries(TEXT, values, max_size=3))
    seen = keyframe - draw(st.floats(0, 5))
    return Component(kind, attributes, seen, draw(st.none() | st.integers(0, 9**9)), fact)


@st.composite
def labels(draw):
    keyframe = draw(st.floats(-1e4, 1e4))
    longitudinal = draw(st.none() | st.sampled_from(Longitudinal))
    some = st.sampled_from(Lateral)
    lateral = draw(some if longitudinal is None else st.none() | some)
    sides = SIDES.get(lateral, ())
    detail = draw(st.sampled_from(["", *SpeedDetail])) if longitudinal else ""
    return CocLabel(
        clip=draw(TEXT),
        keyframe_s=keyframe,
        scenario=draw(st.sampled_from(ScenarioClass)),
        longitudinal=longitudinal,
        longitudinal_detail=detail,
        lateral=lateral,
        lateral_detail=draw(st.sampled_from(sides)) if sides else "",
        components=tuple(draw(st.lists(components(keyframe), max_size=3))),
        trace=draw(WORDS),
        author=draw(WORDS),
        provenance=draw(st.dictionaries(TEXT, TEXT, max_size=2)),
        status=draw(st.sampled_from(Status)),
        unobserved=draw(st.just("") | TEXT),
    )


@settings(max_examples=80, deadline=None)
@given(labels())
def test_a_label_survives_its_line_and_lines_are_canonical(one):
    line = one.line()
    assert "\n" not in line
    again = schema.parse_label(line)
    assert again == one
    assert again.line() == line


@settings(max_examples=20, deadline=None)
@given(st.lists(labels(), max_size=4, unique_by=lambda one: one.key))
def test_a_file_of_labels_survives(tmp_path_factory, some):
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    schema.append_labels(path, some[:1])
    schema.append_labels(path, some[1:])
    assert schema.read_labels(path) == some


def broken(**changes) -> dict:
    value = label().to_json()
    for name, new in changes.items():
        place, keys = value, name.split("__")
        for key in keys[:-1]:
            place = place[int(key)] if key.isdigit() else place[key]
        if new is KeyError:
            del place[keys[-1]]
        else:
            place[keys[-1]] = new
    return value


class DefectsTest(parameterized.TestCase):
    @parameterized.parameters(
        (dict(decisions__longitudinal="drift"), "decisions.longitudinal is 'drift'"),
        (dict(decisions__lateral="sideways"), "decisions.lateral is 'sideways'"),
        (dict(decisions__longitudinal=["yield", "stop"]), "has at most one"),
        (dict(decisions__longitudinal=None, details={}), "decisions has none"),
        (dict(decisions__third="yield"), "has no field 'third'"),
        (dict(components__0__seen_at=4.3), "after the keyframe"),
        (dict(components__0__seen_at="now"), "seen_at must be a finite number"),
        (dict(components__0__kind="ghost"), "kind is 'ghost'"),
        (dict(components__0__attributes__type="spaceship"), "attributes.type is 'spaceship'"),
        (dict(components__0__attributes__smell="bad"), "no 'smell'"),
        (dict(components__0__track=1.5), "track must be a whole number"),
        (dict(components__0__fact__gap_m=[1]), "fact.gap_m"),
        (dict(components__0__fact__gap_m=10**400), "fact.gap_m"),
        (dict(components="none"), "components must be a list"),
        (dict(trace=""), "trace is empty"),
        (dict(trace="  \n"), "trace is empty"),
        (dict(trace="x" * 3000), "trace must be a text of at most 2000"),
        (dict(trace=7), "trace must be a text"),
        (dict(author=""), "author is empty"),
        (dict(author=KeyError), "field 'author' is missing"),
        (dict(mood="good"), "has no field 'mood'"),
        (dict(keyframe_s=float("nan")), "keyframe_s must be a finite number"),
        (dict(keyframe_s=True), "keyframe_s must be a finite number"),
        (dict(schema_version=2), "schema_version is 2"),
        (dict(schema_version=KeyError), "schema_version is None"),
        (dict(scenario_class="monday"), "scenario_class is 'monday'"),
        (dict(details__lateral="left"), "details.lateral is 'left'"),
        (dict(decisions__lateral="turn"), "takes left, right"),
        (dict(details__longitudinal="fly"), "details.longitudinal is 'fly'"),
        (dict(status="maybe"), "status is 'maybe'"),
        (dict(provenance=[]), "provenance must be an object"),
    )  # fmt: skip
    def test_names_clip_and_field(self, changes, message):
        with pytest.raises(InputError) as error:
            CocLabel.from_json(broken(**changes), "here")
        assert message in str(error.value)
        assert "'drive-1'" in str(error.value) and str(error.value).startswith("here: ")

    @parameterized.parameters((3,), (None,), ([],), ("text",), ({"clip": ""},), ({"clip": 3},))
    def test_what_is_no_label_at_all(self, value):
        with pytest.raises(InputError):
            CocLabel.from_json(value)

    @parameterized.parameters(
        ('{"clip": "a"', "not valid JSON"),
        ('{"clip": "a", "clip": "b"}', "'clip' is there twice"),
        ('{"clip": NaN}', "NaN is no number"),
        ("[" * 100000, "not valid JSON"),
    )
    def test_a_line_that_is_not_json(self, line, message):
        with pytest.raises(InputError, match=message):
            schema.parse_label(line)

    def test_two_decisions_of_one_channel_as_two_fields(self):
        line = label().line().replace(
            '"longitudinal": "lead_obstacle_following"',
            '"longitudinal": "yield", "longitudinal": "lead_obstacle_following"',
        )
        with pytest.raises(InputError, match="'longitudinal' is there twice"):
            schema.parse_label(line)

    def test_a_label_made_wrong_in_memory_is_not_written(self):
        wrong = label(components=(Component(Kind.LIGHT, {"state": "red"}, 9.0),))
        with pytest.raises(InputError, match="after the keyframe"):
            wrong.line()

    def test_a_label_as_long_as_a_book_is_not_written(self):
        with pytest.raises(InputError, match="longer than"):
            label(provenance={"notes": "x" * schema.MAX_LINE_BYTES}).line()


class FileTest(parameterized.TestCase):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.path = tmp_path / "labels.jsonl"

    def lines(self, *keyframes):
        return [label(keyframe_s=t).line() for t in keyframes]

    def test_a_torn_last_line_is_left_out_and_written_over(self):
        first, second = self.lines(5.0, 6.0)
        self.path.write_text(f"{first}\n{second[:40]}")
        assert [x.keyframe_s for x in schema.read_labels(self.path)] == [5.0]
        schema.append_labels(self.path, [label(keyframe_s=7.0)])
        assert [x.keyframe_s for x in schema.read_labels(self.path)] == [5.0, 7.0]

    def test_a_torn_only_line(self):
        self.path.write_text(self.lines(5.0)[0][:-3])
        assert schema.read_labels(self.path) == []
        schema.append_labels(self.path, [label()])
        assert schema.read_labels(self.path) == [label()]

    def test_a_huge_line_is_named_and_the_rest_is_unharmed(self):
        first, second = self.lines(5.0, 6.0)
        with open(self.path, "w") as file:
            file.write(f"{first}\n")
            for _ in range(40):
                file.write("x" * 2**17)
            file.write(f"\n{second}\n")
        with pytest.raises(InputError, match=r"labels.jsonl:2: the line is longer than"):
            schema.read_labels(self.path)
        problems = []
        assert [x.keyframe_s for x in schema.read_labels(self.path, problems)] == [5.0, 6.0]
        assert len(problems) == 1

    def test_defective_lines_are_collected_and_the_rest_is_read(self):
        first, second = self.lines(5.0, 6.0)
        future = json.loads(second) | {"keyframe_s": 1.0}
        self.path.write_text(f"{first}\nnonsense\n{json.dumps(future)}\n{first}\n\n{second}\n")
        problems = []
        assert [x.keyframe_s for x in schema.read_labels(self.path, problems)] == [5.0, 6.0]
        assert [p.split(": ")[0].rsplit(":")[-1] for p in problems] == ["2", "3", "4"]
        assert "has a label already" in problems[2]

    def test_no_file(self):
        with pytest.raises(InputError, match="cannot be read"):
            schema.read_labels(self.path)

    def test_nothing_is_appended_where_one_is_wrong(self):
        schema.append_labels(self.path, [label()])
        with pytest.raises(InputError):
            schema.append_labels(self.path, [label(keyframe_s=5.0), label(trace="")])
        assert schema.read_labels(self.path) == [label()]


def test_reading_does_not_change_what_is_read():
    value = label().to_json()
    before = copy.deepcopy(value)
    CocLabel.from_json(value)
    assert value == before


def test_fields_that_may_be_missing():
    value = label().to_json()
    for name in ("provenance", "status", "unobserved"):
        del value[name]
    assert CocLabel.from_json(value) == label()


def test_the_closed_sets_are_complete():
    assert (len(Longitudinal), len(Lateral), len(ScenarioClass), len(Kind)) == (7, 8, 16, 7)
    assert sum(scenario.proactive for scenario in ScenarioClass) == 5
    assert set(KEYFRAME_RULES) == set(ScenarioClass) and set(ATTRIBUTES) == set(Kind)
