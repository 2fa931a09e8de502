"""Critical components as a reasoning text names them, so that texts and labels can be compared."""

import functools
import re

from alpamayo_jax.coc import lexicon
from alpamayo_jax.coc.component import Component, Kind

# One example of everything that can be named; a word means the first that it fits.
_EXAMPLES: tuple[tuple[Kind, dict[str, str]], ...] = (
    (Kind.OBJECT, {"type": "vehicle", "category": "CAR"}),
    (Kind.OBJECT, {"type": "vehicle", "category": "TRUCK"}),
    (Kind.OBJECT, {"type": "vehicle", "category": "TRAM"}),
    (Kind.OBJECT, {"type": "vehicle", "category": "TRAILER"}),
    (Kind.OBJECT, {"type": "vehicle", "category": "MOTORCYCLIST"}),
    (Kind.OBJECT, {"type": "vehicle", "category": "BUS"}),
    (Kind.OBJECT, {"type": "pedestrian", "category": "PERSON"}),
    (Kind.OBJECT, {"type": "cyclist", "category": "RIDER"}),
    (Kind.OBJECT, {"type": "vru", "category": "STROLLER"}),
    (Kind.OBJECT, {"type": "object", "category": "OBJECT"}),
    (Kind.LIGHT, {}),
    *((Kind.CONTROL, {"type": name}) for name in (
        "stop_sign", "stop_line", "yield_sign", "yield_line", "crosswalk")),
    *((Kind.ROAD_EVENT, {"type": name}) for name in (
        "bump", "curve", "junction", "roundabout", "ramp")),
    *((Kind.ODD, {"type": name}) for name in (
        "emergency_vehicle", "school_bus", "construction", "weather", "rail")),
)  # fmt: skip
_PROBES = tuple(Component(kind, attributes, 0.0) for kind, attributes in _EXAMPLES)

# What `lexicon` calls otherwise.
_RENAMED = (
    (re.compile(r"(?<!traffic )(?<!signal )(?<!stop )\blights?\b"), "traffic light"),
    (re.compile(r"\b(?:ego|own)[- ](?:vehicle|car)\b"), "ego"),
    (re.compile(r"\bpedestrian crossing (?=from|the|our|in|to)"), "pedestrian is crossing "),
)
_CLAUSES = re.compile(r"[,;.:]|\b(?:because|since|as|and|while|but|so|which|then)\b")
_MOTION: tuple[tuple[str, str], ...] = (
    ("passed", r"\b(?:has|have) (?:\w+ )?(?:passed|left|cleared|crossed|gone)\b"),
    ("cut_in", r"\bcut(?:s|ting)?[- ]in\b|\b(?:is|are) (?:moving|merging|coming) into\b|"
               r"\bmov(?:es|ing) into the (?:path|lane)\b"),
    ("crossing", r"\bcross(?:es|ing)\b(?! line)|\b(?:about|going) to cross\b|\bwalk(?:s|ing) "),
    ("parked", r"\bparked\b"),
    ("slowing", r"\bis (?:slowing|braking|decelerating)\b|"
                r"\b(?:are|car|vehicle|lead|truck|bus|ahead) (?:slows|brakes|slowing|braking)\b|"
                r"\b(?:slowing|braking|decelerating) (?:car|vehicle|lead|truck|bus|cyclist)"),
    ("slower", r"\bslower\b|\bslow(?:-moving)? (?:car|vehicle|lead|truck|bus|cyclist)"),
    ("accelerating", r"\b(?:is|are) (?:speeding up|accelerating|driving off|faster|pulling away|"
                     r"moving off|starting)\b|\bpulls away\b|\bdrives off\b"),
    ("stopped", r"\bstopped\b|\bstands?\b|\bstanding\b|\bstationary\b|\bstand still\b|\bwaiting\b"),
    ("moving", r"\b(?:is|are) moving\b"),
)  # fmt: skip
_MOTIONS = tuple((name, re.compile(words)) for name, words in _MOTION)
_POSES = tuple((name, re.compile(words)) for name, words in (
    ("crosswalk", r"\b(?:crosswalk|zebra crossing)\b"),
    ("oncoming", r"\boncoming\b"),
    ("left", r"\b(?:on|from|at) (?:the |its |our )?left\b|\bleft (?:side|lane)\b"),
    ("right", r"\b(?:on|from|at) (?:the |its |our )?right\b|\bright (?:side|lane)\b"),
    ("in_path", r"\bahead\b|\bin front\b|\bin (?:the|our|its) (?:path|lane|way)\b|\blead\b|"
                r"\b(?:own|ego|this) lane\b"),
))  # fmt: skip
_CLEAR = re.compile(
    r"\b(?:lane|road|path|way)\b(?: \w+){0,2} (?:is|are) (?:now )?(?:clear|free|empty|open)\b|"
    r"\b(?:clear|free|empty|open) (?:lane|road|path|way)\b|"
    r"\b(?:nobody|nothing|no one|no \w+) (?:is )?(?:ahead|in the (?:way|path|lane))\b"
)
_BENDS = ("curve", "junction", "roundabout", "ramp")
_ROUTE = re.compile(r"\broute\b|\bnavigation\b")
_NONE_AHEAD = re.compile(r"\bno (?:\w+ )?(?:vehicle|car|lead|pedestrian|traffic|one)s?\b")


@functools.lru_cache(maxsize=65536)
def components_of(text: str) -> tuple[Component, ...]:
    """What a text names, in its order, each thing once; attributes only where they are said.

    Things are those of `lexicon`, a clear lane and the route. Nothing else is read: a text with
    other words has no components.
    """
    found: list[Component] = []
    said = " ".join(text.lower().split())
    for pattern, words in _RENAMED:
        said = pattern.sub(words, said)
    for clause in _CLAUSES.split(said):
        for component in _clause(clause):
            same = [c for c in found if thing(c) == thing(component)]
            if not same:
                found.append(component)
            else:
                same[0].attributes.update(
                    {k: v for k, v in component.attributes.items() if k not in same[0].attributes}
                )
    return tuple(found)


def thing(component: Component) -> str:
    """What two components share that tell of the same thing."""
    at = component.attributes
    if component.kind is Kind.LIGHT:
        return "traffic_light"
    if component.kind is Kind.LANE:
        return "lane"
    if component.kind is Kind.ROUTE:
        return "junction" if at.get("intent") in ("turn", "straight") else "route"
    return at.get("type", component.kind.value)


def _clause(clause: str) -> list[Component]:
    found = []
    clear = _CLEAR.search(clause)
    named = _NONE_AHEAD.sub(" ", clause)
    if clear or named != clause:
        found.append(Component(Kind.LANE, {"type": "clear_road", "state": "free"}, 0.0))
    for mention in lexicon.mentions(named):
        probe = next((probe for probe in _PROBES if mention.fits(probe)), None)
        if probe is None:
            continue
        attributes = {k: v for k, v in probe.attributes.items() if k == "type"}
        found.append(Component(probe.kind, attributes | _said(probe, named), 0.0))
    if _ROUTE.search(clause) and not any(thing(c) == "junction" for c in found):
        found.append(Component(Kind.ROUTE, {}, 0.0))
    return found


def _said(probe: Component, clause: str) -> dict[str, str]:
    """Attributes that a clause gives to what it names."""
    if probe.kind is Kind.LIGHT:
        colour = re.search(r"\b(red|yellow|green)\b", clause)
        return {"state": colour.group(1)} if colour else {}
    if probe.kind is Kind.ROAD_EVENT:
        side = re.search(r"\b(left|right)\b", clause)
        return {"side": side.group(1)} if side and probe.attributes["type"] in _BENDS else {}
    if probe.kind is not Kind.OBJECT:
        return {}
    said = {}
    for name, table in (("motion", _MOTIONS), ("pose", _POSES)):
        value = next((value for value, pattern in table if pattern.search(clause)), None)
        if value is not None:
            said[name] = value
    return said
