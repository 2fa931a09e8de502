"""Why the expert does what it is about to do, told from what can be seen at one step.

The decision is what the expert does half a second later (table 3 of the paper); what is named as
its cause is read only from the state at its own time: the light now, the lead's brakes now.
"""

import dataclasses

import numpy as np

from alpamayo_jax.coc.component import Component, Kind
from alpamayo_jax.coc.decisions import Lateral, Longitudinal, SpeedDetail
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.sim import world as there
from alpamayo_jax.sim.rules import CAUSES
from alpamayo_jax.sim.scenarios import Run
from alpamayo_jax.sim.seen import FRONT, Other, others_of
from alpamayo_jax.sim.views import Bend, Coming, bend_ahead, waiting_person

REACTION = 5  # steps from the keyframe to the reaction it explains
OUTCOME = 10  # steps over which the reaction is judged
_CHANGE = 0.35  # m/s of speed change over `OUTCOME` that counts as slowing or speeding up
_STANDING = 0.1  # m/s
_SIGNAL_VIEW = 110.0  # metres from which the colour of a light can be told
_TURNED_GREEN = 8.0  # seconds for which a light is said to have turned green
_AFTER = 8  # steps after its beginning for which a move aside is what is explained


@dataclasses.dataclass(frozen=True)
class Explanation:
    """A decision and its reason.

    Attributes:
      text: the trace, one sentence.
      scenario: class of the moment, or None where it belongs to none.
      components: what the trace rests on.
      longitudinal, detail, lateral, side: the decision.
    """

    text: str
    scenario: ScenarioClass | None
    components: tuple[Component, ...]
    longitudinal: Longitudinal | None = None
    detail: str = ""
    lateral: Lateral | None = None
    side: str = ""


class Explainer:
    """Explains a played scenario step by step."""

    def __init__(self, run: Run):
        self.run, self.world, self.drive = run, run.world, run.drive
        self.others: tuple[Other, ...] = others_of(run.world, run.motions)
        self._curves = Coming(run)

    def at(self, k: int) -> Explanation | None:
        """The explanation at step k, or None where the coming reaction has no evidence yet."""
        move = self._move(k)
        if move is not None:
            return move
        last = len(self.drive.t) - 1
        cause = CAUSES[self.drive.cause[min(k + REACTION, last)]]
        actor = int(self.drive.actor[min(k + REACTION, last)])
        action = self._action(k)
        if cause in ("lead", "cut_in", "vru", "conflict", "gap", "blocked") and actor < 0:
            return None
        rules = {
            "lead": self._lead, "cut_in": self._cut_in, "vru": self._crosses,
            "conflict": self._crosses, "gap": self._gap, "blocked": self._blocked,
        }  # fmt: skip
        if cause in rules:
            return rules[cause](k, action, actor)
        if cause in ("signal", "sign", "bump", "curve", "passing", "end"):
            return getattr(self, f"_{cause}")(k, action)
        return self._free(k, action)

    def _action(self, k: int) -> str:
        v = self.drive.v
        begin, end = (min(k + ahead, len(v) - 1) for ahead in (REACTION, REACTION + OUTCOME))
        if v[begin] < _STANDING and v[end] < _STANDING:
            return "stand"
        change = v[end] - v[begin]
        return "slow" if change < -_CHANGE else "faster" if change > _CHANGE else "keep"

    def _component(self, k: int, kind: Kind, **attributes: str) -> Component:
        return Component(kind, attributes, round(float(self.drive.t[k]), 3))

    def _object(self, k: int, number: int, pose: str, motion: str) -> Component:
        other = self.others[number]
        kind = other.actor.kind
        name = "vehicle" if kind.vehicle else kind.value.lower() if kind.vulnerable else "object"
        gap = float(other.s[k] - other.ahead[k] - self.drive.s[k] - FRONT)
        fact = {"gap_m": round(gap, 2), "speed_mps": round(float(other.motion.v[k]), 2)}
        attributes = {"type": name, "category": kind.value, "pose": pose, "motion": motion}
        seen = round(float(self.drive.t[k]), 3)
        return Component(Kind.OBJECT, attributes, seen, track=number, fact=fact)

    def _noun(self, number: int) -> str:
        kind = self.others[number].actor.kind
        names = {there.Kind.CYCLIST: "cyclist", there.Kind.PEDESTRIAN: "pedestrian"}
        return names.get(kind, "car" if kind.vehicle else "obstacle")

    def _lead(self, k: int, action: str, number: int) -> Explanation | None:
        lead, own = self.others[number], self.drive.v[k]
        speed, kind = float(lead.speed[k]), lead.actor.kind
        if kind in (there.Kind.CONE, there.Kind.BARRIER):
            return self._passing(k, action)
        noun, follow = f"{self._noun(number)} ahead", Longitudinal.FOLLOW_LEAD
        stop, slow = ScenarioClass.STOP_FOR_LEAD, ScenarioClass.SLOW_FOR_LEAD
        if lead.motion.v[k] < 0.3:
            seen = (self._object(k, number, "in_path", "stopped"),)
            if own < _STANDING:
                text = f"Stay stopped behind the stopped {noun}."
                return Explanation(text, stop, seen, follow, SpeedDetail.STAY_STOPPED)
            text = f"Slow down to stop behind the stopped {noun}."
            return Explanation(text, stop, seen, follow, SpeedDetail.STOP)
        if action == "slow":
            scenario = stop if self._comes_to_rest(k) else slow
            if lead.motion.braking[k]:
                seen = (self._object(k, number, "in_path", "slowing"),)
                text = f"Slow down because the {noun} is braking."
                return Explanation(text, scenario, seen, follow, SpeedDetail.SLOW)
            if speed < own - 0.3:
                seen = (self._object(k, number, "in_path", "slower"),)
                text = f"Slow down because the {noun} is slower."
                return Explanation(text, slow, seen, follow, SpeedDetail.SLOW)
            return None
        blocker = int(self.drive.blocker[k])
        if blocker >= 0 and speed < self.run.scenario.style.set_speed - 1.0 and own > 1.0:
            seen = (self._object(k, number, "in_path", "slower"),
                    self._object(k, blocker, "left", "moving"))  # fmt: skip
            text = f"Stay behind the slower {noun} because a car blocks the left lane."
            return Explanation(text, ScenarioClass.PREPARE_LANE_CHANGE, seen, follow,
                               SpeedDetail.KEEP)  # fmt: skip
        if action == "faster":
            seen = (self._object(k, number, "in_path", "accelerating"),)
            if own < 2.0:
                text = f"Start moving because the {noun} is driving off."
                return Explanation(text, None, seen, follow, SpeedDetail.START)
            if speed > own + 0.1:
                text = f"Speed up because the {noun} is speeding up."
                return Explanation(text, None, seen, follow, SpeedDetail.FASTER)
            return None
        if own < 2.0:
            return None
        seen = (self._object(k, number, "in_path", "moving"),)
        return Explanation(f"Keep a safe distance to the {noun}.", None, seen, follow,
                           SpeedDetail.KEEP)  # fmt: skip

    def _comes_to_rest(self, k: int) -> bool:
        """Whether the ego is about to come to rest; it says which class the moment is of."""
        return bool(self.drive.v[k : k + 90].min() < 0.3)

    def _cut_in(self, k: int, action: str, number: int) -> Explanation | None:
        other = self.others[number]
        if action != "slow" or not (other.motion.blinks[k] or abs(other.sidling[k]) > 0.2):
            return None
        side = "left" if other.d[k] > self.drive.d[k] else "right"
        seen = (self._object(k, number, side, "cut_in"),)
        text = f"Slow down because the car on the {side} is cutting in."
        return Explanation(text, ScenarioClass.CUT_IN, seen, Longitudinal.YIELD, SpeedDetail.SLOW)

    def _crosses(self, k: int, action: str, number: int) -> Explanation | None:
        other = self.others[number]
        if other.motion.v[k] < 0.3 or action not in ("slow", "stand"):
            return None
        side = "left" if other.d[k] > self.drive.d[k] else "right"
        vulnerable = other.actor.kind.vulnerable
        walk = vulnerable and self.world.layout.crosswalks
        seen = [self._object(k, number, "crosswalk" if walk else side, "crossing")]
        scenario = ScenarioClass.YIELD_TO_VRU if vulnerable else ScenarioClass.RISKY_DRIVING
        verb = "Stay stopped" if action == "stand" else "Slow down"
        text = f"{verb} because a {self._noun(number)} is crossing from the {side}."
        if other.actor.path.closed:
            seen.append(self._component(k, Kind.ROAD_EVENT, type="roundabout"))
            text = f"{verb} to yield to the car in the roundabout."
            scenario = ScenarioClass.INTERSECTION
        detail = SpeedDetail.STAY_STOPPED if action == "stand" else SpeedDetail.SLOW
        return Explanation(text, scenario, tuple(seen), Longitudinal.YIELD, detail)

    def _gap(self, k: int, action: str, number: int) -> Explanation | None:
        if action != "slow":
            return None
        seen = (self._object(k, number, "left", "moving"),
                self._component(k, Kind.ROUTE, intent="merge", side="left"))  # fmt: skip
        text = "Slow down to merge behind the car on the left."
        return Explanation(text, ScenarioClass.PREPARE_LANE_CHANGE, seen,
                           Longitudinal.SEARCH_GAP, SpeedDetail.SLOW)  # fmt: skip

    def _blocked(self, k: int, action: str, number: int) -> Explanation | None:
        blocker = int(self.drive.blocker[k])
        if blocker < 0 or action not in ("slow", "stand"):
            return None
        seen = (self._object(k, blocker, "oncoming", "moving"),
                self._object(k, number, "right", "parked"))  # fmt: skip
        verb = "Stay stopped" if action == "stand" else "Slow down"
        text = f"{verb} because an oncoming car blocks the way around the parked car."
        detail = SpeedDetail.STAY_STOPPED if action == "stand" else SpeedDetail.SLOW
        return Explanation(text, ScenarioClass.PREPARE_NUDGE, seen, Longitudinal.YIELD, detail)

    def _light(self, k: int) -> str | None:
        """Colour of a light that is ahead and in view."""
        signal = self.world.signal
        if signal is None or not 0.0 < signal.s - self.drive.s[k] - FRONT < _SIGNAL_VIEW:
            return None
        return signal.colour(float(self.drive.t[k]))

    def _signal(self, k: int, action: str) -> Explanation | None:
        colour = self._light(k)
        if colour not in ("red", "yellow"):
            return None
        seen = (self._component(k, Kind.LIGHT, state=colour),)
        scenario = ScenarioClass.STOP_FOR_CONTROL
        if action == "stand" or self.drive.v[k] < _STANDING:
            text = f"Stay stopped at the line because the traffic light is {colour}."
            return Explanation(text, scenario, seen, Longitudinal.STOP, SpeedDetail.STAY_STOPPED)
        text = f"Slow down to stop at the line because the traffic light is {colour}."
        return Explanation(text, scenario, seen, Longitudinal.STOP, SpeedDetail.STOP)

    def _sign(self, k: int, action: str) -> Explanation | None:
        seen = (self._component(k, Kind.CONTROL, type="stop_sign"),)
        stands = action == "stand" or self.drive.v[k] < _STANDING
        text = "Stay stopped at the stop sign." if stands else "Slow down to stop at the stop sign."
        detail = SpeedDetail.STAY_STOPPED if stands else SpeedDetail.STOP
        return Explanation(text, ScenarioClass.STOP_FOR_CONTROL, seen, Longitudinal.STOP, detail)

    def _bump(self, k: int, action: str) -> Explanation | None:
        if action == "faster":
            return self._speeds_up(k)
        if not any(bump > self.drive.s[k] for bump in self.world.bumps):
            return None
        seen = (self._component(k, Kind.ROAD_EVENT, type="bump"),)
        slow = action == "slow"
        text = "Slow down for the speed bump ahead." if slow else (
            "Hold a low speed over the speed bump."
        )  # fmt: skip
        detail = SpeedDetail.SLOW if slow else SpeedDetail.KEEP
        scenario = ScenarioClass.SPEED_BUMP if slow else None
        return Explanation(text, scenario, seen, Longitudinal.ADAPT_SPEED, detail)

    def _passing(self, k: int, action: str) -> Explanation | None:
        if action != "slow":
            return None
        seen = (self._component(k, Kind.ODD, type="construction"),)
        return Explanation("Slow down because traffic cones close a part of the lane.",
                           ScenarioClass.CONSTRUCTION, seen, Longitudinal.ADAPT_SPEED,
                           SpeedDetail.SLOW)  # fmt: skip

    def _end(self, k: int, action: str) -> Explanation | None:
        if action not in ("slow", "stand"):
            return None
        seen = (self._component(k, Kind.LANE, type="ego_lane", state="ends"),)
        return Explanation("Slow down because the lane ends.", ScenarioClass.PREPARE_LANE_CHANGE,
                           seen, Longitudinal.SEARCH_GAP, SpeedDetail.SLOW)  # fmt: skip

    def _curve(self, k: int, action: str) -> Explanation | None:
        place = self._junction(k)
        if place is not None:
            return self._turn(k, action, *place)
        bend = bend_ahead(self.run, k, slows=action == "slow")
        if bend is None:
            return None
        seen = (self._bend(k, bend),)
        if action == "slow":
            return Explanation(f"Slow down for the {bend.name} ahead.", ScenarioClass.CURVE, seen,
                               Longitudinal.ADAPT_SPEED, SpeedDetail.SLOW)  # fmt: skip
        if not bend.inside:
            return None
        if action == "faster":
            return Explanation(f"Speed up as the {bend.name} opens.", None, seen,
                               Longitudinal.SET_SPEED, SpeedDetail.FASTER)  # fmt: skip
        return Explanation(f"Hold a low speed through the {bend.name}.", ScenarioClass.CURVE, seen,
                           Longitudinal.ADAPT_SPEED, SpeedDetail.KEEP)  # fmt: skip

    def _bend(self, k: int, bend: Bend) -> Component:
        component = self._component(
            k, Kind.ROAD_EVENT, type="curve", side=bend.side, sharpness=bend.sharpness
        )
        fact = {"curvature_1pm": round(bend.kappa, 4)}
        return dataclasses.replace(component, fact=fact)

    def _junction(self, k: int) -> tuple[str, bool] | None:
        """(side, whether a roundabout) of a junction ahead in which the route turns, or None."""
        route, s = self.world.layout.route, self.drive.s[k]
        for begin, end in self.world.layout.junctions:
            if begin - 90.0 < s < end:
                ring = any(strip.path.closed for strip in self.world.layout.strips)
                turned = np.diff(np.interp([begin, end], route.s, route.heading))[0]
                if ring or abs(turned) > 0.5:
                    return ("left" if turned > 0 else "right"), ring
        return None

    def _turn(self, k: int, action: str, side: str, ring: bool) -> Explanation | None:
        verb = {"slow": "Slow down for", "keep": "Hold a low speed through",
                "faster": "Speed up out of"}.get(action)  # fmt: skip
        if verb is None:
            return None
        detail = {"slow": SpeedDetail.SLOW, "keep": SpeedDetail.KEEP,
                  "faster": SpeedDetail.FASTER}[action]  # fmt: skip
        scenario = ScenarioClass.INTERSECTION
        if ring:
            seen = (self._component(k, Kind.ROAD_EVENT, type="roundabout"),)
            return Explanation(f"{verb} the roundabout.", None, seen,
                               Longitudinal.ADAPT_SPEED, detail)  # fmt: skip
        seen = (self._component(k, Kind.ROUTE, intent="turn", side=side),)
        return Explanation(f"{verb} the {side} turn at the junction.", scenario, seen,
                           Longitudinal.ADAPT_SPEED, detail, Lateral.TURN, side)  # fmt: skip

    def _move(self, k: int) -> Explanation | None:
        """What is said of a move aside, from half a second before it to a little after."""
        for move in self.drive.moves:
            if not move.step - REACTION <= k <= move.step + _AFTER:
                continue
            if move.kind == "return":
                return None
            if move.kind == "merge":
                seen = (self._component(k, Kind.LANE, type="ego_lane", state="ends"),)
                return Explanation("Merge to the left because the own lane ends.", None, seen,
                                   lateral=Lateral.MERGE_SPLIT, side="merge")  # fmt: skip
            if move.kind == "lane_change":
                seen = (self._object(k, move.actor, "in_path", "slower"),)
                text = "Change to the left lane because the car ahead is slower."
                return Explanation(text, ScenarioClass.LANE_CHANGE, seen,
                                   lateral=Lateral.LANE_CHANGE, side="left")  # fmt: skip
            return self._nudge(k, move)
        return None

    def _nudge(self, k: int, move) -> Explanation:
        lateral = Lateral.OUT_OF_LANE_NUDGE if move.leaves else Lateral.IN_LANE_NUDGE
        kind, how = self.others[move.actor].actor.kind, "" if move.leaves else "slightly "
        away = "right" if move.side == "left" else "left"
        if kind in (there.Kind.CONE, there.Kind.BARRIER):
            seen = (self._component(k, Kind.ODD, type="construction"),)
            text = f"Move {how}to the {move.side} to pass the traffic cones."
            return Explanation(text, ScenarioClass.CONSTRUCTION, seen, lateral=lateral,
                               side=move.side)  # fmt: skip
        parked = kind.vehicle
        seen = (self._object(k, move.actor, away, "parked" if parked else "moving"),)
        what = "parked car" if parked else "slow cyclist"
        text = f"Move {how}to the {move.side} to pass the {what}."
        return Explanation(text, ScenarioClass.NUDGE, seen, lateral=lateral, side=move.side)

    def _speeds_up(self, k: int) -> Explanation:
        seen = (self._component(k, Kind.LANE, type="clear_road", state="free"),)
        if self.drive.v[k] < 1.0:
            return Explanation("Start moving because the lane ahead is clear.", None, seen,
                               Longitudinal.SET_SPEED, SpeedDetail.START)  # fmt: skip
        return Explanation("Speed up because the lane ahead is clear.", None, seen,
                           Longitudinal.SET_SPEED, SpeedDetail.FASTER)  # fmt: skip

    def _free(self, k: int, action: str) -> Explanation | None:
        colour = self._light(k)
        # Only who has the right of way may go on past somebody who wants to cross.
        person = waiting_person(self.run, self.others, k) if colour == "green" else None
        if person is not None and action in ("keep", "faster"):
            number, side = person
            seen = (self._object(k, number, side, "stopped"),)
            text = f"Keep the speed because the pedestrian on the {side} waits."
            return Explanation(text, ScenarioClass.NO_YIELD_TO_VRU, seen, Longitudinal.SET_SPEED,
                               SpeedDetail.KEEP)  # fmt: skip
        if colour in ("red", "yellow"):
            seen = (self._component(k, Kind.LIGHT, state=colour),)
            text = f"Prepare to stop because the traffic light ahead is {colour}."
            return Explanation(text, None, seen, Longitudinal.STOP, SpeedDetail.KEEP)
        if colour == "green":
            seen = (self._component(k, Kind.LIGHT, state="green"),)
            turned = self.world.signal.since(float(self.drive.t[k])) < _TURNED_GREEN
            if self.drive.v[k] < 3.0 and action == "faster" and not turned:
                return self._speeds_up(k)
            if self.drive.v[k] < 3.0:
                return Explanation("Start moving because the traffic light has turned green.",
                                   ScenarioClass.RESUME_AT_CONTROL, seen, Longitudinal.SET_SPEED,
                                   SpeedDetail.START)  # fmt: skip
            return Explanation("Continue through the crossing because the traffic light is green.",
                               ScenarioClass.INTERSECTION, seen, Longitudinal.SET_SPEED,
                               SpeedDetail.KEEP)  # fmt: skip
        if action == "slow":
            return None
        if action == "faster":
            return self._speeds_up(k)
        bend = self._curves.coming(k)
        if bend is not None:
            seen = (self._bend(k, bend),)
            return Explanation(f"Prepare to slow down for the {bend.name} ahead.", None, seen,
                               Longitudinal.ADAPT_SPEED, SpeedDetail.KEEP)  # fmt: skip
        bend = bend_ahead(self.run, k, slows=False)
        if bend is not None:
            seen = (self._bend(k, bend),)
            return Explanation(f"Keep the speed and follow the {bend.name}.", None, seen,
                               Longitudinal.SET_SPEED, SpeedDetail.KEEP)  # fmt: skip
        seen = (self._component(k, Kind.LANE, type="clear_road", state="free"),)
        return Explanation("Keep the speed because the lane ahead is clear.", None, seen,
                           Longitudinal.SET_SPEED, SpeedDetail.KEEP)  # fmt: skip
