"""What a reasoning text decides: at most one decision of each axis, from the closed set.

English, by words and not by sentences: whoever writes may put the reason before or behind the
decision, and may say "the ego slows down" or "slow down". What belongs to the reason ("because the
car ahead is braking") is set aside first, so that it is not read as a decision.
"""

import dataclasses
import functools
import re
from typing import Sequence

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

_MOVE = r"(?:moves?|moving|shifts?|shifting|steers?|steering|veers?|veering|edges?|edging)"
_KEEPS = r"(?:keeps?|keeping|maintains?|maintaining|holds?|holding)"
_SLOWER = r"(?:slow|slows|slowing|decelerate|decelerates|decelerating|brake|brakes|braking)"

# What is said, in this order: the first that is found counts.
_SPEED: tuple[tuple[str, Longitudinal | None, str], ...] = (
    (r"gap[- ]search\w*|(?:search|look)\w* for a gap|(?:make|open|find|match)\w* a gap|"
     r"match\w* the (?:speed|traffic|stream)", Longitudinal.SEARCH_GAP, ""),
    (r"accelerat\w+ (?:to (?:pass|overtake)|for (?:passing|overtaking))", Longitudinal.PASS,
     SpeedDetail.FASTER),
    (r"overtak\w+|pass(?:es|ing)? the (?:slow\w*|lead\w*)", Longitudinal.PASS, ""),
    (r"(?:stay|remain|keep|hold|wait)\w*(?: \w+){0,2} (?:stopped|standing|still|stationary|halted)|"
     r"stopped and wait\w*|hold\w* (?:the )?position|waits?\b|waiting\b|stand still", None,
     SpeedDetail.STAY_STOPPED),
    (r"(?:start|begin)\w* (?:moving|driving|to move|to drive|off|again|from)|"
     r"(?:move|drive|set|pull)s? (?:off|away)|resum\w+|starts? up", None, SpeedDetail.START),
    (rf"(?:come|comes|coming|{_SLOWER}(?: down)?) (?:smoothly |gently )?to (?:a |the )?(?:full |complete )?"
     r"(?:stop|halt|standstill)|\bstops?\b|stopping|\bhalts?\b", None, SpeedDetail.STOP),
    (r"\byields?\b|yielding|giv(?:e|es|ing) way", Longitudinal.YIELD, ""),
    (rf"{_SLOWER}|(?:reduc|lower|decreas)\w+ (?:the |its |my |our )?speed|eas(?:e|es|ing) off", None,
     SpeedDetail.SLOW),
    (r"speed(?:s|ing)? up|accelerat\w+|(?:increas|rais)\w+ (?:the |its |my |our )?speed|"
     r"(?:pick|gain)\w* (?:up )?speed|(?:go|goes|going|drive) faster", None, SpeedDetail.FASTER),
    (rf"{_KEEPS}(?: \w+){{0,3}} (?:distance|gap|headway)|follow(?:s|ing)? (?:the |a )?(?:lead\b|"
     r"(?:\w+ ){0,2}(?:vehicle|car|truck|bus|cyclist|motorcyclist|traffic))",
     Longitudinal.FOLLOW_LEAD, ""),
    (r"adapt\w* (?:the |its )?speed|(?:low|lower|reduced|slow) speed|speed (?:is )?low|"
     r"speed adaptation", Longitudinal.ADAPT_SPEED, SpeedDetail.KEEP),
    (rf"{_KEEPS}(?: \w+){{0,3}} (?:speed|pace)|cruis\w+|set speed|keeps? (?:going|driving)|"
     r"continu\w+|proceed\w*|go(?:es)? on", None, SpeedDetail.KEEP),
)  # fmt: skip
_LATERAL: tuple[tuple[str, Lateral], ...] = (
    (r"abort\w*|cancel\w*|re-?cent(?:er|re)\w*|return\w* to the (?:lane|cent\w+)", Lateral.ABORT),
    (r"pull\w* over|\bpark(?:s|ing)?\b|(?:to|approach\w*) the curb|curb approach", Lateral.PULL_OVER),
    (rf"chang\w+ (?:to|into|lanes?)|lane changes?|{_MOVE} (?:over )?(?:in)?to the (?:left|right|next) "
     r"lane", Lateral.LANE_CHANGE),
    (r"\bmerg(?:e|es|ing)\b|zipper", Lateral.MERGE_SPLIT),
    (r"\bsplits?\b|take\w* the (?:exit|fork|ramp|off-?ramp)|\bexits?\b", Lateral.MERGE_SPLIT),
    (r"nudg\w+|swerv\w+|(?:go|goes|going|drive|drives|steer|steers|pass|passes) around|"
     rf"{_MOVE} (?:slightly |a little |over |aside |out )*(?:to the )?(?:left|right|aside)|"
     r"bias\w*(?: to the)? (?:left|right)|(?:give|leave)\w* (?:it |them |more )*(?:room|space)",
     Lateral.IN_LANE_NUDGE),
    (r"\bturn(?:s|ing)?\b(?! green| red| yellow)|u-turn", Lateral.TURN),
    (rf"{_KEEPS} (?:to |in |within )*(?:the |its |our )?(?:own |current |ego )?lane|"
     r"stay\w* (?:in|within) (?:the |its |our )?(?:own |current |ego )?lane|lane[- ]keeping|"
     r"(?:go|goes|going|keep|keeps|continue|continues|drive|drives|straight) straight|"
     r"straight (?:on|ahead)|follow(?:s|ing)? the (?:\w+ ){0,2}(?:lane|road|curve|bend)|"
     r"cent(?:er|re)\w* in (?:the |its )?lane", Lateral.KEEP_LANE),
)  # fmt: skip
_SPEEDS = tuple((re.compile(rf"\b(?:{w})"), d, s) for w, d, s in _SPEED)
_LATERALS = tuple((re.compile(rf"\b(?:{words})"), decision) for words, decision in _LATERAL)
_LEAVES = re.compile(r"out[- ]of[- ]lane|(?:cross|straddl|over)\w* the (?:lane )?(?:line|edge)|"
                     r"leav\w+ the lane|into the (?:next|other|oncoming|left|right) lane")  # fmt: skip
_SIDE = re.compile(r"\b(left|right)(?:wards?)?\b")

# A reason goes from such a word to the end of its clause, to "so" or to the next command.
_END = (
    r"\b(?:so|therefore|thus)\b|[,;.:]|\band (?:then )?(?:keep|hold|maintain|stay|remain|nudge|turn|"
    r"change|merge|move|steer|stop|slow|yield|start|resume|accelerate|decelerate|brake|follow|pull|"
    r"continue|speed)\b"
)
_REASON = re.compile(
    r"\b(?:because|since|as|due to|given|for(?! passing)|in response to|with|when|while|until|after|"
    r"behind|which|who|that|whose|now that|where|to (?:avoid|let|allow|follow|keep clear|reach))\b"
    rf"(?:(?!{_END}).)*"
)
# What comes first is decided now.
_NEXT = re.compile(r"[.;]|\bthen\b|\bafterwards\b")
_NOT = re.compile(
    r"\b(?:do not|does not|don't|doesn't|not|never|without|no need to|instead of|rather than)"
    r"(?: \w+){1,2}"
)
# Things in whose name there is a decision.
_THINGS = re.compile(
    r"\bstop[- ](?:signs?|lines?|lights?|bars?|and-go)|\b(?:yield|give way) (?:signs?|lines?)|"
    r"\b(?:left|right|u)[- ]?turn(?:ing)? (?:lanes?|arrows?|signals?)|turn signals?|"
    r"\b(?:the|a|an) (?:\w+ )?(?:stopped|stopping|slow|slower|slowing|braking|turning|merging|"
    r"parked|yielding|passing|waiting|moving|standing|accelerating)\b(?! (?:down|up))|"
    r"speed (?:bumps?|humps?|limits?)"
)
# Somebody else does something.
_OTHERS = re.compile(
    r"\b(?:the|a|an|another|its|his|her|their) (?:(?!ego\b|own\b|ego-|(?:because|since|"
    r"as|for|so|and)\b)[\w-]+ ){0,3}?(?:vehicle|car|van|"
    r"truck|bus|tram|lead|leader|traffic|pedestrians?|person|people|child|cyclists?|motorcyclists?|"
    r"lights?|signal|rider|driver|lane|road|route|path|junction|curve|bend)s?"
    r"(?: (?:ahead|in front|on|at|in|the|left|right|side|crosswalk|of|us|ego|lane|next)\b)*"
    r" (?:is|are|has|have|was|will|turns?|stops?|slows?|brakes?|starts?|merges?|cuts?|yields?|moves?|"
    r"waits?|crosses|opens?|ends?|stands?|drives?|straightens|bends)\b"
    rf"(?:(?!{_END}).)*"
)


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
    own = _OTHERS.sub(" ", _NOT.sub(" ", _THINGS.sub(" thing ", said)))
    return [_NEXT.split(text) for text in (_REASON.sub(" ", own), own)]


def _speed(part: str, said: str, components: tuple[Component, ...]):
    for pattern, decision, speed in _SPEEDS:
        if pattern.search(part):
            if decision is Longitudinal.YIELD and re.search(_SLOWER, part):
                speed = SpeedDetail.SLOW
            return decision or _because(speed, said, components), speed
    return None, ""


def _because(speed: str, said: str, components: tuple[Component, ...]) -> Longitudinal:
    """The decision behind a change of speed that is only told by its cause."""
    slower = speed in (SpeedDetail.SLOW, SpeedDetail.STOP, SpeedDetail.STAY_STOPPED)
    if slower and re.search(r"\byield|give way|giving way", _THINGS.sub(" ", said)):
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
    for pattern, decision in _LATERALS:
        found = pattern.search(part)
        if not found:
            continue
        if decision is Lateral.MERGE_SPLIT:
            return decision, Side.MERGE if re.match("merg|zip", found.group()) else Side.SPLIT
        if decision in (Lateral.KEEP_LANE, Lateral.PULL_OVER, Lateral.ABORT):
            return decision, ""
        side = _SIDE.search(part, found.start()) or _SIDE.search(part) or _SIDE.search(said)
        if side is None:
            continue
        if decision is Lateral.IN_LANE_NUDGE and _LEAVES.search(said):
            decision = Lateral.OUT_OF_LANE_NUDGE
        return decision, side.group(1)
    return None, ""
