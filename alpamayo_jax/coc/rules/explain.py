"""Decisions with their reasons: what a change of the ego's motion means in a given scene."""

import dataclasses
from typing import Callable

from alpamayo_jax.coc.decisions import Lateral, Longitudinal, SpeedDetail
from alpamayo_jax.coc.keyframes import Change, Moment
from alpamayo_jax.coc.rules import causes
from alpamayo_jax.coc.rules.causes import Cause
from alpamayo_jax.coc.rules.scene import Scene
from alpamayo_jax.coc.scenarios import ScenarioClass

_CLOSE_S, _CLOSE_M = 3.0, 6.0  # a lead within this time and distance is why the ego slows down
_HINDERS = ("stopped", "slower", "slowing")
_FAR_S = 4.5  # the same of one that stands, slows or is slower


@dataclasses.dataclass(frozen=True)
class Reason:
    """One decision and the words for it.

    Attributes:
      causes: what a label cites, the decisive one first.
      words: a sentence without its end.
      scenario: class of the moment; None: that of the moment it resolves.
      longitudinal, detail: or None and "".
      lateral, side: or None and "".
    """

    causes: tuple[Cause, ...]
    words: str
    scenario: ScenarioClass | None
    longitudinal: Longitudinal | None = None
    detail: str = ""
    lateral: Lateral | None = None
    side: str = ""


def slow(scene: Scene, moment: Moment, steady: bool = False) -> Reason | None:
    """Why the ego is about to slow down, or to stop.

    Args:
      scene: at the keyframe.
      moment: what the ego does then.
      steady: whether a lead that keeps its speed, but is close, may be the reason.
    """
    stops = moment.change is Change.STOP
    verb, detail = ("Slow down to a stop", SpeedDetail.STOP) if stops else (
        "Slow down", SpeedDetail.SLOW)  # fmt: skip
    ahead = causes.lead(scene)
    if ahead is not None and _matters(scene, ahead, steady):
        stands = ahead.component.attributes["motion"] == "stopped"
        scenario = ScenarioClass.STOP_FOR_LEAD if stops else ScenarioClass.SLOW_FOR_LEAD
        if ahead.component.attributes["motion"] in ("moving", "accelerating"):
            words = f"{verb} to keep a safe distance to {ahead.noun}"
        elif stops and stands:
            words = f"{verb} behind {ahead.noun}, which is stopped"
        else:
            words = f"{verb} because {ahead.clause}"
        return Reason((ahead,), words, scenario, Longitudinal.FOLLOW_LEAD, detail)
    signal = causes.light(scene, ("red", "yellow"))
    if signal is not None:
        words = f"{verb} because {signal.clause}"
        return Reason((signal,), words, ScenarioClass.STOP_FOR_CONTROL, Longitudinal.STOP, detail)
    other = causes.crossing(scene)
    scenario = _crossing_class(scene, other)
    if other is None:
        other, scenario = causes.cut_in(scene), ScenarioClass.CUT_IN
    if other is not None:
        words = f"{verb} to yield because {other.clause}"
        return Reason((other,), words, scenario, Longitudinal.YIELD, detail)
    turn = causes.junction_turn(scene)
    if turn is not None:
        words = f"{verb} for {turn.noun}"
        return Reason(
            (turn,), words, ScenarioClass.INTERSECTION, Longitudinal.ADAPT_SPEED, detail
        )
    bend = causes.curve(scene, _sight(scene))
    if bend is not None and not stops:
        words = f"{verb} for {bend.noun} ahead"
        return Reason((bend,), words, ScenarioClass.CURVE, Longitudinal.ADAPT_SPEED, detail)
    line = causes.stop_line(scene)
    if line is not None and stops:
        words = f"{verb} at {line.noun} ahead"
        return Reason((line,), words, ScenarioClass.STOP_FOR_CONTROL, Longitudinal.STOP, detail)
    return None


def stand(scene: Scene, moment: Moment) -> Reason | None:
    """Why the ego goes on standing."""
    del moment
    detail, verb = SpeedDetail.STAY_STOPPED, "Stay stopped"
    ahead = causes.lead(scene)
    still = ahead is not None and ahead.component.attributes["motion"] == "stopped"
    if still and ahead.component.fact["gap_m"] < 12.0:
        words = f"{verb} behind {ahead.noun}, which is stopped"
        return Reason(
            (ahead,), words, ScenarioClass.STOP_FOR_LEAD, Longitudinal.FOLLOW_LEAD, detail
        )
    signal = causes.light(scene, ("red", "yellow"))
    if signal is not None:
        words = f"{verb} because {signal.clause}"
        return Reason((signal,), words, ScenarioClass.STOP_FOR_CONTROL, Longitudinal.STOP, detail)
    other = causes.crossing(scene)
    if other is None:
        return None
    words = f"{verb} to yield because {other.clause}"
    return Reason((other,), words, _crossing_class(scene, other), Longitudinal.YIELD, detail)


def start(scene: Scene, moment: Moment, earlier: Callable[[float], Scene]) -> Reason | None:
    """Why the ego is about to move off; `earlier` makes the scene so many seconds before."""
    del moment
    detail, verb = SpeedDetail.START, "Start moving"
    signal = causes.light(scene, ("green",))
    if signal is not None:
        words = f"{verb} because {signal.clause}"
        return Reason(
            (signal,), words, ScenarioClass.RESUME_AT_CONTROL, Longitudinal.SET_SPEED, detail
        )
    ahead = causes.lead(scene)
    if ahead is not None and ahead.component.fact["gap_m"] < 15.0:
        if ahead.component.attributes["motion"] in ("stopped", "slowing"):
            return None
        words = f"{verb} because the {ahead.noun.removeprefix('the ')} is driving off"
        return Reason((ahead,), words, None, Longitudinal.FOLLOW_LEAD, detail)
    if causes.crossing(scene) is not None:
        return None
    for back in (0.6, 1.2, 1.8):
        gone = causes.passed(scene, earlier(back))
        if gone is not None:
            scenario = _crossing_class(scene, gone)
            words = f"{verb} because {gone.clause}"
            return Reason((gone,), words, scenario, Longitudinal.SET_SPEED, detail)
    free = causes.free_lane(scene, reach=12.0)
    if free is None:
        return None
    return Reason(
        (free,), f"{verb} because {free.clause}", None, Longitudinal.SET_SPEED, detail
    )


def faster(scene: Scene, moment: Moment) -> Reason | None:
    """Why the ego is about to speed up."""
    del moment
    detail, verb = SpeedDetail.FASTER, "Speed up"
    ahead = causes.lead(scene)
    if ahead is not None and ahead.component.fact["gap_m"] < 3.0 * max(scene.speed, 3.0) + 6.0:
        faster_now = ahead.component.attributes["motion"] == "accelerating"
        pulls_away = ahead.component.fact["speed_mps"] > scene.speed + 0.5
        if not (faster_now or pulls_away):
            return None
        clause = ahead.clause if faster_now else f"{ahead.noun} is faster"
        words = f"{verb} because {clause}"
        return Reason((ahead,), words, None, Longitudinal.FOLLOW_LEAD, detail)
    free = causes.free_lane(scene)
    if free is None:
        return None
    words = f"{verb} because {free.clause}"
    return Reason((free,), words, None, Longitudinal.SET_SPEED, detail)


def turn(scene: Scene, moment: Moment) -> Reason | None:
    """The turn that the ego is about to make; a curve where the map has no junction."""
    off = causes.junction_turn(scene)
    if off is None:
        return bend(scene, moment)
    if off.component.attributes["side"] != moment.side:
        return None
    return Reason(
        (off,), f"Turn {moment.side} at the junction to follow the route",
        ScenarioClass.INTERSECTION, lateral=Lateral.TURN, side=moment.side,
    )  # fmt: skip


def bend(scene: Scene, moment: Moment) -> Reason | None:
    """The curve that the ego is about to drive through without slowing down first."""
    ahead = causes.curve(scene, max(2.5 * scene.speed, 15.0))
    if ahead is None or ahead.component.attributes["side"] != moment.side or scene.speed < 2.0:
        return None
    return Reason(
        (ahead,), f"Keep the speed low through {ahead.noun} ahead",
        ScenarioClass.CURVE, Longitudinal.ADAPT_SPEED, SpeedDetail.KEEP,
    )  # fmt: skip


def junction(scene: Scene, moment: Moment) -> Reason | None:
    """Passing a junction straight on, with nobody in the way."""
    del moment
    way = causes.junction(scene, 12.0) or causes.stop_line(scene)
    free = causes.free_lane(scene, reach=20.0)
    signal = causes.light(scene, ("green",))
    if way is None or (free is None and signal is None):
        return None
    why = signal if signal is not None else free
    past = "through the junction" if way.noun == "the junction" else "past the stop line"
    return Reason(
        (why, way), f"Keep the speed {past} because {why.clause}",
        ScenarioClass.INTERSECTION, Longitudinal.SET_SPEED, SpeedDetail.KEEP,
    )  # fmt: skip


def person(scene: Scene) -> Reason | None:
    """Going on past someone who could cross and does not."""
    other = causes.standing_person(scene)
    if other is None or scene.speed < 2.0 or causes.crossing(scene) is not None:
        return None
    return Reason(
        (other,), f"Keep the speed because {other.clause}",
        ScenarioClass.NO_YIELD_TO_VRU, Longitudinal.SET_SPEED, SpeedDetail.KEEP,
    )  # fmt: skip


def lane_change(scene: Scene, moment: Moment) -> Reason | None:
    """Why the ego is about to change lane: a slower road user ahead, or something in its lane."""
    ahead = causes.lead_in_lane(scene)
    if ahead is None or ahead.component.attributes["motion"] not in _HINDERS:
        return None
    words = f"Change to the {moment.side} lane because {ahead.clause}"
    return Reason(
        (ahead,), words, ScenarioClass.LANE_CHANGE, lateral=Lateral.LANE_CHANGE, side=moment.side
    )


def nudge(scene: Scene, moment: Moment, leaves: bool) -> Reason | None:
    """Why the ego is about to move aside; `leaves` says whether it crosses the edge of its lane."""
    away_from = "right" if moment.side == "left" else "left"
    other = causes.obstacle(scene, away_from, shift=abs(moment.size))
    if other is None:
        return None
    decision = Lateral.OUT_OF_LANE_NUDGE if leaves else Lateral.IN_LANE_NUDGE
    category = other.component.attributes["category"].upper()
    construction = any(word in category for word in ("CONE", "BARRIER", "BARREL"))
    scenario = ScenarioClass.CONSTRUCTION if construction else ScenarioClass.NUDGE
    words = f"Move slightly to the {moment.side} because {other.clause}"
    return Reason((other,), words, scenario, lateral=decision, side=moment.side)


def _matters(scene: Scene, ahead: Cause, steady: bool) -> bool:
    """Whether a lead is why the ego slows down; `steady`: one that only keeps its speed counts."""
    fact, speed = ahead.component.fact, max(scene.speed, 1.0)
    if ahead.component.attributes["motion"] in _HINDERS:
        return fact["gap_m"] < _CLOSE_M + _FAR_S * speed
    pulls_away = fact["speed_mps"] > scene.speed + 0.5
    return steady and not pulls_away and fact["gap_m"] < _CLOSE_S * speed


def _crossing_class(scene: Scene, other: Cause | None) -> ScenarioClass:
    if other is not None and causes.is_vulnerable(other):
        return ScenarioClass.YIELD_TO_VRU
    if causes.junction(scene, 40.0) is not None:
        return ScenarioClass.INTERSECTION
    return ScenarioClass.RISKY_DRIVING


def _sight(scene: Scene) -> float:
    """Metres of road that matter for slowing down: the way to brake to a crawl, and a second."""
    return max(2.0 * scene.speed + scene.speed**2 / 3.0, 20.0)
