"""The four checks of a label (table 4 of the paper), without looking at the drive.

    causal_coverage      every decision rests on a component that can cause it, and the trace says so
    causal_correctness   the trace names nothing else, gives no circular reason, tells no future
    proximate_cause      the immediate cause is given, not one behind it
    decision_minimality  nothing is decided or cited without need

`annotated` compares labels with what a clip's annotations show, and with how the ego moved.
"""

import dataclasses

from alpamayo_jax.coc import lexicon
from alpamayo_jax.coc.component import Component, Kind
from alpamayo_jax.coc.decisions import Lateral, Longitudinal, SpeedDetail
from alpamayo_jax.coc.schema import CocLabel

RULES = ("causal_coverage", "causal_correctness", "proximate_cause", "decision_minimality")
_MOST_COMPONENTS = 4
_LEADS = ("stopped", "slowing", "slower")

# Kinds of components that can be why; None: any.
_LONGITUDINAL: dict[Longitudinal, tuple[Kind, ...] | None] = {
    Longitudinal.SET_SPEED: None,
    Longitudinal.FOLLOW_LEAD: (Kind.OBJECT,),
    Longitudinal.ADAPT_SPEED: (Kind.ROAD_EVENT, Kind.ROUTE, Kind.ODD, Kind.LANE),
    Longitudinal.SEARCH_GAP: (Kind.OBJECT, Kind.LANE, Kind.ROUTE),
    Longitudinal.PASS: (Kind.OBJECT,),
    Longitudinal.YIELD: (Kind.OBJECT, Kind.ODD),
    Longitudinal.STOP: (Kind.LIGHT, Kind.CONTROL, Kind.ODD),
}
_LATERAL: dict[Lateral, tuple[Kind, ...] | None] = {
    Lateral.KEEP_LANE: None,
    Lateral.MERGE_SPLIT: (Kind.ROUTE, Kind.LANE, Kind.ROAD_EVENT),
    Lateral.OUT_OF_LANE_NUDGE: (Kind.OBJECT, Kind.LANE, Kind.ODD),
    Lateral.IN_LANE_NUDGE: (Kind.OBJECT, Kind.LANE, Kind.ODD),
    Lateral.LANE_CHANGE: (Kind.OBJECT, Kind.ROUTE, Kind.LANE, Kind.ODD),
    Lateral.PULL_OVER: None,
    Lateral.TURN: (Kind.ROUTE, Kind.ROAD_EVENT),
    Lateral.ABORT: (Kind.OBJECT, Kind.LANE),
}
_SLOWER = (SpeedDetail.SLOW, SpeedDetail.STOP, SpeedDetail.STAY_STOPPED)
_FASTER = (SpeedDetail.START, SpeedDetail.FASTER)


@dataclasses.dataclass(frozen=True)
class Failure:
    """A check that a label does not pass: the rule, and what is wrong."""

    rule: str
    message: str


def check_label(label: CocLabel) -> list[Failure]:
    """What is wrong with a label; empty of a good one."""
    return [
        Failure(rule, message)
        for rule, check in (
            ("causal_coverage", coverage),
            ("causal_correctness", correctness),
            ("proximate_cause", proximate),
            ("decision_minimality", minimality),
        )
        for message in check(label)
    ]


def coverage(label: CocLabel) -> list[str]:
    """Every decision cites a component that can be its cause, in the trace too."""
    if label.unobserved:
        return []
    if not label.components:
        return ["no component; cite what was seen, or say in `unobserved` why nothing was"]
    found = []
    for decision, table in ((label.longitudinal, _LONGITUDINAL), (label.lateral, _LATERAL)):
        if decision is None:
            continue
        kinds = table[decision]
        able = [c for c in label.components if kinds is None or c.kind in kinds]
        if decision is Longitudinal.FOLLOW_LEAD:
            able = [c for c in able if c.attributes.get("pose", "in_path") == "in_path"]
        if not able:
            wanted = " or ".join(kind.value for kind in kinds or ())
            found.append(f"{decision.value} cites no {wanted} that can be its cause")
        elif not any(lexicon.names(label.trace, component) for component in able):
            found.append(f"the trace does not say why {decision.value}")
    return found


def correctness(label: CocLabel) -> list[str]:
    """The trace names only components, in the state they have, without circle or prophecy."""
    found = []
    for mention in lexicon.mentions(label.trace) + lexicon.states(label.trace):
        if not any(mention.fits(component) for component in label.components):
            found.append(f"the trace says {mention.words!r}, which no component shows")
    if match := lexicon.CIRCULAR.search(label.trace):
        found.append(f"{match.group(0)!r}: the ego's own motion is no cause of its decision")
    if match := lexicon.FUTURE.search(label.trace):
        found.append(f"{match.group(0)!r} tells what is not seen at the keyframe")
    for component in label.components:
        if contrary := _contrary(label.longitudinal_detail, component):
            does = label.longitudinal_detail.replace("_", " ")
            found.append(f"{contrary} is no reason to {does}")
    return found


def _contrary(detail: str, component: Component) -> str:
    state, motion = component.attributes.get("state"), component.attributes.get("motion")
    if detail in _SLOWER:
        if component.kind is Kind.LIGHT and state == "green":
            return "a green light"
        if component.attributes.get("type") == "clear_road":
            return "a clear lane"
        if motion == "passed":
            return "someone who has left the path"
    if detail in _FASTER:
        if component.kind is Kind.LIGHT and state == "red":
            return "a red light"
        in_path = component.attributes.get("pose") == "in_path"
        if in_path and motion in ("stopped", "slowing", "crossing"):
            return f"something in the path that is {motion}"
    return ""


def proximate(label: CocLabel) -> list[str]:
    """A lead that stands or slows comes before a light or a line, and is what is followed."""
    leads = [
        c
        for c in label.components
        if c.kind is Kind.OBJECT
        and c.attributes.get("pose") == "in_path"
        and c.attributes.get("motion") in _LEADS
        and c.attributes.get("type") in ("vehicle", "cyclist")
    ]
    if leads and label.longitudinal is Longitudinal.STOP:
        return ["the ego is not first in the queue: the lead stands before the light or line"]
    if leads and label.longitudinal is Longitudinal.ADAPT_SPEED:
        return ["the lead is nearer than the road ahead"]
    return []


def minimality(label: CocLabel) -> list[str]:
    """No decision that changes nothing beside one that does; no component that is not used."""
    found = []
    changes = label.longitudinal_detail not in ("", SpeedDetail.KEEP)
    if label.lateral is Lateral.KEEP_LANE and (changes or label.longitudinal is None):
        found.append("lane keeping changes nothing; leave the lateral decision out")
    keeps = label.longitudinal_detail == SpeedDetail.KEEP
    if keeps and not label.scenario.proactive and label.lateral in (None, Lateral.KEEP_LANE):
        found.append("a reaction that keeps speed and lane is none")
    if len(label.components) > _MOST_COMPONENTS:
        found.append(f"{len(label.components)} components; keep the decisive ones")
    for i, component in enumerate(label.components):
        if not lexicon.names(label.trace, component):
            found.append(f"components[{i}], a {component.kind.value}, is not in the trace")
    return found
