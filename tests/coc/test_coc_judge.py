"""True/False questions about traces, and what becomes of the answers."""

import json

import pytest
from coc_labels import stop_label
from vlm_answers import text_of

from alpamayo_jax.coc import judge
from alpamayo_jax.coc.chat import ChatClient
from alpamayo_jax.coc.chat_cache import AnswerCache
from alpamayo_jax.coc.endpoint import Endpoint
from alpamayo_jax.coc.judge import Axis, Candidate, Judge, Question, Verdict
from alpamayo_jax.testing.chat_server import serving


def candidate(kind="structured", clip="c0", trace="Stop."):
    return Candidate(kind, clip, 8.0, trace)


def judge_of(url, cache=None):
    return Judge(ChatClient(Endpoint(url, "m", attempts=1), cache, sleep=lambda s: None))


def answers(values):
    return json.dumps({"answers": [{"number": i, "answer": v} for i, v in enumerate(values)]})


def perfect(label):
    return [question.expected for question in judge.questions_of(label)]


def test_questions_of_a_label():
    questions = judge.questions_of(stop_label())
    assert [q.axis for q in questions] == [
        Axis.DECISION, Axis.DECISION, Axis.FACTORS, Axis.FACTORS, Axis.FACTORS,
        Axis.CAUSE_EFFECT, Axis.CAUSE_EFFECT, Axis.CAUSE_EFFECT,
    ]  # fmt: skip
    assert "stop for static constraint, stop (" in questions[0].text
    assert "turn, left" in questions[1].text
    assert "traffic light (red)" in questions[2].text
    # Saying yes to everything does not pay.
    assert [q.expected for q in questions] == [True] * 4 + [False] + [True] * 2 + [False]


def test_every_axis_has_a_question_even_where_nothing_was_seen():
    label = stop_label(components=(), unobserved="behind a truck", lateral=None, lateral_detail="")
    questions = judge.questions_of(label)
    assert {q.axis for q in questions} == set(Axis)
    assert "(nothing)" in questions[1].text


def test_a_verdict():
    label = stop_label()
    values = perfect(label)
    values[3] = not values[3]
    with serving(lambda body: answers(values)) as (url, endpoint):
        verdict = judge_of(url).judge(candidate(trace="Stop for the red light."), label)
    assert verdict.answers == tuple(values) and verdict.reason == ""
    assert verdict.score(Axis.DECISION) == 1.0 and verdict.score(Axis.CAUSE_EFFECT) == 1.0
    assert verdict.score(Axis.FACTORS) == pytest.approx(2 / 3)
    assert verdict.score() == pytest.approx(7 / 8) and verdict.prompt_tokens == 100
    text = text_of(endpoint.bodies[0])
    assert "Stop for the red light." in text and label.trace not in text
    for number, question in enumerate(verdict.questions):
        assert f"{number}: {question.text}" in text


@pytest.mark.parametrize(
    "said",
    [
        "all true",
        "{}",
        '{"answers": 3}',
        answers([True]),
        answers(["yes"] * 8),
        json.dumps({"answers": [{"number": 0, "answer": True}] * 8}),
        json.dumps({"answers": [{"number": True, "answer": True}]}),
        json.dumps({"answers": [{"number": str(i), "answer": True} for i in range(8)]}),
    ],
)
def test_an_unusable_verdict_is_kept_as_such(said):
    with serving(lambda body: said) as (url, _):
        verdict = judge_of(url).judge(candidate(), stop_label())
    assert verdict.answers == () and verdict.reason


def test_a_refused_question_harms_no_other():
    label = stop_label()

    def reply(body):
        return (400, {}, b"no") if "Bad." in text_of(body) else answers(perfect(label))

    pairs = [(candidate(trace="Bad."), label), (candidate(trace="Good."), label)]
    with serving(reply) as (url, _):
        first, second = judge_of(url).judge_each(pairs)
    assert first.reason.startswith("refused") and second.score() == 1.0


def test_a_second_run_asks_nothing(tmp_path):
    label = stop_label()
    with serving(lambda body: answers(perfect(label))) as (url, endpoint):
        verdicts = [judge_of(url, AnswerCache(tmp_path)).judge(candidate(), label) for _ in "ab"]
    assert len(endpoint.bodies) == 1 and verdicts[0] == verdicts[1]


def verdict(kind, right, wrong, axis=Axis.CAUSE_EFFECT):
    others = [other for other in Axis if other is not axis]
    questions = [Question(axis, str(i)) for i in range(right + wrong)]
    questions += [Question(other, other) for other in others]
    values = [True] * right + [False] * wrong + [True] * len(others)
    return Verdict(candidate(kind), tuple(questions), tuple(values))


def test_scores_and_gain():
    verdicts = [
        verdict("structured", 3, 1),
        verdict("structured", 1, 1),
        Verdict(candidate("structured"), (Question(Axis.DECISION, "x"),), (), "broken"),
        verdict("free_form", 1, 3),
    ]
    structured, free = judge.score_rows(verdicts)
    assert (structured["traces"], structured["unusable"]) == (3, 1)
    assert structured["cause_effect"] == pytest.approx(0.625) and structured["decision"] == 1.0
    assert free["cause_effect"] == 0.25
    assert judge.gain_percent([structured, free]) == pytest.approx(150.0)
    assert judge.gain_percent([structured]) is None
    assert judge.gain_percent([structured, free | {"cause_effect": 0.0}]) is None
    (lost,) = judge.score_rows(verdicts[2:3])
    assert lost["overall"] is None


def test_answer_lines_hold_everything_to_answer_them_again():
    label = stop_label()
    questions = judge.questions_of(label)
    done = Verdict(candidate(), questions, tuple(perfect(label)))
    lost = Verdict(candidate(clip="c1"), questions, ())
    lines = [json.loads(line) for line in judge.answer_lines([done, lost])]
    assert len(lines) == 16 and [line["number"] for line in lines[:8]] == list(range(8))
    assert lines[0]["answer"] is True and lines[8]["answer"] is None
    assert lines[4]["expected"] is False and lines[0]["trace"] == "Stop."
