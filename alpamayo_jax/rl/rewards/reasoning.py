"""Quality of reasoning from 0 to 5, by comparing decisions and causes with the reference.

The rubric is the paper's (section 5.4):

    5  behaviour and causes are those of the reference
    4  behaviour right, causes mostly
    3  behaviour roughly right, but incomplete or slightly wrong
    2  behaviour partly wrong, or causes largely others
    1  behaviour wrong, contradicts the reference
    0  about something else, or opposite

It grades what `coc.intent` and `coc.evidence` find in the text, so it needs no model. A reference
is the window's label, or else the text that the window came with. How it fills the rubric is ours:
an axis is right, rough, partly wrong or opposite, the worse axis decides, and causes are compared
by the harmonic mean of what of the reference is said and what of the said is in the reference.
"""

from typing import Sequence

import numpy as np

from alpamayo_jax.coc.component import Component, Kind
from alpamayo_jax.coc.decisions import Lateral, Longitudinal, SpeedDetail
from alpamayo_jax.coc.evidence import components_of, thing
from alpamayo_jax.coc.intent import Intent, intent_of, parse_intent
from alpamayo_jax.rl.rewards.base import Episodes, Scores, Situation

LOW, HIGH = 0.0, 5.0
RIGHT, ROUGH, PARTLY, OPPOSITE = 3, 2, 1, 0
_ALL, _MOST = 0.95, 0.5  # causes that are those of the reference, or mostly

_SLOWER = (SpeedDetail.SLOW, SpeedDetail.STOP, SpeedDetail.STAY_STOPPED)
_FASTER = (SpeedDetail.START, SpeedDetail.FASTER)
_ASIDE = (Lateral.LANE_CHANGE, Lateral.IN_LANE_NUDGE, Lateral.OUT_OF_LANE_NUDGE)


class StructuredReasoning:
    """The rubric by rules; a window without a reference that can be parsed scores 0 throughout."""

    name, unit, low, high, cost = "reasoning", "", LOW, HIGH, False

    def __call__(self, episodes: Episodes) -> Scores:
        """Against each window's label or reference text."""
        values = np.zeros(episodes.shape, np.float32)
        known = np.zeros(episodes.shape, bool)
        for b, situation in enumerate(episodes.situations):
            wanted = reference(situation)
            if wanted is not None:
                values[b] = [grade(text, *wanted) for text in episodes.reasoning[b]]
                known[b] = True
        return Scores(values, np.ones(episodes.shape, bool), known)


def reference(situation: Situation) -> tuple[Intent, tuple[Component, ...]] | None:
    """Decisions and causes of a window's reference, or None where it has none."""
    if situation.label is not None:
        return intent_of(situation.label), situation.label.components
    intent = parse_intent(situation.target.reasoning)
    return None if intent is None else (intent, components_of(situation.target.reasoning))


def grade(text: str, wanted: Intent, causes: Sequence[Component]) -> int:
    """0 to 5 for a text, where `wanted` was decided because of `causes`."""
    intent = parse_intent(text)
    if intent is None:
        return 0
    behaviour = min(_speed_grade(intent, wanted), _path_grade(intent, wanted))
    share = cause_agreement(components_of(text), causes)
    if behaviour == RIGHT:
        return 5 if share >= _ALL else 4 if share >= _MOST else 3 if share > 0 else 2
    if behaviour == ROUGH:
        return 3 if share >= _MOST else 2
    if behaviour == PARTLY:
        return 2 if share >= _MOST else 1
    return 1 if share > 0 else 0


def cause_agreement(said: Sequence[Component], wanted: Sequence[Component]) -> float:
    """0 to 1: how far two sets of causes are the same; 1 where both are empty."""
    if not said and not wanted:
        return 1.0
    if not said or not wanted:
        return 0.0
    table = np.array([[_likeness(ours, theirs) for theirs in wanted] for ours in said])
    precision, recall = table.max(1).mean(), table.max(0).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _likeness(ours: Component, theirs: Component) -> float:
    """1 for the same thing in the same state, less where the state is wrong or not said."""
    if thing(ours) != thing(theirs):
        return 0.0
    if ours.kind is Kind.LIGHT and theirs.kind is Kind.LIGHT:
        return float(ours.attributes.get("state") == theirs.attributes.get("state"))
    share = 1.0
    for name, groups in _COMPARED.items():
        one, other = ours.attributes.get(name), theirs.attributes.get(name)
        if one is None or other is None:
            continue
        if groups.get(one, one) != groups.get(other, other):
            share -= 0.5
    return max(share, 0.0)


# What is the same in other words.
_COMPARED: dict[str, dict[str, str]] = {
    "motion": {"parked": "stopped", "slower": "slowing", "moving": ""},
    "pose": {"crosswalk": "in_path", "oncoming": "in_path"},
    "side": {},
}


def _direction(intent: Intent) -> int | None:
    """-1 slower, 0 kept, 1 faster, None where nothing is said."""
    if intent.longitudinal is None:
        return None
    if intent.speed in _SLOWER:
        return -1
    if intent.speed in _FASTER:
        return 1
    if not intent.speed and intent.longitudinal in (Longitudinal.YIELD, Longitudinal.STOP):
        return -1
    return 1 if not intent.speed and intent.longitudinal is Longitudinal.PASS else 0


def _speed_grade(intent: Intent, wanted: Intent) -> int:
    ours, theirs = _direction(intent), _direction(wanted)
    if theirs is None or ours is None:
        same = ours is theirs or 0 in (ours, theirs)
        return RIGHT if same else PARTLY
    if ours != theirs:
        return OPPOSITE if ours * theirs < 0 else PARTLY
    details = intent.speed == wanted.speed or not (intent.speed and wanted.speed)
    return RIGHT if details and intent.longitudinal is wanted.longitudinal else ROUGH


def _path_grade(intent: Intent, wanted: Intent) -> int:
    ours, theirs = _kept(intent.lateral), _kept(wanted.lateral)
    sides = {intent.side, wanted.side}
    if ours is theirs:
        return RIGHT if intent.side == wanted.side else OPPOSITE
    if ours in _ASIDE and theirs in _ASIDE:
        return ROUGH if len(sides) == 1 else OPPOSITE
    return OPPOSITE if sides == {"left", "right"} else PARTLY


def _kept(decision: Lateral | None) -> Lateral | None:
    """No decision and keeping the lane are the same, and so are both nudges: a text that does not
    say whether the car leaves its lane is right either way."""
    same = {Lateral.KEEP_LANE: None, Lateral.OUT_OF_LANE_NUDGE: Lateral.IN_LANE_NUDGE}
    return same.get(decision, decision)
