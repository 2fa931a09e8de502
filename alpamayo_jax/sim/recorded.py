"""Scenes of recorded drives: poses, agents and maps of a clip on the grid of the closed loop.

Any clip gives a scene. Without agents nothing can be hit; without drivable areas a road has no
edge, so that nothing is off-road (AlpaSim counts a missing off-road column as 0, too).
"""

import dataclasses
from typing import Sequence

import numpy as np

from alpamayo_jax.clip import AgentTable, Clip, MapLines
from alpamayo_jax.coc.lanes import Roads, roads_of
from alpamayo_jax.metrics.closed_loop import union_boundary
from alpamayo_jax.sim import traffic
from alpamayo_jax.sim.scenes import (
    EGO_BOX,
    TICK,
    Light,
    Scene,
    SceneArrays,
    check_arrays,
    kind_of,
    make_arrays,
)
from alpamayo_jax.types import InputError

SHORTEST = 3.0  # seconds; AlpaSim drops agents that are seen for less
_REACH = 100.0  # metres from the ego's path beyond which nothing matters
_GAP = 0.55  # seconds between two annotations that are bridged: half of 1 Hz
_WIDTH = 3.7  # metres of a lane that has no edges
_FREE = 8.0  # m/s: nobody's free speed is below this
_ROUTE = 100.0  # metres of route past the end of the recording


def scene_from_clip(
    clip: Clip,
    *,
    family: str = "recorded",
    ego_box: Sequence[float] = EGO_BOX,
    shortest: float = SHORTEST,
) -> Scene:
    """The scene of a clip.

    Args:
      clip: a drive; agents and map where it has them.
      family: name of the set it belongs to.
      ego_box: length, width, height, and x of the rear face in the ego frame.
      shortest: seconds for which an agent must be seen.

    Raises:
      InputError: the clip has fewer poses than two; names the clip.
    """
    if len(clip.ego.t) < 2:
        raise InputError(f"clip {clip.clip_id!r}: {len(clip.ego.t)} poses; a scene needs two")
    origin = clip.ego.xyz[0, :2].astype(np.float64)
    xy = clip.ego.xyz[:, :2] - origin
    w, x, y, z = clip.ego.quat_wxyz.T
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y**2 + z**2))
    velocity = np.gradient(xy, TICK, axis=0)
    speed = velocity[:, 0] * np.cos(yaw) + velocity[:, 1] * np.sin(yaw)
    free = max(float(speed.max()), _FREE)
    near = _Near(xy)
    roads = roads_of(clip.map_lines)
    centres, polygons = _lanes(clip.map_lines, roads, origin, near)
    areas = _areas(clip.map_lines, origin, near)
    edges = [edge for edge in union_boundary(areas) if near(edge)]
    table = _agents(clip, origin, near, shortest)
    walks = [walk - origin for walk in roads.crosswalks if near(walk - origin)]
    stops = [line[[0, -1]] - origin for line in roads.stop_lines if near(line - origin)]
    arrays = make_arrays(
        np.concatenate([xy, yaw[:, None]], axis=-1),
        speed,
        xy[[0, -1]],
        free,
        ego_box=ego_box,
        **table,
        lane_centres=centres,
        lane_polygons=polygons,
        road_edges=edges,
        drivable=areas,
        crosswalks=walks,
        stop_lines=stops,
        **_lights(clip, origin, stops),
    )
    arrays = dataclasses.replace(arrays, route=_route(arrays, xy, yaw))
    check_arrays(arrays, f"clip {clip.clip_id!r}")
    return Scene(name=clip.clip_id, arrays=arrays, origin=origin, clip=clip, family=family)


class _Near:
    """Whether any of some points is near the ego's path."""

    def __init__(self, path: np.ndarray):
        self.path = path[::10]

    def __call__(self, points: np.ndarray) -> bool:
        apart = np.abs(points[:, None] - self.path).max(-1)
        return bool(len(points)) and float(apart.min()) < _REACH


def _agents(clip: Clip, origin: np.ndarray, near: _Near, shortest: float) -> dict[str, np.ndarray]:
    """The agents' tables of `make_arrays`, on the ego's times."""
    times, rows = clip.ego.t, []
    table = clip.agents
    for track in () if table is None else np.unique(table.track):
        own = np.flatnonzero(table.track == track)
        own = own[np.argsort(table.t[own], kind="stable")]
        own = own[np.concatenate([[True], np.diff(table.t[own]) > 1e-6])]
        if table.t[own[-1]] - table.t[own[0]] < shortest:
            continue
        pose, present = _on_grid(table, own, times, origin)
        if present.any() and near(pose[present][:, :2]):
            rows.append((pose, present, np.median(table.lwh[own], axis=0), table.category[own[0]]))
    if not rows:
        return {}
    pose, present, size, category = zip(*rows)
    return {
        "agent_pose": np.stack(pose),
        "agent_present": np.stack(present),
        "agent_size": np.stack(size),
        "agent_kind": np.array([kind_of(str(name)) for name in category], np.int32),
    }


def _on_grid(
    table: AgentTable, own: np.ndarray, times: np.ndarray, origin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A track's poses [T, 3], held where it is not seen, and where it is: bool [T]."""
    t = table.t[own]
    xy = table.xyz[own, :2] - origin
    yaw = np.unwrap(table.yaw[own].astype(np.float64))
    pose = np.stack([np.interp(times, t, value) for value in (*xy.T, yaw)], axis=-1)
    after = np.clip(np.searchsorted(t, times), 0, len(t) - 1)
    before = np.maximum(np.searchsorted(t, times, side="right") - 1, 0)
    # Annotations begin and end between two ticks: half a tick is neither guessed nor lost.
    inside = (times >= t[0] - TICK / 2) & (times <= t[-1] + TICK / 2)
    return pose, inside & (t[after] - t[before] <= 2 * _GAP)


def _by_name(lines: MapLines | None, origin: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Name of a thing -> kind of line -> points [P, 2], scene frame."""
    found: dict[str, dict[str, np.ndarray]] = {}
    if lines is None:
        return found
    for i, kind in enumerate(lines.kind):
        points = lines.points[lines.offsets[i] : lines.offsets[i + 1], :2] - origin
        name = f"line {i}" if lines.ids is None else str(lines.ids[i])
        found.setdefault(name, {})[str(kind)] = points
    return found


def _lanes(
    lines: MapLines | None, roads: Roads, origin: np.ndarray, near: _Near
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Centre lines and polygons of the lanes near the path."""
    named = _by_name(lines, origin)
    centres, polygons = [], []
    for lane in roads.lanes:
        centre = lane.centre - origin
        if not near(centre):
            continue
        sides = {kind.partition(":")[0]: points for kind, points in named[lane.name].items()}
        areas = [points for kind, points in named[lane.name].items() if kind.endswith(":polygon")]
        if areas:
            polygon = areas[0]
        elif "lane_left" in sides and "lane_right" in sides:
            polygon = np.concatenate([sides["lane_left"], sides["lane_right"][::-1]])
        else:
            polygon = _widened(centre, _WIDTH / 2)
        centres.append(_sparse(centre))
        polygons.append(_sparse(polygon))
    return centres, polygons


def _sparse(line: np.ndarray, tolerance: float = 0.02) -> np.ndarray:
    """The line without points that are within `tolerance` metres of the line without them."""
    keep = np.zeros(len(line), bool)
    keep[[0, -1]] = True
    stack = [(0, len(line) - 1)]
    while stack:
        first, last = stack.pop()
        if last - first < 2:
            continue
        edge = line[last] - line[first]
        delta = line[first + 1 : last] - line[first]
        at = np.clip((delta @ edge) / max(float(edge @ edge), 1e-12), 0.0, 1.0)
        miss = np.linalg.norm(delta - at[:, None] * edge, axis=-1)
        worst = int(np.argmax(miss))
        if miss[worst] > tolerance:
            middle = first + 1 + worst
            keep[middle] = True
            stack += [(first, middle), (middle, last)]
    return line[keep]


def _widened(centre: np.ndarray, half: float) -> np.ndarray:
    """The polygon of all that is within `half` metres to the sides of a line."""
    step = np.gradient(centre, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], axis=-1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    return np.concatenate([centre + half * normal, (centre - half * normal)[::-1]])


def _areas(lines: MapLines | None, origin: np.ndarray, near: _Near) -> list[np.ndarray]:
    """The drivable areas near the path."""
    return [
        _sparse(points)
        for own in _by_name(lines, origin).values()
        for kind, points in own.items()
        if kind.startswith("drivable_area") and len(points) > 2 and near(points)
    ]


def _lights(clip: Clip, origin: np.ndarray, stops: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Traffic lights of the clip's events, each with the stop line nearest to it."""
    events = [e for e in clip.events if e.kind == "traffic_light" and e.xyz is not None]
    places = sorted({event.xyz for event in events})
    if not places or not stops:
        return {}
    names = {light.name.lower(): light for light in Light}
    state = np.full((len(places), len(clip.ego.t)), Light.UNKNOWN, np.int32)
    for event in events:
        value = names.get(event.value, Light.UNKNOWN)
        state[places.index(event.xyz), clip.ego.t >= event.t - 1e-6] = value
    xy = np.array([place[:2] for place in places]) - origin
    middles = np.array([line.mean(0) for line in stops])
    nearest = np.linalg.norm(xy[:, None] - middles, axis=-1).argmin(1)
    return {
        "light_xy": xy,
        "light_stop": np.stack([stops[i] for i in nearest]),
        "light_state": state,
    }


def _route(arrays: SceneArrays, xy: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """The driven path, then the lanes that follow, then straight on: float32 [P, 2]."""
    path = traffic.thinned(xy, 1.0)
    beyond = traffic.lanes_from(arrays, xy[-1], float(yaw[-1]))
    route = np.concatenate([path, beyond]) if len(beyond) else path
    if len(route) > 1:
        ahead = route[-1] - route[-2]
        ahead = ahead / max(float(np.linalg.norm(ahead)), 1e-9)
    else:
        ahead = np.array([np.cos(yaw[-1]), np.sin(yaw[-1])])
    driven = float(np.linalg.norm(np.diff(beyond, axis=0), axis=-1).sum()) if len(beyond) else 0.0
    rest = max(_ROUTE - driven, 1.0)
    return np.concatenate([route, route[-1:] + rest * ahead]).astype(np.float32)
