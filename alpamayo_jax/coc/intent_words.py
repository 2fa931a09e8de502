"""The words of decisions: what `intent` looks for, and what it sets aside first.

Every pattern is for text in lower case with single spaces.
"""

import re

from alpamayo_jax.coc.decisions import Lateral, Longitudinal, SpeedDetail

_MOVE = r"(?:moves?|moving|shifts?|shifting|steers?|steering|veers?|veering|edges?|edging)"
_KEEPS = r"(?:keeps?|keeping|maintains?|maintaining|holds?|holding)"
SLOWER = r"(?:slow|slows|slowing|decelerate|decelerates|decelerating|brake|brakes|braking)"

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
    (rf"(?:come|comes|coming|{SLOWER}(?: down)?) (?:smoothly |gently )?to (?:a |the )?"
     r"(?:full |complete )?(?:stop|halt|standstill)|\bstops?\b|stopping|\bhalts?\b", None,
     SpeedDetail.STOP),
    (r"\byields?\b|yielding|giv(?:e|es|ing) way", Longitudinal.YIELD, ""),
    (rf"{SLOWER}|(?:reduc|lower|decreas)\w+ (?:the |its |my |our )?speed|eas(?:e|es|ing) off",
     None, SpeedDetail.SLOW),
    (r"speed(?:s|ing)? up|accelerat\w+|(?:increas|rais)\w+ (?:the |its |my |our )?speed|"
     r"(?:pick|gain)\w* (?:up )?speed|(?:go|goes|going|drive) faster", None, SpeedDetail.FASTER),
    (rf"{_KEEPS}(?: \w+){{0,3}} (?:distance|gap|headway)|"
     r"(?:stay|remain)(?:s|ing)? behind|follow(?:s|ing)? (?:the |a )?(?:lead\b|"
     r"(?:\w+ ){0,2}(?:vehicle|car|truck|bus|cyclist|motorcyclist|traffic))",
     Longitudinal.FOLLOW_LEAD, ""),
    (r"adapt\w* (?:the |its )?speed|(?:low|lower|reduced|slow) speed|speed (?:is )?low|"
     r"speed adaptation", Longitudinal.ADAPT_SPEED, SpeedDetail.KEEP),
    (rf"{_KEEPS}(?: \w+){{0,3}} (?:speed|pace)|cruis\w+|set speed|keeps? (?:going|driving)|"
     r"continu\w+|proceed\w*|go(?:es)? on", None, SpeedDetail.KEEP),
)  # fmt: skip
_LATERAL: tuple[tuple[str, Lateral], ...] = (
    (r"abort\w*|cancel\w*|re-?cent(?:er|re)\w*|return\w* to the (?:lane|cent\w+)", Lateral.ABORT),
    (r"pull\w* over|\bpark(?:s|ing)?\b|(?:to|approach\w*) the curb|curb approach",
     Lateral.PULL_OVER),
    (rf"chang\w+ (?:to|into|lanes?)|lane changes?|{_MOVE} (?:over )?(?:in)?to the "
     r"(?:left|right|next) lane", Lateral.LANE_CHANGE),
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
SPEEDS = tuple((re.compile(rf"\b(?:{w})"), d, s) for w, d, s in _SPEED)
LATERALS = tuple((re.compile(rf"\b(?:{words})"), decision) for words, decision in _LATERAL)
LEAVES = re.compile(
    r"out[- ]of[- ]lane|(?:cross|straddl|over)\w* the (?:lane )?(?:line|edge)|"
    r"leav\w+ the lane|into the (?:next|other|oncoming|left|right) lane"
)
SIDE = re.compile(r"\b(left|right)(?:wards?)?\b")

# A reason goes from such a word to the end of its clause, to "so" or to the next command.
_END = (
    r"\b(?:so|therefore|thus)\b|[,;.:]|\band (?:then )?(?:keep|hold|maintain|stay|remain|nudge|"
    r"turn|change|merge|move|steer|stop|slow|yield|start|resume|accelerate|decelerate|brake|"
    r"follow|pull|continue|speed)\b"
)
REASON = re.compile(
    r"\b(?:because|since|as|due to|given|for(?! passing)|in response to|with|when|while|until|"
    r"after|behind|which|who|that|whose|now that|where|to (?:avoid|let|allow|follow|keep clear|"
    r"reach))\b"
    rf"(?:(?!{_END}).)*"
)
# What comes first is decided now.
NEXT = re.compile(r"[.;]|\bthen\b|\bafterwards\b")
NOT = re.compile(
    r"\b(?:do not|does not|don't|doesn't|not|never|without|no need to|instead of|rather than)"
    r"(?: \w+){1,2}"
)
# Things in whose name there is a decision.
THINGS = re.compile(
    r"\bstop[- ](?:signs?|lines?|lights?|bars?|and-go)|\b(?:yield|give way) (?:signs?|lines?)|"
    r"\b(?:left|right|u)[- ]?turn(?:ing)? (?:lanes?|arrows?|signals?)|turn signals?|"
    r"\b(?:the|a|an) (?:\w+ )?(?:stopped|stopping|slow|slower|slowing|braking|turning|merging|"
    r"parked|yielding|passing|waiting|moving|standing|accelerating)\b(?! (?:down|up))|"
    r"speed (?:bumps?|humps?|limits?)"
)
# Somebody else does something.
OTHERS = re.compile(
    r"\b(?:the|a|an|another|its|his|her|their) (?:(?!ego\b|own\b|ego-|(?:because|since|"
    r"as|for|so|and)\b)[\w-]+ ){0,3}?(?:vehicle|car|van|"
    r"truck|bus|tram|lead|leader|traffic|pedestrians?|person|people|child|cyclists?|motorcyclists?|"
    r"lights?|signal|rider|driver|lane|road|route|path|junction|curve|bend)s?"
    r"(?: (?:ahead|in front|on|at|in|the|left|right|side|crosswalk|of|us|ego|lane|next)\b)*"
    r" (?:is|are|has|have|was|will|turns?|stops?|slows?|brakes?|starts?|merges?|cuts?|yields?|"
    r"moves?|waits?|crosses|opens?|ends?|stands?|drives?|straightens|bends)\b"
    rf"(?:(?!{_END}).)*"
)
