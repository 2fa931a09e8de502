"""The page about labels."""

import dataclasses
import re

import pytest

from alpamayo_jax.coc.annotated import NOT_ANNOTATED
from alpamayo_jax.coc.schema import read_labels
from alpamayo_jax.data.store import open_store
from alpamayo_jax.labelling import report, run
from alpamayo_jax.types import InputError

from labelling_store import make_store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(source, labels, folder of the labels)."""
    folder = tmp_path_factory.mktemp("drives")
    store = make_store(folder)
    run.label_store(run.Job(str(store), str(folder / "labels")), progress=False)
    source = open_store(store)
    return source, read_labels(folder / "labels" / "labels.jsonl"), folder / "labels"


def test_good_labels_fail_nothing(made):
    source, labels, _ = made
    checked = report.check_labels(labels, source)
    assert [one.label for one in checked] == labels
    assert set(report.failures_per_rule(checked).values()) == {0}


def test_failures_are_counted_once_per_label_and_rule(made):
    source, labels, _ = made
    ghost = tuple(dataclasses.replace(c, track=99) for c in labels[0].components)
    bad = dataclasses.replace(labels[0], components=ghost * 2, trace="Slow for the cyclist.")
    found = report.failures_per_rule(report.check_labels([bad, *labels[1:]], source))
    assert found[NOT_ANNOTATED] == 1 and found["causal_correctness"] == 1
    by_hand = dataclasses.replace(bad, author="ann")
    found = report.failures_per_rule(report.check_labels([by_hand], source))
    assert found[NOT_ANNOTATED] == 0 and found["causal_correctness"] == 1


def test_labels_of_another_store(made):
    source, labels, _ = made
    with pytest.raises(InputError, match="'elsewhere' is not in store"):
        report.check_labels([dataclasses.replace(labels[0], clip="elsewhere")], source)


def test_choosing_shows_every_class_before_a_second_of_any(made):
    source, labels, _ = made
    checked = report.check_labels(labels, source)
    shown = report.choose(checked, 2)
    assert len({one.label.scenario for one in shown}) == 2
    assert report.choose(checked, 99) == checked and report.choose(checked, 0) == []


def test_the_page_has_the_trace_the_picture_and_the_facts(made):
    source, labels, folder = made
    checked = report.check_labels(labels, source)
    rejected = report.rejected_rules(folder)
    page = report.label_page(checked, source, rejected, pictures=2).html()
    assert page.count("<img ") == 2
    assert labels[0].trace in page and "gap_m" in page and "no_cause" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)


def test_facts_as_rows(made):
    _, labels, _ = made
    (row,) = report.fact_rows(labels[0])
    assert row["track"] == "7" and row["component"] == "critical object"
    assert "motion slowing" in row["described as"] and "gap_m" in row["measured"]


@pytest.mark.parametrize("text", ["nonsense\n", "[]\n", '{"reason": "x"}\n'])
def test_a_damaged_list_of_rejected_keyframes(tmp_path, text):
    (tmp_path / "rejected.jsonl").write_text('{"rule": "no_cause"}\n' + text)
    with pytest.raises(InputError, match="rejected.jsonl:2"):
        report.rejected_rules(tmp_path)
    assert report.rejected_rules(tmp_path / "nowhere") == {}


def test_meta_actions_as_rows(made):
    source, _, _ = made
    rows = report.meta_action_rows(source, [0, 1])
    assert [row["channel"] for row in rows] == ["longitudinal", "lateral", "lane"] * 2
    assert "strong decelerate until" in rows[0]["actions"] and rows[0]["clip"] == "a_lead"
    assert rows[3]["actions"] == "maintain speed until 16.0 s"
    assert rows[5]["actions"] == "keep lane until 16.0 s"
