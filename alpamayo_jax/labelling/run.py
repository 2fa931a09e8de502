"""Labels of a whole store, clip by clip.

What is finished of a clip is one file in WORKDIR/parts, written whole; a run that was killed at any
moment goes on from there and ends with the same labels. When all clips are done the parts become:

    WORKDIR/labels.jsonl      the labels, in the order of the store (`coc.schema`)
    WORKDIR/rejected.jsonl    keyframes without a label: clip, keyframe_s, rule, reason, and the
                              label that failed a check where there was one
    WORKDIR/quarantine.jsonl  vlm: malformed answers, whole
    WORKDIR/summary.json      labels, per_decision, per_class, rejected (by rule), clips, failed;
                              vlm: prompt_tokens, completion_tokens, dollars of all answers
"""

import collections
import dataclasses
import functools
import json
import pathlib
import shutil
import time
from typing import Any, Callable

import tqdm

from alpamayo_jax import files
from alpamayo_jax.clip import Clip
from alpamayo_jax.coc.annotated import Annotations
from alpamayo_jax.coc.balance import balance, per_class, per_decision
from alpamayo_jax.coc.checks import check_label
from alpamayo_jax.coc.endpoint import Endpoint, cost
from alpamayo_jax.coc.rules.labeller import keyframes_of, label_clip
from alpamayo_jax.coc.schema import CocLabel
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.store import open_store
from alpamayo_jax.types import InputError

LABELLERS = ("rules", "vlm")


@dataclasses.dataclass(frozen=True)
class Job:
    """What is labelled where.

    Attributes:
      store: folder of the store.
      workdir: folder of the results.
      labeller: "rules" or "vlm".
      most_per_class: labels of each class that are kept; 0: all.
      endpoint: vlm: fields of `coc.endpoint.Endpoint`, as (name, value) pairs.
    """

    store: str
    workdir: str
    labeller: str = "rules"
    most_per_class: int = 0
    endpoint: tuple[tuple[str, Any], ...] = ()

    def part(self, index: int) -> pathlib.Path:
        """Where the labels of clip number `index` are kept until all are done."""
        return pathlib.Path(self.workdir) / "parts" / f"{index:08d}.json"


def label_store(
    job: Job,
    *,
    engine: str = "local",
    beam_options: tuple[str, ...] = (),
    progress: bool = True,
) -> dict[str, Any]:
    """Labels every clip of a store, or goes on with what was begun in the folder.

    Args:
      job: what and where.
      engine: "local" or "beam", whose runner `beam_options` choose.
      beam_options: as on a Beam command line.
      progress: show a bar.

    Returns:
      What is written to summary.json.

    Raises:
      ConfigError: an unknown labeller or engine, or settings of the endpoint that make no sense.
      InputError: no store, or the folder holds other labels.
      ChatUnavailable: vlm: the endpoint cannot be used; started again, the run goes on.
    """
    if job.labeller not in LABELLERS or engine not in ("local", "beam"):
        raise ConfigError(
            f"labelling: labeller {job.labeller!r} is one of {', '.join(LABELLERS)}, and engine "
            f"{engine!r} local or beam"
        )
    begin = time.perf_counter()
    source = open_store(job.store)
    _claim(job, len(source))
    summary = pathlib.Path(job.workdir) / "summary.json"
    if not summary.is_file():
        left = [index for index in range(len(source)) if not job.part(index).is_file()]
        if engine == "beam":
            _beam(job, left, beam_options)
        else:
            for index in tqdm.tqdm(left, desc="clips", unit="clip", disable=not progress):
                label_part(job, index)
        found = _merge(job, len(source)) | {"seconds": time.perf_counter() - begin}
        files.write_bytes(summary, (json.dumps(found, indent=1) + "\n").encode())
    shutil.rmtree(job.part(0).parent, ignore_errors=True)
    return json.loads(summary.read_text())


def label_part(job: Job, index: int) -> None:
    """Labels clip number `index` and keeps the result; what a worker does."""
    source = _open(job.store)
    part: dict[str, Any] = {name: [] for name in _PART}
    try:
        clip = source.clip(index)
        annotations = Annotations(clip)
    except InputError as error:
        part["failed"].append({"name": source.clip_name(index), "reason": str(error)})
    else:
        label, rejected, quarantined = _labeller(job)(clip)
        part["rejected"], part["quarantined"] = rejected, quarantined
        provenances = [one.provenance for one in label] + [q["provenance"] for q in quarantined]
        part["tokens"] = [
            [p["prompt_tokens"], p["completion_tokens"]] for p in provenances if "requests" in p
        ]
        for one in label:
            failures = check_label(one) + annotations.check(one, job.labeller == "rules")
            if failures:
                entry = _rejected(
                    one.clip, one.keyframe_s, failures[0].rule, failures[0].message
                )
                part["rejected"].append(entry | {"label": one.to_json()})
            else:
                part["labels"].append(one.to_json())
    text = json.dumps(part, sort_keys=True, allow_nan=False)
    files.write_bytes(job.part(index), text.encode())


_PART = ("labels", "rejected", "quarantined", "failed", "tokens")
_Labelled = tuple[list[CocLabel], list[dict[str, Any]], list[dict[str, Any]]]


@functools.lru_cache(maxsize=1)
def _open(store: str):
    return open_store(store)


@functools.lru_cache(maxsize=1)
def _labeller(job: Job) -> Callable[[Clip], _Labelled]:
    """Clip -> (labels, rejected, quarantined)."""
    if job.labeller == "rules":
        return _label_by_rules
    # Only this labeller needs the client.
    from alpamayo_jax.coc import chat, chat_cache, endpoint, vlm

    try:
        settings = endpoint.Endpoint(**dict(job.endpoint))
    except TypeError as error:
        raise ConfigError(f"labelling: the endpoint: {error}") from None
    cache = chat_cache.AnswerCache(pathlib.Path(job.workdir) / "cache")
    model = vlm.VlmLabeller(chat.ChatClient(settings, cache))

    def label(clip: Clip) -> _Labelled:
        moments = [vlm.Moment(clip, t) for t in keyframes_of(clip)]
        labels, rejected, quarantined = [], [], []
        for outcome in model.label_each(moments):
            if isinstance(outcome, CocLabel):
                labels.append(outcome)
                continue
            rejected.append(
                _rejected(outcome.clip, outcome.keyframe_s, outcome.rule, outcome.reason)
            )
            quarantined.append(dataclasses.asdict(outcome))
        return labels, rejected, quarantined

    return label


def _label_by_rules(clip: Clip) -> _Labelled:
    labels, rejected = label_clip(clip)
    return labels, [_rejected(clip.clip_id, r.t, r.rule, r.reason) for r in rejected], []


def _rejected(clip: str, t: float, rule: str, reason: str) -> dict[str, Any]:
    return {"clip": clip, "keyframe_s": t, "rule": rule, "reason": reason}


def _claim(job: Job, clips: int) -> None:
    """Writes what is labelled in this folder, or checks that it is the same."""
    own = {
        "clips": clips,
        "first": _open(job.store).clip_name(0) if clips else "",
        "labeller": job.labeller,
        "most_per_class": job.most_per_class,
        "model": dict(job.endpoint).get("model", ""),
    }
    path = pathlib.Path(job.workdir) / "label.json"
    if not path.is_file():
        files.write_bytes(path, (json.dumps(own, indent=1) + "\n").encode())
        return
    try:
        other = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"labels: {path} is damaged: {error}") from error
    if other != own:
        raise InputError(
            f"labels: {job.workdir} holds labels of {other}, and these are of {own}; choose "
            f"another folder"
        )


def _merge(job: Job, clips: int) -> dict[str, Any]:
    """Writes the three files from all parts; their counts."""
    merged: dict[str, list[Any]] = {name: [] for name in _PART}
    for index in range(clips):
        for name, entries in json.loads(job.part(index).read_bytes()).items():
            merged[name] += entries
    labels = [CocLabel.from_json(value) for value in merged["labels"]]
    twice = [key for key, count in collections.Counter(x.key for x in labels).items() if count > 1]
    if twice:
        raise InputError(f"labels: two clips of the store are called {twice[0][0]!r}; rename one")
    kept = balance(labels, job.most_per_class)
    workdir = pathlib.Path(job.workdir)
    _write_lines(workdir / "labels.jsonl", [label.line() for label in kept])
    for name, entries in (("rejected", merged["rejected"]), ("quarantine", merged["quarantined"])):
        if name == "rejected" or job.labeller == "vlm":
            lines = [json.dumps(entry, sort_keys=True) for entry in entries]
            _write_lines(workdir / f"{name}.jsonl", lines)
    rules = collections.Counter(entry["rule"] for entry in merged["rejected"])
    return {
        "labels": len(kept),
        "per_decision": per_decision(kept),
        "per_class": per_class(kept),
        "rejected": dict(sorted(rules.items())),
        "left_out_by_balance": len(labels) - len(kept),
        "clips": clips,
        "failed": merged["failed"],
        "labeller": job.labeller,
        **(_spent(job, merged["tokens"]) if job.labeller == "vlm" else {}),
    }


def _spent(job: Job, tokens: list[list[int]]) -> dict[str, Any]:
    """What all answers cost, also those that an earlier start of the run paid for."""
    prompt, completion = (sum(pair[i] for pair in tokens) for i in (0, 1))
    dollars = cost(Endpoint(**dict(job.endpoint)), prompt, completion)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "dollars": dollars}


def _write_lines(path: pathlib.Path, lines: list[str]) -> None:
    files.write_bytes(path, "".join(f"{line}\n" for line in lines).encode())


def _beam(job: Job, left: list[int], flags: tuple[str, ...]) -> None:
    from alpamayo_jax.data.beam import import_beam, pipeline_options

    beam, options = import_beam(), pipeline_options(flags)
    with beam.Pipeline(options=options) as pipeline:
        spread = pipeline | beam.Create(left) | beam.Reshuffle()
        _ = spread | beam.Map(functools.partial(label_part, job))
