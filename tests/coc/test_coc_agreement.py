"""Agreement of a judge with people, against numbers worked out by hand."""

import json

import pytest

from alpamayo_jax.coc.agreement import agreement_rows, read_human_answers
from alpamayo_jax.coc.judge import Axis, Candidate, Question, Verdict, answer_lines
from alpamayo_jax.types import InputError


def verdict(values, clip="c0", axis=Axis.DECISION):
    questions = tuple(Question(axis, f"question {i}") for i in range(len(values)))
    return Verdict(Candidate("structured", clip, 8.0, "Stop."), questions, tuple(values))


def write(path, verdicts, answers=None):
    lines = [json.loads(line) for line in answer_lines(verdicts)]
    for line, answer in zip(lines, answers or [line["answer"] for line in lines]):
        line["answer"] = answer
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_read_what_was_written(tmp_path):
    human = read_human_answers(write(tmp_path / "a.jsonl", [verdict([True, False])]))
    assert human == {
        ("structured", "c0", 8000, 0): ("question 0", True),
        ("structured", "c0", 8000, 1): ("question 1", False),
    }


def test_agreement_by_hand(tmp_path):
    # Both yes 4, both no 3, judge alone yes 2, person alone yes 1.
    judge = [True] * 4 + [False] * 3 + [True] * 2 + [False]
    person = [True] * 4 + [False] * 3 + [False] * 2 + [True]
    one = verdict(judge)
    human = read_human_answers(write(tmp_path / "a.jsonl", [one], person))
    rows = {row["axis"]: row for row in agreement_rows([one], human)}
    row = rows["decision"]
    assert row["questions"] == 10 and row["agreement"] == pytest.approx(0.7)
    assert row["kappa"] == pytest.approx((0.7 - 0.5) / 0.5)
    assert row["low"] == pytest.approx(0.3968, abs=1e-4)
    assert row["high"] == pytest.approx(0.8922, abs=1e-4)
    assert rows["all"] == row | {"axis": "all"} and rows["factors"]["agreement"] is None


def test_what_only_one_answered_does_not_count(tmp_path):
    human = read_human_answers(
        write(tmp_path / "a.jsonl", [verdict([True, True])], [True, None])
    )
    assert len(human) == 1
    rows = agreement_rows([verdict([True, True]), verdict([True], clip="c9")], human)
    assert rows[-1]["questions"] == 1 and rows[-1]["agreement"] == 1.0
    assert rows[-1]["kappa"] is None and rows[-1]["high"] == 1.0
    lost = Verdict(verdict([True]).candidate, verdict([True]).questions, ())
    assert agreement_rows([lost], human)[-1]["questions"] == 0


def test_other_questions_are_not_compared(tmp_path):
    human = read_human_answers(write(tmp_path / "a.jsonl", [verdict([True])]))
    other = Verdict(verdict([True]).candidate, (Question(Axis.DECISION, "else?"),), (True,))
    with pytest.raises(InputError, match="c0.*8.0 s.*question 0.*else"):
        agreement_rows([other], human)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"answer": "yes"}, "answer"),
        ({"number": 1.5}, "number"),
        ({"keyframe_s": "x"}, "keyframe_s"),
        ({"question": ""}, "question"),
        ({"clip": None}, "clip"),
    ],
)
def test_a_bad_line_is_named(tmp_path, changes, words):
    (line,) = answer_lines([verdict([True])])
    path = tmp_path / "a.jsonl"
    path.write_text(f"{line}\n{json.dumps(json.loads(line) | changes)}\n")
    with pytest.raises(InputError, match=words) as error:
        read_human_answers(path)
    assert f"{path}:2" in str(error.value)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '{"kind": "x"}', "x" * 2**20])
def test_a_line_that_is_no_answer(tmp_path, text):
    path = tmp_path / "a.jsonl"
    path.write_text(f"\n{text}\n")
    with pytest.raises(InputError, match="a.jsonl:2"):
        read_human_answers(path)


def test_answers_twice_and_no_file(tmp_path):
    (line,) = answer_lines([verdict([True])])
    (tmp_path / "a.jsonl").write_text(f"{line}\n{line}\n")
    with pytest.raises(InputError, match="already"):
        read_human_answers(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        read_human_answers(tmp_path / "b.jsonl")
