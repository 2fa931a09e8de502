"""A scene of the closed loop: everything the simulator and the metrics need, as arrays.

Poses are (x, y, yaw) of the scene frame: the world of the clip moved by `Scene.origin`, so that
float32 is exact to a fraction of a millimetre. Metres, seconds, radians; a tick is 0.1 s. Letters:
T ticks, A agents, L lanes, E road edges, D drivable polygons, C crosswalks, N stop lines, G lights,
P points. Lists of unequal length are padded: a polyline or polygon by repeating its last point, a
table by rows that are not `valid`, time by repeating the last tick.
"""

import dataclasses
import enum
from typing import Any, Sequence

import flax.struct
import numpy as np

from alpamayo_jax.clip import Clip
from alpamayo_jax.coc.agents import names_of
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.coc.schema import CocLabel
from alpamayo_jax.types import Array, InputError

TICK = 0.1  # seconds

# Length, width, height of the default vehicle, and x of its rear face in the ego frame.
EGO_BOX = (5.393, 2.109, 1.503, -1.3)


class AgentKind(enum.IntEnum):
    """What an agent is."""

    OBJECT = 0
    VEHICLE = 1
    CYCLIST = 2
    PEDESTRIAN = 3


class Light(enum.IntEnum):
    """State of a traffic light."""

    UNKNOWN = 0
    RED = 1
    YELLOW = 2
    GREEN = 3


_KIND_OF = {
    "vehicle": AgentKind.VEHICLE,
    "cyclist": AgentKind.CYCLIST,
    "pedestrian": AgentKind.PEDESTRIAN,
    "vru": AgentKind.PEDESTRIAN,
}


def kind_of(category: str) -> AgentKind:
    """The kind of an annotated category."""
    return _KIND_OF.get(names_of(category)[0], AgentKind.OBJECT)


@flax.struct.dataclass
class SceneArrays:
    """One scene, or scenes stacked by `stack` with a leading axis on every field.

    Attributes:
      num_ticks: int32 [], ticks that are real; later ones repeat the last.
      ego_pose: float32 [T, 3], the recorded rear axle on the ground.
      ego_speed: float32 [T], m/s along the heading.
      ego_box: float32 [4], length, width, height, and x of the rear face in the ego frame.
      agent_pose: float32 [A, T, 3], box centres; held where not present.
      agent_present: bool [A, T].
      agent_size: float32 [A, 3], length, width, height.
      agent_kind: int32 [A], `AgentKind`.
      agent_solid: bool [A], whether touching it is a collision (a speed bump is driven over).
      lane_centre: float32 [L, P, 2], in driving direction.
      lane_polygon: float32 [L, P, 2].
      lane_valid: bool [L].
      road_edge: float32 [E, P, 2], polylines.
      road_edge_valid: bool [E].
      drivable: float32 [D, P, 2], polygons.
      drivable_valid: bool [D].
      crosswalk: float32 [C, 4, 2], quadrilaterals.
      crosswalk_valid: bool [C].
      stop_line: float32 [N, 2, 2], left and right end.
      stop_line_valid: bool [N].
      light_xy: float32 [G, 2], where the light hangs.
      light_stop: float32 [G, 2, 2], the line at which one waits for it.
      light_state: int32 [G, T], `Light`.
      light_valid: bool [G].
      route: float32 [P, 2], the way to go, past the end of the recording where the map allows.
      speed_limit: float32 [], m/s, the free speed of a route follower.
    """

    num_ticks: Array
    ego_pose: Array
    ego_speed: Array
    ego_box: Array
    agent_pose: Array
    agent_present: Array
    agent_size: Array
    agent_kind: Array
    agent_solid: Array
    lane_centre: Array
    lane_polygon: Array
    lane_valid: Array
    road_edge: Array
    road_edge_valid: Array
    drivable: Array
    drivable_valid: Array
    crosswalk: Array
    crosswalk_valid: Array
    stop_line: Array
    stop_line_valid: Array
    light_xy: Array
    light_stop: Array
    light_state: Array
    light_valid: Array
    route: Array
    speed_limit: Array


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene and where it comes from; host side.

    Attributes:
      name: unique within its source.
      arrays: the scene itself, NumPy, not stacked.
      origin: float64 [2], world x and y of the scene frame's origin.
      clip: the drive it was made from.
      family: procedural family, or the recorded set's name.
      scenario: class of the paper's table 3, or None where not known.
      cause: in words, why the expert does what it does; "" where not known.
      label: the Chain-of-Causation label, or None.
      world: what the renderer draws (procedural scenes), or None: no cameras.
    """

    name: str
    arrays: SceneArrays
    origin: np.ndarray
    clip: Clip | None = None
    family: str = ""
    scenario: ScenarioClass | None = None
    cause: str = ""
    label: CocLabel | None = None
    world: Any = None


def make_arrays(
    ego_pose: np.ndarray,
    ego_speed: np.ndarray,
    route: np.ndarray,
    speed_limit: float,
    *,
    ego_box: Sequence[float] = EGO_BOX,
    agent_pose: np.ndarray | None = None,
    agent_present: np.ndarray | None = None,
    agent_size: np.ndarray | None = None,
    agent_kind: np.ndarray | None = None,
    agent_solid: np.ndarray | None = None,
    lane_centres: Sequence[np.ndarray] = (),
    lane_polygons: Sequence[np.ndarray] = (),
    road_edges: Sequence[np.ndarray] = (),
    drivable: Sequence[np.ndarray] = (),
    crosswalks: Sequence[np.ndarray] = (),
    stop_lines: Sequence[np.ndarray] = (),
    light_xy: np.ndarray | None = None,
    light_stop: np.ndarray | None = None,
    light_state: np.ndarray | None = None,
) -> SceneArrays:
    """`SceneArrays` of lists: pads them, fills what is absent with empty tables, checks shapes.

    Raises:
      InputError: a field has a wrong shape or a value that is not finite; names it.
    """
    ego_pose = np.asarray(ego_pose, np.float32)
    ticks = len(ego_pose)
    if (len(lane_centres)) != len(lane_polygons):
        raise InputError(
            f"scene: {len(lane_centres)} lane centres but {len(lane_polygons)} lane polygons; each "
            "lane has both"
        )

    def table(value: np.ndarray | None, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        return np.zeros((0, *shape), dtype) if value is None else np.asarray(value, dtype)

    pose = table(agent_pose, (ticks, 3), np.float32)
    lights = table(light_xy, (2,), np.float32)
    lanes, lane_valid = pad_lines(lane_centres)
    polygons, _ = pad_lines(lane_polygons)
    edges, edge_valid = pad_lines(road_edges)
    areas, area_valid = pad_lines(drivable)
    walks, walk_valid = pad_lines(crosswalks, 4)
    stops, stop_valid = pad_lines(stop_lines, 2)
    arrays = SceneArrays(
        num_ticks=np.int32(ticks),
        ego_pose=ego_pose,
        ego_speed=np.asarray(ego_speed, np.float32),
        ego_box=np.asarray(ego_box, np.float32),
        agent_pose=pose,
        agent_present=table(agent_present, (ticks,), bool),
        agent_size=table(agent_size, (3,), np.float32),
        agent_kind=table(agent_kind, (), np.int32),
        agent_solid=(
            np.ones(len(pose), bool) if agent_solid is None else np.asarray(agent_solid, bool)
        ),
        lane_centre=lanes,
        lane_polygon=polygons,
        lane_valid=lane_valid,
        road_edge=edges,
        road_edge_valid=edge_valid,
        drivable=areas,
        drivable_valid=area_valid,
        crosswalk=walks,
        crosswalk_valid=walk_valid,
        stop_line=stops,
        stop_line_valid=stop_valid,
        light_xy=lights,
        light_stop=table(light_stop, (2, 2), np.float32),
        light_state=table(light_state, (ticks,), np.int32),
        light_valid=np.ones(len(lights), bool),
        route=np.asarray(route, np.float32),
        speed_limit=np.float32(speed_limit),
    )
    return check_arrays(arrays)


def check_arrays(arrays: SceneArrays, where: str = "scene") -> SceneArrays:
    """Raises `InputError` unless the shapes of one scene agree and its numbers are finite."""
    t, a = len(arrays.ego_pose), len(arrays.agent_pose)
    g = len(arrays.light_xy)
    shapes = {
        "ego_pose": (t, 3), "ego_speed": (t,), "ego_box": (4,), "agent_pose": (a, t, 3),
        "agent_present": (a, t), "agent_size": (a, 3), "agent_kind": (a,), "agent_solid": (a,),
        "light_xy": (g, 2), "light_stop": (g, 2, 2), "light_state": (g, t), "light_valid": (g,),
        "route": (len(arrays.route), 2), "num_ticks": (), "speed_limit": (),
    }  # fmt: skip
    for field in dataclasses.fields(arrays):
        value = np.asarray(getattr(arrays, field.name))
        if field.name in shapes and value.shape != shapes[field.name]:
            raise InputError(
                f"{where}: {field.name} must be {list(shapes[field.name])}, got {list(value.shape)}"
            )
        if not np.isfinite(value).all():
            raise InputError(f"{where}: {field.name} has values that are not finite")
    if t < 2 or len(arrays.route) < 2:
        raise InputError(f"{where}: {t} ticks and {len(arrays.route)} route points; 2 are needed")
    return arrays


def pad_lines(
    lines: Sequence[np.ndarray], points: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Lines [P_i, 2] -> (float32 [M, P, 2], valid bool [M]), each padded with its last point.

    Args:
      lines: polylines or polygons.
      points: P; the longest line's where None.
    """
    size = max([2, *(len(line) for line in lines)]) if points is None else points
    out = np.zeros((len(lines), size, 2), np.float32)
    for row, line in zip(out, lines):
        if not 1 <= len(line) <= size:
            raise InputError(f"scene: a line has {len(line)} points, expected 1 to {size}")
        row[: len(line)] = line
        row[len(line) :] = line[-1]
    return out, np.ones(len(lines), bool)


# The axes of a scene's fields that may grow when scenes are stacked; points repeat the last.
_TIME = {"ego_pose": 0, "ego_speed": 0, "agent_pose": 1, "agent_present": 1, "light_state": 1}
_POINTS = {"lane_centre": 1, "lane_polygon": 1, "road_edge": 1, "drivable": 1, "route": 0}


def stack(scenes: Sequence[SceneArrays]) -> SceneArrays:
    """Scenes of any sizes as one, padded to the largest: a leading axis [S] on every field.

    Raises:
      InputError: no scenes.
    """
    if not scenes:
        raise InputError("no scenes to stack")
    stacked = {}
    for field in dataclasses.fields(SceneArrays):
        values = [np.asarray(getattr(scene, field.name)) for scene in scenes]
        shape = np.max([value.shape for value in values], axis=0).astype(int)
        repeated = _TIME.get(field.name, _POINTS.get(field.name))
        stacked[field.name] = np.stack([_grow(value, shape, repeated) for value in values])
    return SceneArrays(**stacked)


def _grow(value: np.ndarray, shape: np.ndarray, repeated: int | None) -> np.ndarray:
    """`value` grown to `shape`: the axis `repeated` by its last entry, others by zeros."""
    for axis in range(value.ndim):
        more = [(0, 0)] * value.ndim
        more[axis] = (0, int(shape[axis]) - value.shape[axis])
        if more[axis][1]:
            again = axis == repeated and value.shape[axis]
            value = np.pad(value, more, mode="edge" if again else "constant")
    return value
