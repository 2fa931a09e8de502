"""Reads what a language model answered; whatever is not exactly as asked is an `InputError`."""

import dataclasses
import json
import re
from typing import Any, Sequence

from alpamayo_jax.coc import fields
from alpamayo_jax.coc.component import MAX_COMPONENTS, Component, read_components
from alpamayo_jax.coc.decisions import Lateral, Longitudinal
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.coc.schema import SCHEMA_VERSION, CocLabel
from alpamayo_jax.types import InputError

_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_SEEN_FIELDS = {"kind", "attributes", "seconds_before"}
_DECIDED_FIELDS = {
    "usable", "unusable_reason", "scenario_class", "longitudinal", "longitudinal_detail", "lateral",
    "lateral_detail", "causes", "unobserved", "trace",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class NoLabel:
    """The model says, in due form, that there is nothing to label.

    Attributes:
      rule: "excluded" (must not be learned from) or "no_decision".
      reason: in its words.
    """

    rule: str
    reason: str


def parse_object(text: str, where: str = "answer") -> dict[str, Any]:
    """The one JSON object of an answer; a code fence around it is allowed.

    Raises:
      InputError: anything else.
    """
    fenced = _FENCE.match(text)

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no number")

    try:
        value = json.loads(fenced.group(1) if fenced else text, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode()  # half a character cannot be written
    except (ValueError, RecursionError) as error:
        start = fields.short(text[:60])
        raise InputError(f"{where}: is not one JSON object ({error}); it begins {start}") from None
    return fields.as_object(where, "the answer", value)


def read_seen(
    text: str, keyframe: float, history_s: float, where: str = "answer"
) -> tuple[Component, ...]:
    """The components of the first answer.

    Args:
      text: the answer.
      keyframe: seconds on the clip's clock.
      history_s: seconds before it that the model was shown.
      where: start of messages.

    Raises:
      InputError: names what is wrong, also a component from the future or from before the pictures.
    """
    value = parse_object(text, where)
    fields.check_names(where, value, {"components"}, {"components"})
    entries = value["components"]
    if not isinstance(entries, list) or len(entries) > MAX_COMPONENTS:
        raise InputError(
            f"{where}: components must be a list of at most {MAX_COMPONENTS}, got "
            f"{fields.short(entries)}"
        )
    found = []
    for i, entry in enumerate(entries):
        place = f"{where}: components[{i}]"
        entry = fields.as_object(where, f"components[{i}]", entry)
        fields.check_names(place, entry, _SEEN_FIELDS, _SEEN_FIELDS)
        before = fields.number(place, "seconds_before", entry["seconds_before"])
        if not 0.0 <= before <= history_s + 0.05:
            raise InputError(
                f"{place}: seconds_before is {before}, not between 0 and {history_s}; only what is "
                f"in the pictures counts"
            )
        attributes = fields.as_object(place, "attributes", entry["attributes"])
        given = {name: text for name, text in attributes.items() if text is not None}
        found.append({
            "kind": entry["kind"],
            "attributes": given,
            "seen_at": round(keyframe - before, 3),
        })
    return read_components(where, found, keyframe)


def read_decided(
    text: str,
    clip: str,
    keyframe: float,
    seen: Sequence[Component],
    author: str,
    scenario: ScenarioClass | None = None,
    provenance: dict[str, Any] | None = None,
    where: str = "answer",
) -> CocLabel | NoLabel:
    """The label of the second answer.

    Args:
      text: the answer.
      clip, keyframe: what it is about.
      seen: the components that it could choose causes from.
      author: of the label.
      scenario: why the moment was chosen; None: as the model says.
      provenance: of the label.
      where: start of messages.

    Raises:
      InputError: names what is wrong.
    """
    value = parse_object(text, where)
    fields.check_names(where, value, _DECIDED_FIELDS, _DECIDED_FIELDS)
    if not isinstance(value["usable"], bool):
        found = fields.short(value["usable"])
        raise InputError(f"{where}: usable must be true or false, got {found}")
    if not value["usable"]:
        reason = value["unusable_reason"]
        return NoLabel("excluded", fields.text(where, "unusable_reason", reason))
    for name, kind in (("longitudinal", Longitudinal), ("lateral", Lateral)):
        if value[name] is not None:
            fields.choice(where, name, value[name], kind)
    if value["longitudinal"] is None and value["lateral"] is None:
        return NoLabel("no_decision", "the model sees no change of speed or path")
    causes = value["causes"]
    known = range(len(seen))
    if not isinstance(causes, list) or any(
        isinstance(c, bool) or not isinstance(c, int) or c not in known for c in causes
    ):
        raise InputError(
            f"{where}: causes must be numbers of the {len(seen)} listed entries, got "
            f"{fields.short(causes)}"
        )
    unobserved = value["unobserved"] or ""
    if not causes and not str(unobserved).strip():
        raise InputError(f"{where}: causes is empty and unobserved does not say why")
    # A detail of no decision says nothing; the schema asks for null there.
    details = {
        name: (value[f"{name}_detail"] or "") if value[name] is not None else ""
        for name in ("longitudinal", "lateral")
    }
    return CocLabel.from_json(
        {
            "schema_version": SCHEMA_VERSION,
            "clip": clip,
            "keyframe_s": keyframe,
            "scenario_class": value["scenario_class"] if scenario is None else scenario.value,
            "decisions": {"longitudinal": value["longitudinal"], "lateral": value["lateral"]},
            "details": details,
            "components": [seen[c].to_json() for c in dict.fromkeys(causes)],
            "trace": value["trace"],
            "author": author,
            "provenance": provenance or {},
            "unobserved": "" if causes else unobserved,
        },
        where,
    )
