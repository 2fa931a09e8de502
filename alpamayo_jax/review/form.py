"""A label as fields that a person fills in, and back."""

import dataclasses
from typing import Any

from alpamayo_jax.coc.component import ATTRIBUTES, Component, Kind, read_components
from alpamayo_jax.coc.decisions import SIDES, Lateral
from alpamayo_jax.coc.schema import SCHEMA_VERSION, CocLabel
from alpamayo_jax.coc.vlm_prompt import words
from alpamayo_jax.types import InputError

_UNITS = {"m": "m", "s": "s", "mps": "m/s", "mps2": "m/s²", "deg": "°", "rad": "rad"}
NONE = ""  # how a field says that nothing is chosen


@dataclasses.dataclass
class Form:
    """What is on the page; every choice is the value of its enumeration, or `NONE`."""

    scenario: str = NONE
    longitudinal: str = NONE
    longitudinal_detail: str = NONE
    lateral: str = NONE
    lateral_detail: str = NONE
    components: list[Component] = dataclasses.field(default_factory=list)
    trace: str = ""
    unobserved: str = ""

    @classmethod
    def of(cls, label: CocLabel) -> "Form":
        """The form that shows a label."""
        return cls(
            scenario=label.scenario.value,
            longitudinal=label.longitudinal or NONE,
            longitudinal_detail=str(label.longitudinal_detail),
            lateral=label.lateral or NONE,
            lateral_detail=str(label.lateral_detail),
            components=list(label.components),
            trace=label.trace,
            unobserved=label.unobserved,
        )

    def label(self, clip: str, keyframe_s: float) -> CocLabel:
        """The label that the form says, with a stand-in for the author.

        Raises:
          InputError: something is missing or does not fit; says what.
        """
        if not self.scenario:
            raise InputError("choose the scenario")
        if not (self.longitudinal or self.lateral):
            raise InputError("choose at least one decision")
        if not self.trace.strip():
            raise InputError("write the trace")
        if self.lateral and not self.lateral_detail and side_choices(self.lateral):
            raise InputError("choose the side of the decision for the path")
        value = {
            "schema_version": SCHEMA_VERSION,
            "clip": clip,
            "keyframe_s": keyframe_s,
            "scenario_class": self.scenario,
            "decisions": {
                "longitudinal": self.longitudinal or None,
                "lateral": self.lateral or None,
            },
            "details": {
                "longitudinal": self.longitudinal_detail if self.longitudinal else "",
                "lateral": self.lateral_detail if side_choices(self.lateral) else "",
            },
            "components": [component.to_json() for component in self.components],
            "trace": " ".join(self.trace.split()),
            "author": "person",
            "unobserved": "" if self.components else self.unobserved.strip(),
        }
        return CocLabel.from_json(value)


def side_choices(lateral: str) -> list[str]:
    """The sides that a decision for the path can have."""
    return [side.value for side in SIDES.get(Lateral(lateral), ())] if lateral else []


def new_component(
    kind: str, attributes: dict[str, str | None], seconds_before: float, keyframe_s: float
) -> Component:
    """A component as a person describes it; attributes without a value are left out.

    Raises:
      InputError: a value does not fit, or nothing is said about it.
    """
    given = {name: " ".join(text.split()) for name, text in attributes.items() if text}
    if not any(given.values()):
        raise InputError(f"say something about the {words(kind)}")
    entry: dict[str, Any] = {
        "kind": kind,
        "attributes": given,
        "seen_at": round(keyframe_s - seconds_before, 3),
    }
    return read_components("component", [entry], keyframe_s)[0]


def fact_words(component: Component) -> str:
    """What was measured about a component: "track 3, gap 14.2 m"."""
    parts = [] if component.track is None else [f"track {component.track}"]
    for name, value in component.fact.items():
        stem, _, last = name.rpartition("_")
        unit = _UNITS.get(last) if stem else None
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        parts.append(f"{words(stem)} {shown} {unit}" if unit else f"{words(name)} {shown}")
    return ", ".join(parts)


def seen_words(component: Component, keyframe_s: float) -> str:
    """When a component was seen, relative to the keyframe."""
    before = keyframe_s - component.seen_at
    return "at the keyframe" if before < 0.05 else f"{before:.1f} s before"


def attribute_choices(kind: str) -> dict[str, tuple[str, ...] | None]:
    """Attributes of a kind of component, with the values that each can have (None: free text)."""
    return ATTRIBUTES[Kind(kind)]
