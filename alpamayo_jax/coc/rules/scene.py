"""One moment as the rules see it: who is where along the ego's route, from the past alone."""

import dataclasses
import functools

import numpy as np

from alpamayo_jax.clip import Clip
from alpamayo_jax.coc.agents import Agents, agents_at
from alpamayo_jax.coc.lanes import Roads, places
from alpamayo_jax.coc.motion import EgoMotion, Route, ego_motion, route_from, seen_until

EGO_FRONT, EGO_HALF = 3.8, 0.95  # metres from the ego origin to its front, and to a side
CORRIDOR = EGO_HALF + 0.25  # metres to each side of the route that the ego needs
_PREDICT = np.arange(0.0, 4.01, 0.5)  # seconds ahead that others are assumed to hold course
_SIGNAL_VIEW = 110.0  # metres from which the colour of a light can be told
_ROAD_SHARE = 0.6  # of the points of a stretch that must lie in an annotated lane


@dataclasses.dataclass(frozen=True)
class Scene:
    """What can be known at a keyframe, and the route.

    Attributes:
      clip: cut at t, see `motion.seen_until`.
      t: seconds.
      motion: of the ego until t.
      route: where it goes; the ego origin at t is its beginning.
      roads: the map.
      agents: seen at t.
      s, d: [A] metres along and beside the route, of the centres of the agents.
      gap: [A] metres from the ego's front to the near end of each, along the route.
      clearance: [A] metres from the route to the near side of each; 0 where it lies on it.
      along, across: [A] m/s along the route and to its left.
      apart: [A] radians in [0, pi] between the box and the route.
      facing: [A] radians in [0, pi] between the box and the ego.
      left: [A] metres to the left of the ego, as the driver sees it; `d` is beside the route.
    """

    clip: Clip
    t: float
    motion: EgoMotion
    route: Route
    roads: Roads
    agents: Agents
    s: np.ndarray
    d: np.ndarray
    gap: np.ndarray
    clearance: np.ndarray
    along: np.ndarray
    across: np.ndarray
    apart: np.ndarray
    facing: np.ndarray
    left: np.ndarray

    @property
    def speed(self) -> float:
        """Of the ego at t, m/s."""
        return float(self.motion.speed[-1])

    @functools.cached_property
    def conflict_in(self) -> np.ndarray:
        """[A] seconds until an agent that holds its course is on the route ahead; inf: not in 4 s.

        0 for one that is on it now.
        """
        agents = self.agents
        if not len(agents):
            return np.zeros(0)
        future = agents.xy[:, None] + _PREDICT[:, None] * agents.velocity[:, None]
        s, d, heading = self.route.project(future.reshape(-1, 2))
        yaw = np.repeat(agents.yaw, len(_PREDICT))
        size = np.repeat(np.stack([agents.length, agents.width], -1), len(_PREDICT), 0)
        reach = _half_extent(yaw - heading + np.pi / 2, size)
        on = (np.abs(d) - reach < CORRIDOR) & (s > EGO_FRONT) & (s < self.braking_reach)
        on = on.reshape(len(agents), -1)
        return np.where(on.any(-1), _PREDICT[np.argmax(on, -1)], np.inf)

    @property
    def braking_reach(self) -> float:
        """Metres of route in which something makes the ego act now."""
        return EGO_FRONT + max(18.0, 3.0 * self.speed + self.speed**2 / 4.0)

    def on_road(self, begin: float, end: float) -> bool:
        """Whether the map has a lane along a stretch of the route."""
        at = np.arange(begin, end, 2.0)
        if not len(at) or not self.roads.lanes:
            return False
        heading = np.interp(at, self.route.s, self.route.heading)
        hits = [
            bool(places(self.roads, self.route.at(s), h, reach=3.0)) for s, h in zip(at, heading)
        ]
        return float(np.mean(hits)) >= _ROAD_SHARE

    def in_junction(self, s: float) -> bool:
        """Whether the route is in a junction of the map at arc length s."""
        heading = float(np.interp(s, self.route.s, self.route.heading))
        found = places(self.roads, self.route.at(s), heading, reach=3.0)
        return bool(found) and self.roads.junction(found[0].lane)

    def junction_at(self, reach: float) -> float | None:
        """Arc length at which the route enters a junction of the map, or None within `reach`."""
        for s in np.arange(0.0, min(reach, self.route.s[-1]), 1.0):
            if self.in_junction(float(s)):
                return float(s)
        return None

    def junction_end(self, entry: float, longest: float = 40.0) -> float:
        """Arc length at which the route leaves the junction that it enters at `entry`."""
        s, end = entry, min(entry + longest, self.route.s[-1])
        # A gap of a few metres lies between lanes whose ends do not quite meet.
        while s < end and any(self.in_junction(s + ahead) for ahead in (1.0, 2.0, 3.0)):
            s += 1.0
        return s

    def stop_line_at(self, reach: float) -> float | None:
        """Metres from the ego's front to the first stop line across the route, or None."""
        found = []
        for line in self.roads.stop_lines:
            s, d, _ = self.route.project(line)
            if d.min() <= 0.5 and d.max() >= -0.5 and 0 < s.mean() - EGO_FRONT < reach:
                found.append(float(s.mean() - EGO_FRONT))
        return min(found, default=None)

    def light(self) -> tuple[str, float, float] | None:
        """(colour now, seconds since it changed, metres to it) of the nearest light ahead."""
        lights = {}
        for event in self.clip.events:
            if event.kind == "traffic_light" and event.xyz is not None:
                lights[event.xyz[:2]] = event
        best = None
        for xy, event in lights.items():
            s, d, _ = self.route.project(np.array([xy]))
            ahead = float(s[0]) - EGO_FRONT
            if 0 < ahead < _SIGNAL_VIEW and abs(d[0]) < 15.0 and (best is None or ahead < best[2]):
                best = event.value, self.t - event.t, ahead
        return best

    def in_crosswalk(self, i: int) -> bool:
        """Whether agent i is in an annotated crosswalk or within a metre of it."""
        return any(_inside(quad, self.agents.xy[i], 1.0) for quad in self.roads.crosswalks)


def scene_at(clip: Clip, t: float, full: EgoMotion, roads: Roads) -> Scene:
    """The scene at time t.

    Args:
      clip: whole; only what was known at t is looked at.
      t: seconds, on the ego's grid.
      full: motion of the whole clip; where it goes after t is the route, when it goes is not used.
      roads: of the clip's map.
    """
    seen = seen_until(clip, t)
    route = route_from(full, t)
    agents = agents_at(seen.agents, t)
    s, d, heading = route.project(agents.xy) if len(agents) else (np.zeros(0),) * 3
    size = np.stack([agents.length, agents.width], -1)
    turned = agents.yaw - heading
    ahead = _half_extent(turned, size)
    side = _half_extent(turned + np.pi / 2, size)
    unit = np.stack([np.cos(heading), np.sin(heading)], -1)
    velocity = agents.velocity
    here = full.index(t)
    delta, own = agents.xy - full.xy[here], full.heading[here]
    return Scene(
        clip=seen,
        t=t,
        motion=ego_motion(seen.ego),
        route=route,
        roads=roads,
        agents=agents,
        s=s,
        d=d,
        gap=s - ahead - EGO_FRONT,
        clearance=np.maximum(np.abs(d) - side, 0.0),
        along=(velocity * unit).sum(-1),
        across=velocity[:, 1] * unit[:, 0] - velocity[:, 0] * unit[:, 1],
        apart=np.abs(np.arctan2(np.sin(turned), np.cos(turned))),
        facing=np.abs(np.arctan2(np.sin(agents.yaw - own), np.cos(agents.yaw - own))),
        left=delta[:, 1] * np.cos(own) - delta[:, 0] * np.sin(own),
    )


def _half_extent(turned: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Half of a box's extent along a direction from which it is turned by `turned`."""
    return (np.abs(np.cos(turned)) * size[:, 0] + np.abs(np.sin(turned)) * size[:, 1]) / 2


def _inside(quad: np.ndarray, point: np.ndarray, margin: float) -> bool:
    """Whether a point is inside a convex quadrilateral, or within `margin` of it."""
    along = np.roll(quad, -1, 0) - quad
    delta = point - quad
    length = np.maximum(np.linalg.norm(along, axis=-1), 1e-9)
    cross = (along[:, 0] * delta[:, 1] - along[:, 1] * delta[:, 0]) / length
    return bool((cross >= -margin).all() or (cross <= margin).all())
