"""How far a judge agrees with people on the same questions."""

import json
import math
import os
import pathlib
from typing import Any, Iterable

from alpamayo_jax.coc import fields
from alpamayo_jax.coc.judge import Axis, Verdict
from alpamayo_jax.types import InputError

_MOST_BYTES = 2**20
_Z = 1.959963984540054  # of a 95 % interval

Key = tuple[str, str, int, int]  # kind, clip, keyframe in milliseconds, number of the question


def read_human_answers(path: str | os.PathLike) -> dict[Key, tuple[str, bool]]:
    """Answers of people, from the lines of `judge.answer_lines` with their own `answer`.

    Lines whose answer is null were not answered, and are left out.

    Returns:
      (kind, clip, keyframe in milliseconds, number) -> (the question's text, the answer).

    Raises:
      InputError: names the line and the field.
    """
    found: dict[Key, tuple[str, bool]] = {}
    try:
        file = open(pathlib.Path(path), "rb")
    except OSError as error:
        raise InputError(f"answers: {path} cannot be read: {error.strerror}") from error
    with file:
        for number, line in enumerate(iter(lambda: file.readline(_MOST_BYTES), b""), 1):
            where = f"{path}:{number}"
            if len(line) >= _MOST_BYTES:
                raise InputError(f"{where}: the line is longer than {_MOST_BYTES} bytes")
            if not line.strip():
                continue
            try:
                value = fields.as_object(where, "line", json.loads(line))
            except (ValueError, RecursionError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(f"{where}: is not valid JSON: {error}") from error
            names = {"kind", "clip", "keyframe_s", "number", "question", "answer"}
            fields.check_names(where, value, names | set(value), names)
            answer, position = value["answer"], value["number"]
            if answer is None:
                continue
            if not isinstance(answer, bool):
                raise InputError(f"{where}: answer must be true, false or null")
            if isinstance(position, bool) or not isinstance(position, int):
                raise InputError(f"{where}: number must be a whole number")
            key = (
                fields.text(where, "kind", value["kind"]),
                fields.text(where, "clip", value["clip"]),
                round(fields.number(where, "keyframe_s", value["keyframe_s"]) * 1000),
                position,
            )
            if key in found:
                raise InputError(f"{where}: the question has an answer already")
            found[key] = fields.text(where, "question", value["question"]), answer
    return found


def agreement_rows(
    verdicts: Iterable[Verdict], human: dict[Key, tuple[str, bool]]
) -> list[dict[str, Any]]:
    """A row per axis and one for all: questions, agreement, low, high, kappa.

    low and high are Wilson's 95 % interval of the agreement; kappa is Cohen's, None where it is not
    defined (one of the two always gives the same answer, and they agree by chance alone).

    Args:
      verdicts: of the judge.
      human: as `read_human_answers` gives them; questions that only one of the two answered do not
        count.

    Raises:
      InputError: a question that people answered is not the one that was asked.
    """
    pairs: dict[str, list[tuple[bool, bool]]] = {axis.value: [] for axis in Axis}
    for verdict in verdicts:
        for number, answer in enumerate(verdict.answers):
            known = human.get((*verdict.candidate.key, number))
            if known is None:
                continue
            question = verdict.questions[number]
            if known[0] != question.text:
                raise InputError(
                    f"answers: clip {verdict.candidate.clip!r} at "
                    f"{verdict.candidate.keyframe_s:.1f} s: people answered {known[0]!r}, the "
                    f"judge {question.text!r}; answer the questions of this run"
                )
            pairs[question.axis.value].append((answer, known[1]))
    pairs["all"] = [pair for found in pairs.values() for pair in found]
    return [{"axis": axis} | _agreement(found) for axis, found in pairs.items()]


def _agreement(pairs: list[tuple[bool, bool]]) -> dict[str, Any]:
    count = len(pairs)
    if not count:
        return {"questions": 0, "agreement": None, "low": None, "high": None, "kappa": None}
    share = sum(a == b for a, b in pairs) / count
    first, second = (sum(pair[i] for pair in pairs) / count for i in (0, 1))
    chance = first * second + (1 - first) * (1 - second)
    spread = _Z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / count / 4)
    return {
        "questions": count,
        "agreement": share,
        "low": max(middle - half, 0.0),
        "high": min(middle + half, 1.0),
        "kappa": (share - chance) / (1 - chance) if chance < 1 else None,
    }
