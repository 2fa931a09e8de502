"""Critical components: what made a decision right (table 2 of the paper)."""

import dataclasses
import enum
from typing import Any

from alpamayo_jax.coc import fields
from alpamayo_jax.types import InputError

MAX_COMPONENTS = 16
SEEN_TOLERANCE_S = 1e-6


class Kind(enum.StrEnum):
    """The seven kinds of critical components (table 2 of the paper)."""

    OBJECT = "critical_object"
    LIGHT = "traffic_light"
    CONTROL = "traffic_control"
    ROAD_EVENT = "road_event"
    LANE = "lane"
    ROUTE = "routing_intent"
    ODD = "odd_constraint"


# Attributes of each kind and their values; None: any short text. The set is open in what a `type`
# or a `note` may say, and closed where rules compare.
_SIDES_OF = ("left", "right")
ATTRIBUTES: dict[Kind, dict[str, tuple[str, ...] | None]] = {
    Kind.OBJECT: {
        "type": ("vehicle", "pedestrian", "cyclist", "vru", "object"),
        "category": None,
        "pose": ("in_path", "left", "right", "oncoming", "crosswalk"),
        "motion": (
            "stopped", "slowing", "crossing", "cut_in", "moving", "slower", "accelerating",
            "passed", "parked",
        ),
        "uncertainty": ("low", "high"),
        "note": None,
    },
    Kind.LIGHT: {
        "state": ("red", "yellow", "green"),
        "arrow": ("none", "left", "right", "straight"),
        "visibility": ("clear", "occluded"),
        "wait_line": ("yes", "no"),
        "note": None,
    },
    Kind.CONTROL: {
        "type": ("stop_sign", "yield_sign", "stop_line", "yield_line", "crosswalk"),
        "ways": ("all", "two"),
        "note": None,
    },
    Kind.ROAD_EVENT: {
        "type": (
            "curve", "grade", "bump", "narrowing", "roundabout", "ramp", "junction",
        ),
        "side": _SIDES_OF,
        "sharpness": ("gentle", "moderate", "sharp"),
        "note": None,
    },
    Kind.LANE: {
        "type": ("ego_lane", "target_lane", "shoulder", "bike_lane", "lane_line", "clear_road"),
        "side": _SIDES_OF,
        "state": ("free", "blocked", "ends", "narrow"),
        "note": None,
    },
    Kind.ROUTE: {
        "intent": ("lane_change", "turn", "merge", "split", "required_lane", "straight", "park"),
        "side": _SIDES_OF,
        "note": None,
    },
    Kind.ODD: {
        "type": (
            "weather", "visibility", "construction", "emergency_vehicle", "school_bus", "rail",
        ),
        "note": None,
    },
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Component:
    """Something that made the decision right.

    Attributes:
      kind: which of the seven.
      attributes: name -> value, see `ATTRIBUTES`.
      seen_at: seconds on the clip's clock; when it was seen as described, not after the keyframe.
      track: the agent's track in the clip, where it is one.
      fact: what was measured, short: name -> number or text, for example {"gap_m": 14.2}.
    """

    kind: Kind
    attributes: dict[str, str]
    seen_at: float
    track: int | None = None
    fact: dict[str, float | int | str | bool] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As in a file of labels."""
        return {
            "kind": self.kind.value,
            "attributes": dict(self.attributes),
            "seen_at": self.seen_at,
            "track": self.track,
            "fact": dict(self.fact),
        }


def read_components(where: str, value: Any, keyframe: float) -> tuple[Component, ...]:
    """Components from JSON; raises `InputError` naming the field, also of a cause from the future.

    Args:
      where: start of every message.
      value: a list of objects.
      keyframe: seconds; nothing may have been seen later.
    """
    if not isinstance(value, list) or len(value) > MAX_COMPONENTS:
        raise InputError(
            f"{where}: components must be a list of at most {MAX_COMPONENTS}, got "
            f"{fields.short(value)}"
        )
    return tuple(
        _component(f"{where}: components[{i}]", entry, keyframe) for i, entry in enumerate(value)
    )


def _component(where: str, value: Any, keyframe: float) -> Component:
    if not isinstance(value, dict):
        raise InputError(f"{where}: must be an object, got {fields.short(value)}")
    names = {"kind", "attributes", "seen_at", "track", "fact"}
    fields.check_names(where, value, names, {"kind", "attributes", "seen_at"})
    kind = fields.choice(where, "kind", value["kind"], Kind)
    attributes = fields.as_object(where, "attributes", value["attributes"])
    known = ATTRIBUTES[kind]
    for name, text in attributes.items():
        if name not in known:
            raise InputError(
                f"{where}: attributes has no {name!r} for a {kind.value}; it has {', '.join(known)}"
            )
        fields.text(where, f"attributes.{name}", text)
        values = known[name]
        if values is not None and text not in values:
            raise InputError(
                f"{where}: attributes.{name} is {fields.short(text)}, not one of "
                f"{', '.join(values)}"
            )
    seen = fields.number(where, "seen_at", value["seen_at"])
    if seen > keyframe + SEEN_TOLERANCE_S:
        raise InputError(
            f"{where}: seen_at is {seen:.3f} s, after the keyframe at {keyframe:.3f} s; a cause "
            f"must have been seen by then"
        )
    track = value.get("track")
    if track is not None and (isinstance(track, bool) or not isinstance(track, int)):
        raise InputError(
            f"{where}: track must be a whole number or null, got {fields.short(track)}"
        )
    fact = fields.as_object(where, "fact", value.get("fact", {}))
    for name, entry in fact.items():
        short = isinstance(entry, str) and len(entry) <= fields.MAX_TEXT
        if not (short or isinstance(entry, bool) or fields.is_finite(entry)):
            raise InputError(
                f"{where}: fact.{name} must be a finite number or a short text, got "
                f"{fields.short(entry)}"
            )
    return Component(kind, attributes, seen, track, fact)
