"""Judges traces by True/False questions to a language model, and the model by people's answers.

    python experiments/judge.py --labels=LABELS --endpoint=http://127.0.0.1:8000/v1 --model=NAME \\
        --workdir=OUT --reference=LABELS/reviewed.jsonl --store=STORE --human=answers.jsonl

The questions come from the reference labels (those that people accepted, best; without --reference
the labels themselves). With --store, free-form traces are asked of the same endpoint and judged
beside the structured ones. Nothing is paid for twice when a stopped run is started again. Writes:

    OUT/questions.jsonl  every question with the model's answer; answer them yourself in a copy,
                         true or false in place of `answer`, and give it as --human
    OUT/report.html      scores of structured and free-form traces, and agreement with people
    OUT/summary.json     scores (per kind of trace: decision, factors, cause_effect, overall),
                         gain_percent (structured over free-form, cause_effect), agreement (per
                         axis), traces, unusable, prompt_tokens, completion_tokens, dollars, retries
"""

import pathlib

from absl import flags

from alpamayo_jax import cli
from alpamayo_jax.coc import agreement, judge
from alpamayo_jax.coc.chat import ChatClient, ChatUnavailable
from alpamayo_jax.coc.chat_cache import AnswerCache
from alpamayo_jax.coc.endpoint import Endpoint, cost
from alpamayo_jax.coc.free_form import free_form_traces
from alpamayo_jax.coc.schema import CocLabel, Status, read_labels
from alpamayo_jax.coc.vlm import Moment
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.store import open_store
from alpamayo_jax.files import write_bytes
from alpamayo_jax.metrics.tables import text_table, write_summary
from alpamayo_jax.types import InputError
from alpamayo_jax.viz.report import Report

_LABELS = flags.DEFINE_string(
    "labels", None, "File of labels, or the folder that label.py wrote.", required=True
)
_REFERENCE = flags.DEFINE_string("reference", None, "File of labels that give the questions.")
_STORE = flags.DEFINE_string("store", None, "Drives, to ask for free-form traces as well.")
_HUMAN = flags.DEFINE_string("human", None, "File of people's answers to the same questions.")
_ENDPOINT = flags.DEFINE_string("endpoint", None, "Base URL, up to /v1.", required=True)
_MODEL = flags.DEFINE_string("model", None, "Name of the model there.", required=True)
_KEY_ENV = flags.DEFINE_string("key_env", "OPENAI_API_KEY", "Environment variable with the key.")
_PRICES = flags.DEFINE_list("prices", [], "Dollars per million prompt and completion tokens.")
_MOST = flags.DEFINE_integer("most", 2000, "Labels to judge, the first ones.", lower_bound=1)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)


def _client(workdir: pathlib.Path) -> ChatClient:
    try:
        prices = tuple(map(float, _PRICES.value)) or (None, None)
        prompt_price, completion_price = prices
    except ValueError:
        raise ConfigError(f"--prices={','.join(_PRICES.value)}: two numbers are needed") from None
    endpoint = Endpoint(
        _ENDPOINT.value,
        _MODEL.value,
        key_env=_KEY_ENV.value,
        prompt_price=prompt_price,
        completion_price=completion_price,
    )
    return ChatClient(endpoint, AnswerCache(workdir / "cache"))


def _pairs(labels: list[CocLabel], client: ChatClient):
    """(candidate, reference) of everything to judge."""
    references = {label.key: label for label in labels}
    if _REFERENCE.value:
        found = read_labels(_REFERENCE.value)
        references = {label.key: label for label in found if label.status is not Status.REJECTED}
    chosen = [label for label in labels if label.key in references][: _MOST.value]
    if not chosen:
        raise InputError(f"no label of {_LABELS.value} has a reference in {_REFERENCE.value}")
    for label in chosen:
        candidate = judge.Candidate(judge.STRUCTURED, label.clip, label.keyframe_s, label.trace)
        yield candidate, references[label.key]
    if not _STORE.value:
        return
    source = open_store(_STORE.value)
    numbers = {source.clip_name(i): i for i in range(len(source))}
    moments = (
        Moment(source.clip(numbers[label.clip]), label.keyframe_s)
        for label in chosen
        if label.clip in numbers
    )
    for candidate in free_form_traces(client, moments):
        if candidate is not None:
            yield candidate, references[candidate.key[1:]]


def main(argv) -> None:
    del argv
    workdir = cli.make_workdir(_WORKDIR.value)
    labels = pathlib.Path(_LABELS.value)
    labels = read_labels(labels / "labels.jsonl" if labels.is_dir() else labels)
    human = agreement.read_human_answers(_HUMAN.value) if _HUMAN.value else {}
    client = _client(workdir)
    verdicts = list(judge.Judge(client).judge_each(_pairs(labels, client)))
    rows = judge.score_rows(verdicts)
    agreed = agreement.agreement_rows(verdicts, human) if human else []
    gain = judge.gain_percent(rows)
    tokens = [sum(getattr(v, f"{n}_tokens") for v in verdicts) for n in ("prompt", "completion")]
    lines = "".join(f"{line}\n" for line in judge.answer_lines(verdicts))
    write_bytes(workdir / "questions.jsonl", lines.encode())
    write_summary(
        workdir / "summary.json",
        {
            "scores": {row["kind"]: row for row in rows},
            "gain_percent": gain,
            "agreement": {row["axis"]: row for row in agreed},
            "traces": len(verdicts),
            "unusable": sum(not verdict.answers for verdict in verdicts),
            "prompt_tokens": tokens[0],
            "completion_tokens": tokens[1],
            "dollars": cost(client.endpoint, *tokens),
            "retries": client.usage.retries,
        },
    )
    _report(rows, agreed, gain, verdicts).write(workdir / "report.html")
    print(text_table(rows))
    if agreed:
        print(f"\n{text_table(agreed)}")
    print(f"report: {workdir / 'report.html'}")


def _report(rows, agreed, gain, verdicts) -> Report:
    report = Report("Judged traces", f"by {_MODEL.value}")
    figures = {"traces": len(verdicts)}
    if gain is not None:
        figures["structured over free-form, cause and effect, %"] = gain
    report.figures(figures)
    report.section(
        "Scores",
        "The share of True/False questions answered as a perfect trace would have them, averaged "
        "over traces.",
    )
    report.table(rows)
    if agreed:
        report.section(
            "Agreement with people",
            "The share of questions that the model and people answer alike, with its 95 % "
            "interval, and Cohen's kappa.",
        )
        report.table(agreed)
    worst = sorted((v for v in verdicts if v.answers), key=lambda v: v.score())[:10]
    report.section("Lowest scores")
    report.table([
        {"kind": v.candidate.kind, "clip": v.candidate.clip, "keyframe": v.candidate.keyframe_s,
         "score": v.score(), "trace": v.candidate.trace}
        for v in worst
    ])  # fmt: skip
    return report


if __name__ == "__main__":
    cli.run(main, failures=(ChatUnavailable,))
