"""Causes: what in a scene can explain a decision, each with the facts that it rests on.

Every function looks at one `Scene` and returns a `Cause` or None; none of them knows what the ego
does next.
"""

import dataclasses

import numpy as np

from alpamayo_jax.coc.component import Component, Kind
from alpamayo_jax.coc.lanes import places
from alpamayo_jax.coc.rules.scene import CORRIDOR, EGO_FRONT, Scene

_ALIGNED = np.deg2rad(50.0)
_ONCOMING = np.deg2rad(120.0)
_STOPPED = 0.5  # m/s
_FAR = 60.0  # metres
_IN_LANE = 1.5  # metres from the centre of a lane


@dataclasses.dataclass(frozen=True)
class Cause:
    """A component and how a trace says it.

    Attributes:
      component: the evidence.
      noun: for example "the vehicle ahead".
      clause: a sentence without its end, for example "the vehicle ahead is slowing".
      urgency: larger is nearer in time.
    """

    component: Component
    noun: str
    clause: str
    urgency: float = 0.0


def lead(scene: Scene) -> Cause | None:
    """The nearest road user in the ego's path that goes or stands its way."""
    agents = scene.agents
    flow = agents.vehicle | (agents.kind == "cyclist")
    inside = (scene.clearance < CORRIDOR) & (scene.apart < _ALIGNED)
    ahead = (scene.gap > -1.0) & (scene.gap < _FAR) & (scene.s > EGO_FRONT)
    ours = np.flatnonzero(flow & inside & ahead)
    if not len(ours):
        return None
    return _lead_cause(scene, int(ours[np.argmin(scene.gap[ours])]))


def lead_in_lane(scene: Scene) -> Cause | None:
    """The nearest vehicle ahead in the lane that the ego is in, which the route may leave."""
    own = places(scene.roads, scene.motion.xy[-1], float(scene.motion.heading[-1]), reach=3.0)
    if not own:
        return None
    agents = scene.agents
    near = agents.vehicle & (scene.gap > -1.0) & (scene.gap < _FAR) & (scene.s > EGO_FRONT)
    ours = []
    for i in np.flatnonzero(near):
        there = places(scene.roads, agents.xy[i], float(agents.yaw[i]), reach=3.0)
        if any(p.lane == own[0].lane and abs(p.offset) < _IN_LANE for p in there):
            ours.append(i)
    if not ours:
        return None
    return _lead_cause(scene, int(min(ours, key=lambda i: scene.gap[i])))


def _lead_cause(scene: Scene, i: int) -> Cause:
    agents = scene.agents
    speed, change = float(agents.speed[i]), float(agents.speed[i] - agents.speed_before[i])
    if speed < _STOPPED:
        motion, verb = "stopped", "is stopped"
    elif change < -0.5:
        motion, verb = "slowing", "is slowing down"
    elif change > 0.5:
        motion, verb = "accelerating", "is speeding up"
    elif speed < scene.speed - 1.0:
        motion, verb = "slower", "is slower"
    else:
        motion, verb = "moving", "is moving"
    noun = f"the {agents.noun[i]} ahead"
    gap = max(float(scene.gap[i]), 0.0)
    return Cause(
        _object(scene, i, "in_path", motion, gap_m=gap, speed_before_mps=agents.speed_before[i]),
        noun,
        f"{noun} {verb}",
        urgency=1.0 / max(gap / max(scene.speed, 1.0), 0.3),
    )


def crossing(scene: Scene) -> Cause | None:
    """The road user that will cross the ego's path soonest, or is crossing it."""
    agents = scene.agents
    if not len(agents):
        return None
    least = np.where(agents.vulnerable, 0.35, 1.0)
    other_way = (scene.apart > np.deg2rad(35.0)) | agents.vulnerable
    toward = (scene.d * scene.across < 0) | (scene.clearance < CORRIDOR)
    oncoming = scene.facing > _ONCOMING
    sideways = np.abs(scene.across) > least
    moves = np.where(oncoming & ~agents.vulnerable, agents.speed > 1.0, sideways)
    known = agents.age > 0.3
    ours = np.isfinite(scene.conflict_in) & moves & toward & other_way & known & (scene.gap > -1.0)
    # Someone oncoming who is on the route now drives past the end of it: the route turns away.
    ours &= agents.vulnerable | agents.vehicle
    ours &= ~(oncoming & ~agents.vulnerable & ((scene.clearance < CORRIDOR) | ~turns_off(scene)))
    ours = np.flatnonzero(ours)
    if not len(ours):
        return None
    order = np.lexsort((scene.gap[ours], scene.conflict_in[ours]))
    i = int(ours[order[0]])
    pose, where = _pose(scene, i)
    noun = f"the {agents.noun[i]} {where}".strip()
    if pose == "oncoming":
        clause = f"the oncoming {agents.noun[i]} is about to cross the path"
        noun = f"the oncoming {agents.noun[i]}"
    else:
        soon = scene.conflict_in[i] > 1.0
        clause = f"{noun} is {'about to cross the path' if soon else 'crossing'}"
    return Cause(
        _object(
            scene, i, pose, "crossing",
            gap_m=scene.gap[i], across_mps=scene.across[i], in_path_in_s=scene.conflict_in[i],
        ),
        noun,
        clause,
        urgency=1.0 / (0.3 + float(scene.conflict_in[i])),
    )  # fmt: skip


def turns_off(scene: Scene, reach: float = 40.0) -> bool:
    """Whether the route soon leaves its direction, so that oncoming traffic matters."""
    return abs(scene.route.turned(0.0, min(reach, scene.route.known))) > np.deg2rad(50.0)


def cut_in(scene: Scene) -> Cause | None:
    """A vehicle beside the path that is moving into it, ahead of the ego, in its direction."""
    agents = scene.agents
    beside = (scene.clearance >= CORRIDOR - 0.4) & (np.abs(scene.d) < 5.5)
    toward = (scene.d * scene.across < 0) & (np.abs(scene.across) > 0.15)
    same_way = (scene.apart < _ALIGNED) & (scene.along > 1.0)
    near = (scene.gap > -2.0) & (scene.gap < 20.0) & np.isfinite(scene.conflict_in)
    ours = np.flatnonzero(agents.vehicle & beside & toward & same_way & near)
    if not len(ours):
        return None
    i = int(ours[np.argmin(scene.conflict_in[ours])])
    side = _side(scene.d[i])
    noun = f"the {agents.noun[i]} on the {side}"
    return Cause(
        _object(scene, i, side, "cut_in", gap_m=scene.gap[i], across_mps=scene.across[i]),
        noun,
        f"{noun} is moving into the path",
        urgency=1.0 / (0.3 + float(scene.conflict_in[i])),
    )


def standing_person(scene: Scene) -> Cause | None:
    """Someone on foot or on a bicycle beside the path who could cross and does not."""
    agents = scene.agents
    beside = (scene.clearance > CORRIDOR) & (scene.clearance < 4.5)
    waits = (np.abs(scene.across) < 0.25) & (agents.speed < 0.6)
    near = (scene.gap > 3.0) & (scene.gap < 25.0) & (agents.age > 0.5)
    ours = np.flatnonzero(agents.vulnerable & beside & waits & near)
    if not len(ours):
        return None
    i = int(ours[np.argmin(scene.gap[ours])])
    side = _side(scene.d[i])
    noun = f"the {agents.noun[i]} on the {side}"
    return Cause(
        _object(scene, i, side, "stopped", gap_m=scene.gap[i], clearance_m=scene.clearance[i]),
        noun,
        f"{noun} stands and does not cross",
    )


def obstacle(
    scene: Scene, side: str, shift: float = 0.0, reach: float = 25.0
) -> Cause | None:
    """Something on `side` of the path, standing or slow, that the ego would pass closely.

    Args:
      scene: the moment.
      side: "left" or "right".
      shift: metres by which the route moves aside; without it the ego would be so much closer.
      reach: metres ahead that count.
    """
    agents = scene.agents
    sign = 1.0 if side == "left" else -1.0
    close = (scene.clearance < CORRIDOR + 1.2 + shift) & (scene.clearance > 0.3)
    close &= sign * scene.d > 0
    slow = (agents.speed < _STOPPED) | (agents.vulnerable & (agents.speed < 3.0))
    ours = np.flatnonzero(close & slow & (scene.gap > -2.0) & (scene.gap < reach))
    if not len(ours):
        return None
    i = int(ours[np.argmin(scene.clearance[ours])])
    stands = agents.speed[i] < _STOPPED
    noun = f"the {agents.noun[i]} on the {side}"
    return Cause(
        _object(
            scene, i, side, "stopped" if stands else "moving",
            gap_m=scene.gap[i], clearance_m=scene.clearance[i],
        ),
        noun,
        f"{noun} is close to the path",
    )  # fmt: skip


def curve(scene: Scene, reach: float) -> Cause | None:
    """The bend of the route ahead, where the map has a road that bends so."""
    ahead = np.arange(0.0, min(reach, scene.route.known), 1.0)
    if len(ahead) < 12:
        return None
    heading = np.interp(ahead, scene.route.s, scene.route.heading)
    window = min(12, len(ahead) - 1)
    bend = heading[window:] - heading[:-window]
    at = int(np.argmax(np.abs(bend)))
    kappa = float(bend[at]) / window
    total = scene.route.turned(0.0, float(ahead[-1]))
    if abs(kappa) < 0.008 or abs(total) < np.deg2rad(12.0):
        return None
    if not scene.on_road(float(ahead[at]), float(ahead[at + window])):
        return None
    side = _side(kappa)
    sharpness = "gentle" if abs(kappa) < 0.012 else "sharp" if abs(kappa) > 0.035 else "moderate"
    word = "" if sharpness == "moderate" else f"{sharpness} "
    noun = f"the {word}{side} curve"
    component = Component(
        Kind.ROAD_EVENT,
        {"type": "curve", "side": side, "sharpness": sharpness},
        scene.t,
        fact=_facts(curvature_1pm=kappa, tightest_in_m=ahead[at], turns_rad=total),
    )
    return Cause(component, noun, f"{noun} is ahead")


def junction_turn(scene: Scene, reach: float = 45.0) -> Cause | None:
    """The junction of the map in which the route turns off."""
    entry = scene.junction_at(reach)
    if entry is None:
        return None
    # A corner behind the junction is a curve: what counts is turned inside.
    end = min(scene.junction_end(entry) + 4.0, scene.route.known)
    total = scene.route.turned(max(entry - 4.0, 0.0), end) if end > entry else 0.0
    if abs(total) < np.deg2rad(50.0):
        return None
    side = _side(total)
    component = Component(
        Kind.ROUTE,
        {"intent": "turn", "side": side},
        scene.t,
        fact=_facts(junction_in_m=max(entry - EGO_FRONT, 0.0), turns_rad=total),
    )
    return Cause(component, f"the {side} turn at the junction", f"the route turns {side}")


def junction(scene: Scene, reach: float) -> Cause | None:
    """The next junction of the map on the route."""
    entry = scene.junction_at(reach)
    if entry is None:
        return None
    component = Component(
        Kind.ROAD_EVENT,
        {"type": "junction"},
        scene.t,
        fact=_facts(begins_in_m=max(entry - EGO_FRONT, 0.0)),
    )
    return Cause(component, "the junction", "the junction is ahead")


def light(scene: Scene, colours: tuple[str, ...]) -> Cause | None:
    """The nearest traffic light ahead, if it shows one of `colours`."""
    found = scene.light()
    if found is None or found[0] not in colours:
        return None
    colour, since, ahead = found
    component = Component(
        Kind.LIGHT, {"state": colour}, scene.t, fact=_facts(distance_m=ahead, since_s=since)
    )
    return Cause(component, "the traffic light", f"the traffic light is {colour}")


def stop_line(scene: Scene) -> Cause | None:
    """The next stop line across the route, near enough to stop at."""
    ahead = scene.stop_line_at(scene.braking_reach + 10.0)
    if ahead is None:
        return None
    component = Component(
        Kind.CONTROL, {"type": "stop_line"}, scene.t, fact=_facts(distance_m=ahead)
    )
    return Cause(component, "the stop line", "a stop line is ahead")


def passed(scene: Scene, before: Scene) -> Cause | None:
    """Someone who was crossing in an earlier scene and is out of the way now."""
    earlier = crossing(before)
    if earlier is None:
        return None
    here = np.flatnonzero(scene.agents.track == earlier.component.track)
    if not len(here):
        return None  # gone from the annotation: nothing shows that it left the path
    i = int(here[0])
    if scene.clearance[i] < CORRIDOR or crossing(scene) is not None:
        return None
    side = _side(scene.left[i])
    oncoming = earlier.component.attributes["pose"] == "oncoming"
    noun = f"the {'oncoming' if oncoming else 'crossing'} {scene.agents.noun[i]}"
    return Cause(
        _object(
            scene, i, "oncoming" if oncoming else side, "passed",
            gap_m=scene.gap[i], crossed_at_s=before.t,
        ),
        noun,
        f"{noun} has {'passed' if oncoming else 'left the path'}",
    )  # fmt: skip


def free_lane(scene: Scene, reach: float = 25.0) -> Cause | None:
    """The path ahead, where nobody annotated is on it or about to be."""
    if scene.clip.agents is None or light(scene, ("red", "yellow")) is not None:
        return None
    agents = scene.agents
    big = agents.vulnerable | agents.vehicle
    on_it = (scene.clearance < CORRIDOR) & (scene.s > EGO_FRONT - 1.0)
    gaps = np.append(scene.gap[on_it & big], _FAR)
    free = float(gaps.min())
    if free < reach or crossing(scene) is not None or cut_in(scene) is not None:
        return None
    component = Component(
        Kind.LANE, {"type": "clear_road", "state": "free"}, scene.t, fact=_facts(free_m=free)
    )
    return Cause(component, "the clear lane", "the lane ahead is clear")


def is_vulnerable(cause: Cause) -> bool:
    """Whether the cause is someone on foot, or on two small wheels."""
    return cause.component.attributes.get("type") in ("pedestrian", "cyclist", "vru")


def _object(scene: Scene, i: int, pose: str, motion: str, **facts: float) -> Component:
    agents = scene.agents
    return Component(
        Kind.OBJECT,
        {
            "type": str(agents.kind[i]),
            "category": agents.category[i],
            "pose": pose,
            "motion": motion,
        },
        scene.t,
        track=int(agents.track[i]),
        fact=_facts(speed_mps=agents.speed[i], ego_mps=scene.speed, **facts),
    )


def _facts(**values: float) -> dict[str, float]:
    return {name: round(float(value), 3) for name, value in values.items()}


def _side(value: float) -> str:
    return "left" if value > 0 else "right"


def _pose(scene: Scene, i: int) -> tuple[str, str]:
    """(pose, how a trace says where) of agent i."""
    if scene.agents.vulnerable[i] and scene.in_crosswalk(i):
        return "crosswalk", "on the crosswalk"
    if scene.clearance[i] < CORRIDOR:
        return "in_path", "ahead"
    if scene.facing[i] > _ONCOMING and not scene.agents.vulnerable[i]:
        return "oncoming", ""
    side = _side(scene.left[i])
    return side, f"on the {side}"
