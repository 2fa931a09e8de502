"""The file of edits only grows, and is readable however its writer died."""

import dataclasses
import json
import multiprocessing

import pytest
from review_labels import label

from alpamayo_jax.review.edits import Action, Edit, EditLog, Role, checked_author, read_edits
from alpamayo_jax.types import InputError


def edit(**changes):
    whole = Edit("2026-01-02T03:04:05.678+00:00", "ann", Role.ANNOTATOR, Action.ACCEPT, label())
    return dataclasses.replace(whole, **changes)


def append(path, *edits):
    log = EditLog(path)
    for one in edits:
        with log.locked() as write:
            log.read_new()
            write(one)


def test_written_and_read(tmp_path):
    path = tmp_path / "deep" / "edits.jsonl"
    assert read_edits(path) == []
    edits = [edit(), edit(note="zu früh", action=Action.REJECT, base=1, late_components=True)]
    append(path, *edits)
    assert read_edits(path) == edits
    first = path.read_bytes()
    append(path, edit(author="bob"))
    assert path.read_bytes().startswith(first)  # it only grows


def test_a_torn_line_is_left_out_wherever_it_was_torn(tmp_path):
    path = tmp_path / "edits.jsonl"
    append(path, edit(), edit(author="bob"))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in (first + 1, first + 50, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert [e.author for e in read_edits(path)] == ["ann"]
        append(path, edit(author="cleo"))
        assert [e.author for e in read_edits(path)] == ["ann", "cleo"]
    path.write_bytes(whole[: first - 1])
    assert read_edits(path) == []
    append(path, edit(author="cleo"))
    assert [e.author for e in read_edits(path)] == ["cleo"]


def test_only_what_is_new_is_read_again(tmp_path):
    path = tmp_path / "edits.jsonl"
    reader = EditLog(path)
    append(path, edit())
    assert [e.author for e in reader.read_new()] == ["ann"]
    assert reader.read_new() == []
    append(path, edit(author="bob"), edit(author="cleo"))
    assert [e.author for e in reader.read_new()] == ["bob", "cleo"]


def test_what_was_appended_is_not_read_again(tmp_path):
    log = EditLog(tmp_path / "edits.jsonl")
    with log.locked() as write:
        write(edit())
    assert log.read_new() == [] and len(read_edits(tmp_path / "edits.jsonl")) == 1


def _write_many(path, name):
    for i in range(20):
        append(path, edit(author=name, note=f"{i} " + "x" * 1900))


def test_two_processes_never_mix_their_lines(tmp_path):
    path = tmp_path / "edits.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_many, args=(path, name)) for name in ("ann", "bob")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    edits = read_edits(path)
    assert len(edits) == 40
    for name in ("ann", "bob"):
        notes = [e.note.split()[0] for e in edits if e.author == name]
        assert notes == [str(i) for i in range(20)]


@pytest.mark.parametrize(
    "line, words",
    [
        ("not json", "not valid JSON"),
        ("[]", "must be an object"),
        ("[" * 100_000, "not valid JSON"),
        ({"schema_version": 2}, "schema_version"),
        ({"author": ""}, "author"),
        ({"author": "a\nb"}, "author"),
        ({"role": "king"}, "role"),
        ({"action": "burn"}, "action"),
        ({"base": -1}, "base"),
        ({"base": True}, "base"),
        ({"late_components": 1}, "late_components"),
        ({"label": {"clip": "c9"}}, "c9"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_defective_line_is_named(tmp_path, line, words):
    path = tmp_path / "edits.jsonl"
    append(path, edit())
    if isinstance(line, dict):
        line = json.dumps(edit().to_json() | line)
    with open(path, "a") as file:
        file.write(f"{line}\n")
    with pytest.raises(InputError, match=words) as error:
        read_edits(path)
    assert f"{path}:2" in str(error.value)


def test_a_huge_line_is_not_read_into_memory(tmp_path):
    path = tmp_path / "edits.jsonl"
    path.write_bytes(b"x" * (3 * 2**20))
    with pytest.raises(InputError, match="longer than"):
        read_edits(path)


def test_an_invalid_edit_is_not_written(tmp_path):
    path = tmp_path / "edits.jsonl"
    append(path, edit())
    before = path.read_bytes()
    with pytest.raises(InputError, match="trace"):
        append(path, edit(label=label(trace=" ")))
    assert path.read_bytes() == before


def test_names():
    assert checked_author("  Ann Lee ") == "Ann Lee"
    for bad in ("", "  ", None, 3, "x" * 81, "a\tb"):
        with pytest.raises(InputError, match="author"):
            checked_author(bad)
