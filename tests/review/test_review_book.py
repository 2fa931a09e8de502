"""Three passes by three people, conflicts, audits, and what comes out."""

import dataclasses
import datetime

import pytest
from review_labels import label

from alpamayo_jax.coc.decisions import Longitudinal
from alpamayo_jax.coc.schema import Status
from alpamayo_jax.review.book import LEAST_AUDIT, MOST_AUDIT, Book, Conflict, same_content
from alpamayo_jax.review.edits import Action, Role, read_edits
from alpamayo_jax.types import InputError

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
ANNOTATOR, SECOND, AUDIT = Role
SAVE, ACCEPT, REJECT = Action


@pytest.fixture
def book(tmp_path):
    return Book([label("c0"), label("c1"), label("c2")], tmp_path / "edits.jsonl")


def act(book, name="c0", author="ann", role=ANNOTATOR, action=ACCEPT, note="", **changes):
    key = label(name).key
    entry = book.entry(key)
    changed = dataclasses.replace(entry.label, **changes)
    return book.record(changed, author, role, action, len(entry.edits), note, now=NOW)


def test_untouched(book):
    entry = book.entry(("c0", 8000))
    assert entry.label == label("c0") and entry.open_role is ANNOTATOR
    assert len(book) == 3 and [label.clip for label in book.labels()] == ["c0", "c1", "c2"]


def test_accepting_keeps_the_author_of_the_words(book):
    entry = act(book)
    assert entry.label.status is Status.ACCEPTED and entry.label.author == "rules"
    assert entry.open_role is SECOND and entry.edits[0].time == "2026-01-02T00:00:00.000+00:00"


def test_changing_makes_one_the_author(book):
    entry = act(book, trace="Keep a gap to the vehicle ahead.", action=SAVE)
    assert entry.label.author == "ann" and entry.label.status is Status.PROPOSED
    assert entry.label.provenance == {"labeller": "human", "edited_from": "rules"}
    assert entry.open_role is ANNOTATOR
    entry = act(book)
    assert entry.label.author == "ann" and entry.label.status is Status.ACCEPTED
    assert entry.original == label("c0")


def test_rejecting_needs_a_reason(book):
    with pytest.raises(InputError, match="note"):
        act(book, action=REJECT)
    entry = act(book, action=REJECT, note="the car is parked")
    assert entry.label.status is Status.REJECTED and entry.edits[0].note == "the car is parked"


def test_every_pass_is_another_person(book):
    with pytest.raises(InputError, match="no annotator"):
        act(book, author="bob", role=SECOND)
    act(book)
    with pytest.raises(InputError, match="another pass"):
        act(book, author="ann", role=SECOND)
    with pytest.raises(InputError, match="second person"):
        act(book, author="cleo", role=AUDIT)
    entry = act(book, author="bob", role=SECOND)
    assert entry.open_role is None
    with pytest.raises(InputError, match="another pass"):
        act(book, author="bob", role=AUDIT)
    entry = act(book, author="cleo", role=AUDIT, action=REJECT, note="no")
    assert entry.label.status is Status.REJECTED and len(entry.edits) == 3


def test_nothing_is_kept_of_what_was_refused(book, tmp_path):
    for bad in ({"author": " "}, {"author": "bob", "role": SECOND}, {"trace": ""}):
        with pytest.raises(InputError):
            act(book, **bad)
    assert read_edits(tmp_path / "edits.jsonl") == [] and book.summary()["edits"] == 0


def test_two_people_at_once(book, tmp_path):
    """Also in two processes: a second book on the same file."""
    other = Book([label("c0")], tmp_path / "edits.jsonl")
    act(book, action=SAVE, trace="Mine.")
    with pytest.raises(Conflict, match="c0.*8.0 s.*ann"):
        act(other, author="bob", action=SAVE, trace="Mine!")
    assert other.entry(("c0", 8000)).label.trace == "Mine."
    act(other, author="bob", action=SAVE, trace="Ours.")
    assert [e.label.trace for e in read_edits(tmp_path / "edits.jsonl")] == ["Mine.", "Ours."]


def test_a_new_book_on_the_same_file_is_the_same(book, tmp_path):
    act(book)
    act(book, "c1", action=REJECT, note="no")
    act(book, author="bob", role=SECOND, longitudinal=Longitudinal.YIELD)
    again = Book([label("c0"), label("c1"), label("c2")], tmp_path / "edits.jsonl")
    assert again.labels() == book.labels() and again.summary() == book.summary()


def test_a_label_that_a_person_began(book, tmp_path):
    new = label("c7", 4.0)
    book.record(new, "ann", ANNOTATOR, ACCEPT, 0)
    entry = book.entry(new.key)
    assert entry.original is None and entry.label.author == "ann"
    assert entry.label.provenance == {"labeller": "human"}
    assert book.keys[-1] == ("c7", 4000) and len(book) == 4


def test_what_comes_next(book):
    assert book.next_for("ann", ANNOTATOR) == ("c0", 8000)
    assert book.next_for("ann", ANNOTATOR, after=("c0", 8000)) == ("c1", 8000)
    assert book.next_for("ann", ANNOTATOR, after=("c2", 8000)) == ("c0", 8000)
    assert book.next_for("bob", SECOND) is None
    act(book, "c1")
    assert book.next_for("ann", ANNOTATOR, after=("c0", 8000)) == ("c2", 8000)
    assert book.next_for("bob", SECOND) == ("c1", 8000)
    assert book.next_for("ann", SECOND) is None
    act(book, "c0")
    act(book, "c2")
    assert book.next_for("ann", ANNOTATOR) is None


def many(tmp_path, count, changed):
    """`count` labels by ann, checked by bob, who changes the first `changed`."""
    book = Book([label(f"c{i}") for i in range(count)], tmp_path / "many.jsonl")
    for i in range(count):
        act(book, f"c{i}")
        act(book, f"c{i}", "bob", SECOND, **({"trace": "Better."} if i < changed else {}))
    return book


@pytest.mark.parametrize(
    "count, changed, share",
    [(3, 0, MOST_AUDIT), (20, 0, LEAST_AUDIT), (20, 5, 0.15), (20, 20, MOST_AUDIT)],
)
def test_audits_depend_on_the_record(tmp_path, count, changed, share):
    book = many(tmp_path, count, changed)
    row = book.annotators()["ann"]
    assert row["checked"] == count and row["changed"] == changed
    assert row["agreement"] == pytest.approx(1 - changed / count)
    assert row["audit_share"] == pytest.approx(share)


def test_audits_are_drawn_once_and_for_all(tmp_path):
    book = many(tmp_path, 60, 0)
    drawn = book.to_audit()
    assert 1 <= len(drawn) <= 15
    assert Book([], tmp_path / "many.jsonl").to_audit() == drawn
    assert book.next_for("cleo", AUDIT) == drawn[0] and book.next_for("bob", AUDIT) is None
    act(book, drawn[0][0], "cleo", AUDIT)
    assert book.to_audit() == drawn[1:] and book.summary()["audited"] == 1


def test_same_content():
    a = label()
    other = dataclasses.replace(a, author="x", provenance={}, status=Status.ACCEPTED)
    assert same_content(a, other)
    assert not same_content(a, dataclasses.replace(a, trace="Other."))


def test_summary(book):
    act(book)
    act(book, "c1", action=REJECT, note="no")
    entry = book.entry(("c2", 8000))
    book.record(entry.label, "ann", ANNOTATOR, SAVE, 0, late_components=True)
    summary = book.summary()
    assert summary["labels"] == 3 and summary["edits"] == 3 and summary["late_components"] == 1
    assert (summary["accepted"], summary["rejected"], summary["proposed"]) == (1, 1, 1)
    assert summary["checked_twice"] == 0 and summary["annotators"] == {}
