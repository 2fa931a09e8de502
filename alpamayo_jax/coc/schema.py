"""Labels of the Chain of Causation: a decision, what caused it, and a trace that says so.

A label belongs to one keyframe of one clip. Its decisions come from a closed set (`decisions`), its
critical components from an open one (table 2 of the paper), and every component was seen at or
before the keyframe: what happens later only tells which decision was taken.

A file of labels has one JSON object per line (`read_labels`, `append_labels`):

    schema_version  1
    clip            name of the clip in its source
    keyframe_s      seconds on the clip's clock
    scenario_class  one of `scenarios.ScenarioClass`
    decisions       {"longitudinal": name or null, "lateral": name or null}
    details         {"longitudinal": `SpeedDetail` or "", "lateral": `Side` or ""}
    components      list of {"kind", "attributes", "seen_at", "track", "fact"}
    trace           one or two sentences
    author          who: "rules", "vlm:<model>" or a person
    provenance      object: how it was made
    status          "proposed", "accepted" or "rejected"
    unobserved      why no component explains the decision, "" where one does
"""

import dataclasses
import enum
import json
import os
import pathlib
from typing import Any, Iterable, Iterator

from alpamayo_jax import files
from alpamayo_jax.coc import fields
from alpamayo_jax.coc.component import ATTRIBUTES, Component, Kind, read_components
from alpamayo_jax.coc.decisions import SIDES, Lateral, Longitudinal, Side, SpeedDetail
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.types import InputError

__all__ = [
    "SCHEMA_VERSION", "MAX_LINE_BYTES", "ATTRIBUTES", "Kind", "Status", "Component", "CocLabel",
    "Lateral", "Longitudinal", "ScenarioClass", "Side", "SpeedDetail", "append_labels",
    "parse_label", "read_labels",
]  # fmt: skip

SCHEMA_VERSION = 1
MAX_LINE_BYTES = 2**20


class Status(enum.StrEnum):
    """Whether a person has judged the label."""

    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclasses.dataclass(frozen=True)
class CocLabel:
    """What the ego decided at a keyframe, and why; fields as in the head of this module."""

    clip: str
    keyframe_s: float
    scenario: ScenarioClass
    longitudinal: Longitudinal | None
    lateral: Lateral | None
    components: tuple[Component, ...]
    trace: str
    author: str
    longitudinal_detail: str = ""
    lateral_detail: str = ""
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    status: Status = Status.PROPOSED
    unobserved: str = ""
    schema_version: int = SCHEMA_VERSION

    @property
    def key(self) -> tuple[str, int]:
        """What no two labels of one file share: the clip, and the keyframe in milliseconds."""
        return self.clip, round(self.keyframe_s * 1000)

    def to_json(self) -> dict[str, Any]:
        """The object that `from_json` reads."""
        return {
            "schema_version": self.schema_version,
            "clip": self.clip,
            "keyframe_s": self.keyframe_s,
            "scenario_class": self.scenario.value,
            "decisions": {"longitudinal": self.longitudinal, "lateral": self.lateral},
            "details": {
                "longitudinal": str(self.longitudinal_detail),
                "lateral": str(self.lateral_detail),
            },
            "components": [component.to_json() for component in self.components],
            "trace": self.trace,
            "author": self.author,
            "provenance": self.provenance,
            "status": self.status.value,
            "unobserved": self.unobserved,
        }

    @classmethod
    def from_json(cls, value: Any, where: str = "label") -> "CocLabel":
        """Reads and checks a label.

        Args:
          value: what `json.loads` gave.
          where: start of every message, for example the file and line.

        Raises:
          InputError: names the clip and the field, what was found and what was expected.
        """
        return _label(value, where)

    def validate(self, where: str = "label") -> "CocLabel":
        """Raises `InputError` as `from_json` does for a label made in memory; returns self."""
        _label(json.loads(json.dumps(self.to_json())), where)
        return self

    def line(self) -> str:
        """One line of a file of labels, without its end; the same for equal labels.

        Raises:
          InputError: the label is not valid, or longer than `MAX_LINE_BYTES`.
        """
        self.validate()
        text = json.dumps(self.to_json(), sort_keys=True, ensure_ascii=False, allow_nan=False)
        if len(text.encode()) >= MAX_LINE_BYTES:
            raise InputError(
                f"clip {self.clip!r}: a label of {len(text.encode())} bytes is longer than "
                f"{MAX_LINE_BYTES}; shorten its provenance or components"
            )
        return text


_FIELDS = {
    "schema_version", "clip", "keyframe_s", "scenario_class", "decisions", "details", "components",
    "trace", "author", "provenance", "status", "unobserved",
}  # fmt: skip
_OPTIONAL = {"details", "provenance", "status", "unobserved"}


def _label(value: Any, where: str) -> CocLabel:
    if not isinstance(value, dict):
        raise InputError(f"{where}: must be an object, got {fields.short(value)}")
    clip = value.get("clip")
    if not isinstance(clip, str) or not clip:
        raise InputError(f"{where}: clip must be a name, got {fields.short(clip)}")
    where = f"{where}: clip {clip!r}"
    version = value.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise InputError(
            f"{where}: schema_version is {fields.short(version)}; this version reads "
            f"{SCHEMA_VERSION}"
        )
    fields.check_names(where, value, _FIELDS, _FIELDS - _OPTIONAL)
    keyframe = fields.number(where, "keyframe_s", value["keyframe_s"])
    decisions = fields.as_object(where, "decisions", value["decisions"])
    fields.check_names(f"{where}: decisions", decisions, {"longitudinal", "lateral"}, set())
    details = fields.as_object(where, "details", value.get("details", {}))
    fields.check_names(f"{where}: details", details, {"longitudinal", "lateral"}, set())
    longitudinal = _decision(where, "longitudinal", decisions, Longitudinal)
    lateral = _decision(where, "lateral", decisions, Lateral)
    if longitudinal is None and lateral is None:
        raise InputError(f"{where}: decisions has none; a label has one or two, or is not written")
    return CocLabel(
        clip=clip,
        keyframe_s=keyframe,
        scenario=fields.choice(where, "scenario_class", value["scenario_class"], ScenarioClass),
        longitudinal=longitudinal,
        longitudinal_detail=_speed_detail(where, longitudinal, details.get("longitudinal", "")),
        lateral=lateral,
        lateral_detail=_side(where, lateral, details.get("lateral", "")),
        components=read_components(where, value["components"], keyframe),
        trace=fields.text(where, "trace", value["trace"]),
        author=fields.text(where, "author", value["author"]),
        provenance=fields.as_object(where, "provenance", value.get("provenance", {})),
        status=fields.choice(where, "status", value.get("status", Status.PROPOSED), Status),
        unobserved=fields.text(where, "unobserved", value.get("unobserved", ""), empty=True),
    )


def _decision(where: str, channel: str, decisions: dict[str, Any], kind: type) -> Any:
    value = decisions.get(channel)
    if value is None:
        return None
    if isinstance(value, list):
        raise InputError(
            f"{where}: decisions.{channel} has {len(value)} decisions, {fields.short(value)}; a "
            f"channel has at most one"
        )
    return fields.choice(where, f"decisions.{channel}", value, kind)


def _speed_detail(where: str, decision: Longitudinal | None, value: Any) -> str:
    if value == "":
        return ""
    if decision is None:
        raise InputError(f"{where}: details.longitudinal is {fields.short(value)} of no decision")
    return fields.choice(where, "details.longitudinal", value, SpeedDetail)


def _side(where: str, decision: Lateral | None, value: Any) -> str:
    wanted = SIDES.get(decision, ())
    if value == "" and not wanted:
        return ""
    if value not in [side.value for side in wanted]:
        expected = ", ".join(wanted) if wanted else "nothing"
        raise InputError(
            f"{where}: details.lateral is {fields.short(value)}; {decision or 'no decision'} takes "
            f"{expected}"
        )
    return Side(value)


def parse_label(line: str | bytes, where: str = "label") -> CocLabel:
    """The label in one line of a file of labels.

    Raises:
      InputError: not JSON, a name twice in one object, or not a label.
    """
    try:
        value = json.loads(line, object_pairs_hook=_unique, parse_constant=_no_constant)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not valid JSON: {error}") from error
    return CocLabel.from_json(value, where)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the field {twice!r} is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def read_labels(
    path: str | os.PathLike, problems: list[str] | None = None
) -> list[CocLabel]:
    """The labels of a file, in order.

    A last line without an end was being written when its writer died; it is left out.

    Args:
      path: one label per line.
      problems: where given, a defective line is described there and the others are read; otherwise
        it raises.

    Raises:
      InputError: there is no such file; a line is too long or no label; a keyframe has two labels.
    """
    path = pathlib.Path(path)
    labels: dict[tuple[str, int], CocLabel] = {}
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            if line is None:
                raise InputError(f"{where}: the line is longer than {MAX_LINE_BYTES} bytes")
            label = parse_label(line, where)
            if label.key in labels:
                raise InputError(
                    f"{where}: clip {label.clip!r}: keyframe_s {label.keyframe_s:.3f} has a label "
                    f"already; keep one of them"
                )
            labels[label.key] = label
        except InputError as error:
            if problems is None:
                raise
            problems.append(str(error))
    return list(labels.values())


def _lines(path: pathlib.Path) -> Iterator[tuple[int, bytes | None]]:
    """(number, whole line), None in place of a line that is too long; empty lines are skipped."""
    try:
        file = open(path, "rb")
    except OSError as error:
        raise InputError(f"labels: {path} cannot be read: {error.strerror}") from error
    with file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            long = len(line) > MAX_LINE_BYTES
            while long and line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE_BYTES + 1)
            if not line.endswith(b"\n"):
                return
            if long or line.strip():
                yield number, None if long else line


def append_labels(path: str | os.PathLike, labels: Iterable[CocLabel]) -> None:
    """Adds labels at the end of a file, which is made where missing, and waits for the disk.

    A torn last line is cut off first.

    Raises:
      InputError: a label is not valid; nothing is written then.
    """
    data = "".join(f"{label.line()}\n" for label in labels).encode()
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        files.cut_torn_line(file)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
