"""What a reasoning text decides: at most one decision of each axis, from the closed set.

English, by words and not by sentences: whoever writes may put the reason before or behind the
decision, and may say "the ego slows down" or "slow down". What belongs to the reason ("because the
car ahead is braking") is set aside first, so that it is not read as a decision.
"""

import dataclasses
import functools
import re
from typing import Sequence

from alpamayo_jax.coc import intent_words
from alpamayo_jax.coc.component import Component, Kind
from alpamayo_jax.coc.decisions import Lateral, Longitudinal, Side, SpeedDetail
from alpamayo_jax.coc.evidence import components_of
from alpamayo_jax.coc.schema import CocLabel


@dataclasses.dataclass(frozen=True)
class Intent:
    """A decision on each axis, or none.

    Attributes:
      longitudinal: what decides the speed, or None.
      speed: how the speed changes, or "" where that is not said.
      lateral: what decides the path, or None.
      side: "left", "right", "merge", "split" or "".
      bends: sides to which the road is said to bend, in order of their names.
    """

    longitudinal: Longitudinal | None = None
    speed: str = ""
    lateral: Lateral | None = None
    side: str = ""
    bends: tuple[str, ...] = ()


_LONGEST = 2000  # characters that are read


@functools.lru_cache(maxsize=65536)
def parse_intent(text: str) -> Intent | None:
    """The decisions that a text states; None where it states none of the closed set."""
    said = " ".join(text[:_LONGEST].lower().replace("’", "'").split())
    components = components_of(text[:_LONGEST])
    bends = _bends(components)
    for parts in _decisions(said):
        speeds = (_speed(part, said, components) for part in parts)
        longitudinal, speed = next((found for found in speeds if found[0] is not None), (None, ""))
        paths = (_path(part, said) for part in parts)
        lateral, side = next((found for found in paths if found[0] is not None), (None, ""))
        if longitudinal is not None or lateral is not None:
            return Intent(longitudinal, str(speed), lateral, str(side), bends)
    return None


def intent_of(label: CocLabel) -> Intent:
    """The decisions of a label."""
    return Intent(
        label.longitudinal,
        str(label.longitudinal_detail),
        label.lateral,
        str(label.lateral_detail),
        _bends(label.components),
    )


def _bends(components: Sequence[Component]) -> tuple[str, ...]:
    """Sides to which the road bends; both where a curve is named without its side."""
    found = set()
    for component in components:
        at = component.attributes
        if component.kind in (Kind.ROAD_EVENT, Kind.ROUTE) and "side" in at:
            found.add(at["side"])
        elif component.kind is Kind.ROAD_EVENT and at.get("type") in ("curve", "roundabout"):
            found |= {"left", "right"}
    return tuple(sorted(found))


def _decisions(said: str) -> list[list[str]]:
    """Where decisions may stand, in order: the text without reasons, then with them."""
    own = intent_words.OTHERS.sub(" ", intent_words.NOT.sub(" ", intent_words.THINGS.sub(" thing ", said)))
    return [intent_words.NEXT.split(text) for text in (intent_words.REASON.sub(" ", own), own)]


def _speed(part: str, said: str, components: tuple[Component, ...]):
    for pattern, decision, speed in intent_words.SPEEDS:
        if pattern.search(part):
            if decision is Longitudinal.YIELD and re.search(intent_words.SLOWER, part):
                speed = SpeedDetail.SLOW
            return decision or _because(speed, said, components), speed
    return None, ""


def _because(speed: str, said: str, components: tuple[Component, ...]) -> Longitudinal:
    """The decision behind a change of speed that is only told by its cause."""
    slower = speed in (SpeedDetail.SLOW, SpeedDetail.STOP, SpeedDetail.STAY_STOPPED)
    if slower and re.search(r"\byield|give way|giving way", intent_words.THINGS.sub(" ", said)):
        return Longitudinal.YIELD
    # Who is on a crosswalk matters more than the crosswalk.
    for component in sorted(components, key=lambda c: c.attributes.get("type") == "crosswalk"):
        kind, at = component.kind, component.attributes
        if kind is Kind.OBJECT:
            apart = at.get("motion") in ("crossing", "cut_in", "passed") or at.get("pose") in (
                "left", "right", "oncoming", "crosswalk")  # fmt: skip
            if at["type"] in ("vehicle", "cyclist") and not apart:
                return Longitudinal.FOLLOW_LEAD
            if slower:
                return Longitudinal.YIELD
        elif slower and (kind in (Kind.LIGHT, Kind.CONTROL) or at.get("type") in (
            "school_bus", "rail")):  # fmt: skip
            return Longitudinal.STOP
        elif slower and at.get("type") == "emergency_vehicle":
            return Longitudinal.YIELD
    return Longitudinal.ADAPT_SPEED if slower else Longitudinal.SET_SPEED


def _path(part: str, said: str) -> tuple[Lateral | None, str]:
    for pattern, decision in intent_words.LATERALS:
        found = pattern.search(part)
        if not found:
            continue
        if decision is Lateral.MERGE_SPLIT:
            return decision, Side.MERGE if re.match("merg|zip", found.group()) else Side.SPLIT
        if decision in (Lateral.KEEP_LANE, Lateral.PULL_OVER, Lateral.ABORT):
            return decision, ""
        side = intent_words.SIDE.search(part, found.start()) or intent_words.SIDE.search(part) or intent_words.SIDE.search(said)
        if side is None:
            continue
        if decision is Lateral.IN_LANE_NUDGE and intent_words.LEAVES.search(said):
            decision = Lateral.OUT_OF_LANE_NUDGE
        return decision, side.group(1)
    return None, ""
