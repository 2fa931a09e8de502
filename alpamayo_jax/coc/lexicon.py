"""What a trace names, and which component must show it.

English words only; a word that is not listed names nothing that can be checked.
"""

import dataclasses
import re
from typing import Callable

from alpamayo_jax.coc.component import Component, Kind


@dataclasses.dataclass(frozen=True)
class Mention:
    """A thing that a trace names: the words, and whether a component can be it."""

    words: str
    fits: Callable[[Component], bool]


def _object(*types: str) -> Callable[[Component], bool]:
    return lambda c: c.kind is Kind.OBJECT and c.attributes.get("type") in types


def _typed(kind: Kind, *types: str) -> Callable[[Component], bool]:
    return lambda c: c.kind is kind and c.attributes.get("type") in types


def _category(*words: str) -> Callable[[Component], bool]:
    def fits(component: Component) -> bool:
        category = component.attributes.get("category", "").upper()
        known = component.kind is Kind.OBJECT
        return known and (not category or any(word in category for word in words))

    return fits


def _any(*tests: Callable[[Component], bool]) -> Callable[[Component], bool]:
    return lambda c: any(test(c) for test in tests)


def _crosswalk(component: Component) -> bool:
    control = _typed(Kind.CONTROL, "crosswalk")(component)
    return control or component.attributes.get("pose") == "crosswalk"


def _junction(component: Component) -> bool:
    turn = component.kind is Kind.ROUTE and component.attributes.get("intent") in (
        "turn", "straight")  # fmt: skip
    return turn or _typed(Kind.ROAD_EVENT, "junction")(component)


_VEHICLE = _object("vehicle")
# The longest first: a stop sign is no sign, an emergency vehicle is more than a vehicle.
_WORDS: tuple[tuple[str, Callable[[Component], bool]], ...] = (
    (r"emergency vehicles?|ambulances?|fire trucks?|police cars?",
     _any(_typed(Kind.ODD, "emergency_vehicle"), _category("EMERGENCY", "POLICE", "AMBULANCE"))),
    (r"school bus(es)?", _any(_typed(Kind.ODD, "school_bus"), _category("SCHOOL_BUS"))),
    (r"traffic lights?|traffic signals?|signal lights?|red lights?|green lights?|yellow lights?",
     lambda c: c.kind is Kind.LIGHT),
    (r"stop signs?", _typed(Kind.CONTROL, "stop_sign")),
    (r"stop lines?", _typed(Kind.CONTROL, "stop_line")),
    (r"(yield|give way) signs?", _typed(Kind.CONTROL, "yield_sign")),
    (r"(yield|give way) lines?", _typed(Kind.CONTROL, "yield_line")),
    (r"crosswalks?|zebra crossings?|pedestrian crossings?", _crosswalk),
    (r"speed bumps?|speed humps?|bumps?", _typed(Kind.ROAD_EVENT, "bump")),
    (r"traffic cones?|cones?", _any(_category("CONE"), _typed(Kind.ODD, "construction"))),
    (r"barriers?", _any(_category("BARRIER"), _typed(Kind.ODD, "construction"))),
    (r"construction|road ?works?|work zones?", _typed(Kind.ODD, "construction")),
    (r"bus(es)?", _any(_category("BUS"), _typed(Kind.ODD, "school_bus"))),
    (r"trucks?", _category("TRUCK", "LARGE_VEHICLE")),
    (r"trams?", _category("TRAM")),
    (r"trailers?", _category("TRAILER")),
    (r"motorcycles?|motorcyclists?|motorbikes?", _category("MOTORCYCL")),
    (r"vehicles?|cars?|vans?|traffic", _VEHICLE),
    (r"pedestrians?|persons?|people|child(ren)?", _object("pedestrian", "vru")),
    (r"cyclists?|bicycles?|bicyclists?|bikes?|riders?", _object("cyclist", "vru")),
    (r"strollers?|wheelchairs?|small wheeled devices?", _object("vru")),
    (r"bollards?|barrels?|obstacles?|objects?|debris", _object("object", "vehicle")),
    (r"curves?|bends?", _typed(Kind.ROAD_EVENT, "curve", "ramp", "roundabout")),
    (r"junctions?|intersections?", _junction),
    (r"roundabouts?", _typed(Kind.ROAD_EVENT, "roundabout")),
    (r"ramps?", _typed(Kind.ROAD_EVENT, "ramp")),
    (r"rain|snow|fog|weather", _typed(Kind.ODD, "weather", "visibility")),
    (r"trains?|rail(way)?s?", _typed(Kind.ODD, "rail")),
)  # fmt: skip
_PATTERNS = tuple((re.compile(rf"\b({words})\b", re.IGNORECASE), fits) for words, fits in _WORDS)

# Words that claim a state, and who must have it.
_STATES: tuple[tuple[str, Callable[[Component], bool]], ...] = (
    (r"\bred\b", lambda c: c.attributes.get("state") == "red"),
    (r"\byellow\b", lambda c: c.attributes.get("state") == "yellow"),
    (r"\bgreen\b", lambda c: c.attributes.get("state") == "green"),
    (r"\b(is|are) crossing\b", lambda c: c.attributes.get("motion") == "crossing"),
    (r"\b(is|are) stopped\b", lambda c: c.attributes.get("motion") in ("stopped", "parked")),
    (r"\b(is|are) slowing\b", lambda c: c.attributes.get("motion") == "slowing"),
    (r"\boncoming\b", lambda c: c.attributes.get("pose") == "oncoming"),
    (r"\blane ahead is (clear|free)\b", lambda c: c.kind is Kind.LANE),
)
_STATE_PATTERNS = tuple((re.compile(words, re.IGNORECASE), fits) for words, fits in _STATES)

# A trace that tells what is not seen yet, or that gives the decision as its own reason.
FUTURE = re.compile(r"\b(will|would|later|afterwards|eventually|going to)\b", re.IGNORECASE)
CIRCULAR = re.compile(
    r"\b(because|since|as) (the ego|it|the car|we|i)\b(?! (ahead|in front|on the|behind))",
    re.IGNORECASE,
)


def mentions(trace: str) -> list[Mention]:
    """The things that a trace names, in the order of the list above."""
    found, left = [], trace
    for pattern, fits in _PATTERNS:
        for match in pattern.finditer(left):
            found.append(Mention(match.group(0).lower(), fits))
        left = pattern.sub(" ", left)
    return found


def states(trace: str) -> list[Mention]:
    """The states that a trace claims."""
    return [
        Mention(match.group(0).lower(), fits)
        for pattern, fits in _STATE_PATTERNS
        for match in [pattern.search(trace)]
        if match
    ]


def names(trace: str, component: Component) -> bool:
    """Whether a trace says anything that this component can be."""
    if component.kind is Kind.LANE and re.search(r"\blanes?\b|\broad\b", trace, re.IGNORECASE):
        return True
    if component.kind is Kind.ROUTE:
        intent = component.attributes.get("intent", "").split("_")[0]
        if re.search(rf"\b{re.escape(intent)}|\broute\b", trace, re.IGNORECASE):
            return True
    return any(mention.fits(component) for mention in mentions(trace))
