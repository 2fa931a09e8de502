"""Labels against a clip: is what they cite annotated, and did the ego do what they say?"""

import numpy as np

from alpamayo_jax.clip import Clip
from alpamayo_jax.coc.agents import names_of
from alpamayo_jax.coc.checks import Failure
from alpamayo_jax.coc.component import Component, Kind
from alpamayo_jax.coc.decisions import Lateral, Longitudinal, SpeedDetail
from alpamayo_jax.coc.lanes import Roads, roads_of
from alpamayo_jax.coc.motion import EgoMotion, ego_motion
from alpamayo_jax.coc.rules import causes
from alpamayo_jax.coc.rules.scene import CORRIDOR, EGO_FRONT, Scene, scene_at
from alpamayo_jax.coc.schema import CocLabel

NOT_ANNOTATED = "not_annotated"
_STANDS, _MOVED = 0.8, 0.4  # m/s
_HORIZON = 40  # ticks in which a decision shows
_TURNED = np.deg2rad(30.0)
_SLACK_M, _SLACK_S = 1.5, 0.75


class Annotations:
    """A clip prepared for checking many labels."""

    def __init__(self, clip: Clip):
        self.clip = clip
        self.motion: EgoMotion = ego_motion(clip.ego)
        self.roads: Roads = roads_of(clip.map_lines)

    def scene(self, t: float) -> Scene:
        """What was known at time t."""
        t = float(self.motion.t[self.motion.index(t)])
        return scene_at(self.clip, t, self.motion, self.roads)

    def check(self, label: CocLabel, evidence: bool = True) -> list[Failure]:
        """What the annotations do not bear out; the scene is cut at the keyframe.

        Args:
          label: of this clip.
          evidence: whether its components must be annotated; a person or a model that sees the
            pictures may name more.
        """
        t = self.motion.t
        if not t[0] - 0.05 <= label.keyframe_s <= t[-1] + 0.05:
            message = f"keyframe_s {label.keyframe_s:.3f} is outside {t[0]:.1f} to {t[-1]:.1f} s"
            return [Failure(NOT_ANNOTATED, message)]
        scene = self.scene(label.keyframe_s)
        found = [
            Failure(NOT_ANNOTATED, f"components[{i}]: {message}")
            for i, component in enumerate(label.components if evidence else ())
            for message in [_unshown(component, self.scene(component.seen_at))]
            if message
        ]
        if message := _background(label, scene):
            found.append(Failure("proximate_cause", message))
        found += [Failure("decision_minimality", text) for text in _undone(label, self.motion)]
        return found


def _unshown(component: Component, scene: Scene) -> str:
    """Why a component is not what the annotations show, or ""."""
    kind = component.attributes.get("type")
    if component.kind is Kind.OBJECT:
        return _unshown_object(component, scene)
    if component.kind is Kind.LIGHT:
        light = scene.light()
        if light is None or light[0] != component.attributes.get("state"):
            return f"no traffic light ahead shows {component.attributes.get('state')}"
    elif component.kind is Kind.CONTROL:
        there = {
            "stop_line": scene.stop_line_at(60.0) is not None,
            "crosswalk": bool(scene.roads.crosswalks),
        }
        return "" if there.get(kind) else f"no {kind} is annotated ahead"
    elif component.kind is Kind.LANE and kind == "clear_road":
        free = float(component.fact.get("free_m", 10.0)) - _SLACK_M
        agents = scene.agents
        on_it = (scene.clearance < CORRIDOR) & (scene.s > EGO_FRONT) & (scene.gap < free)
        on_it &= agents.vehicle | agents.vulnerable
        if scene.clip.agents is None or on_it.any():
            return "the lane ahead is not shown to be clear"
    elif component.kind is Kind.ROAD_EVENT and kind == "junction":
        return "" if scene.junction_at(60.0) is not None else "no junction is in the map ahead"
    elif component.kind is Kind.ROAD_EVENT and kind == "curve":
        bend = causes.curve(scene, 90.0)
        known = bend is not None and bend.component.attributes["side"]
        if known != component.attributes.get("side", known) and not _bends(scene, component):
            return "no such curve is in the map ahead"
    elif component.kind is Kind.ROUTE and component.attributes.get("intent") == "turn":
        turn = causes.junction_turn(scene)
        if turn is None or turn.component.attributes["side"] != component.attributes.get("side"):
            return "the route does not turn so at a junction of the map"
    else:
        return f"a {component.kind.value} of type {kind!r} cannot be seen in annotations"
    return ""


def _bends(scene: Scene, component: Component) -> bool:
    """Whether the route bends to the component's side within the reach that it gives."""
    at = float(component.fact.get("tightest_in_m", 0.0))
    side = component.attributes.get("side")
    bend = scene.route.turned(at, at + 12.0)
    return scene.on_road(at, at + 12.0) and (bend > 0.05 if side == "left" else bend < -0.05)


def _unshown_object(component: Component, scene: Scene) -> str:
    agents = scene.agents
    if component.track is None:
        return "names no track"
    rows = np.flatnonzero(agents.track == component.track)
    if not len(rows):
        return f"track {component.track} is not seen at {scene.t:.1f} s"
    i = int(rows[0])
    kind, _ = names_of(agents.category[i])
    if kind != component.attributes.get("type"):
        return f"track {component.track} is a {kind}, not a {component.attributes.get('type')}"
    motion, pose = component.attributes.get("motion"), component.attributes.get("pose")
    speed = float(agents.speed[i])
    if motion in ("stopped", "parked") and speed > _STANDS:
        return f"track {component.track} moves at {speed:.1f} m/s"
    if motion in ("crossing", "cut_in") and not scene.conflict_in[i] < 4.5:
        return f"track {component.track} does not come into the path"
    if motion == "slowing" and speed > agents.speed_before[i] - 0.3:
        return f"track {component.track} does not slow down"
    ahead = causes.lead_in_lane(scene)
    leads = ahead is not None and ahead.component.track == component.track
    if pose == "in_path" and scene.clearance[i] > CORRIDOR + 0.3 and not leads:
        return f"track {component.track} is {scene.clearance[i]:.1f} m beside the path"
    sides = {"left" if beside > 0 else "right" for beside in (scene.d[i], scene.left[i])}
    if pose in ("left", "right") and pose not in sides:
        return f"track {component.track} is on the other side"
    if pose == "oncoming" and scene.facing[i] < np.deg2rad(90.0):
        return f"track {component.track} goes the ego's way"
    if pose == "crosswalk" and not scene.in_crosswalk(i):
        return f"track {component.track} is on no crosswalk"
    return ""


def _background(label: CocLabel, scene: Scene) -> str:
    """A lead that stands nearer than the control that a label stops for."""
    if label.longitudinal is not Longitudinal.STOP:
        return ""
    lead = causes.lead(scene)
    if lead is None or lead.component.attributes["motion"] not in ("stopped", "slowing"):
        return ""
    distances = [c.fact["distance_m"] for c in label.components if "distance_m" in c.fact]
    gap = lead.component.fact["gap_m"]
    if distances and gap < min(distances) and gap < 6.0 + 4.5 * max(scene.speed, 1.0):
        return f"track {lead.component.track} stands {gap:.0f} m ahead, before the control"
    return ""


def _undone(label: CocLabel, motion: EgoMotion) -> list[str]:
    """Decisions that the ego's motion in the four seconds after the keyframe does not show."""
    k = motion.index(label.keyframe_s)
    speed = motion.speed[k : k + _HORIZON + 1]
    first, low, high = float(speed[0]), float(speed.min()), float(speed.max())
    wrong = {
        SpeedDetail.SLOW: low > first - _MOVED,
        SpeedDetail.STOP: low > first - _MOVED,
        SpeedDetail.STAY_STOPPED: float(np.abs(speed[:10]).max()) > _STANDS,
        SpeedDetail.START: first > 1.0 or high < first + _MOVED,
        SpeedDetail.FASTER: high < first + _MOVED,
        SpeedDetail.KEEP: low < 0.7 * first,
    }
    found = []
    if wrong.get(label.longitudinal_detail):
        found.append(f"the ego does not {label.longitudinal_detail.replace('_', ' ')} after it")
    if label.lateral is Lateral.TURN:
        turned = motion.heading[k:] - motion.heading[k]
        sign = 1.0 if label.lateral_detail == "left" else -1.0
        if (sign * turned).max() < _TURNED:
            found.append(f"the ego does not turn {label.lateral_detail} after it")
    return found
