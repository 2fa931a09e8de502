"""The other road users: they replay the recording, or they react.

An agent that reacts keeps to its path: its recorded track and, where that ends while it moves, the
lanes that follow. Along it, it drives as it did when recorded, catches up when it has fallen behind
and, by the Intelligent Driver Model (Treiber et al., 2000), keeps its distance to whatever is in
the way, the ego included. Pedestrians and objects always replay the recording.
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.ops import polylines
from alpamayo_jax.ops.so3 import wrap_angle
from alpamayo_jax.sim.scenes import TICK, AgentKind, SceneArrays
from alpamayo_jax.types import Array


@dataclasses.dataclass(frozen=True)
class IdmConfig:
    """The Intelligent Driver Model, SI units.

    Attributes:
      headway: seconds kept to what is ahead.
      gap: metres kept when standing.
      accel: the highest acceleration.
      brake: comfortable braking.
      hardest: the hardest braking.
      exponent: how speed fades out the acceleration.
    """

    headway: float = 1.5
    gap: float = 2.0
    accel: float = 1.5
    brake: float = 2.0
    hardest: float = 8.0
    exponent: float = 4.0


IDM = IdmConfig()

_REACH = 40  # points on the path ahead at which an agent looks for something in its way
_SPACING = 1.25  # metres between them
_SIDE = 0.3  # metres kept to the side
_CATCH_UP = 0.3  # 1/s: extra speed per metre behind the recording
_FASTER = 3.0  # m/s of extra speed at most
_LATE = 0.5  # metres behind the recording that count as late
_EXTENSION = 60.0  # metres of lanes beyond a track
_MOVES = 3.0  # metres of a track that is worth a path
_JOIN = 4.0  # metres from the end of a track to the lane that it goes on in
_PATH = 96  # points of a path


@flax.struct.dataclass
class Agents:
    """The agents of N scenes at one tick.

    Attributes:
      pose: float32 [N, A, 3], box centres.
      velocity: float32 [N, A, 2], m/s.
      present: bool [N, A].
      along: float32 [N, A], metres along their paths; 0 where they replay the recording.
      speed: float32 [N, A], m/s along their paths.
    """

    pose: Array
    velocity: Array
    present: Array
    along: Array
    speed: Array


@flax.struct.dataclass
class Paths:
    """Where the agents of one scene drive, or of N scenes with a leading axis.

    Attributes:
      line: float32 [A, P, 2].
      track: float32 [A, T], metres along the line at which the recording is at each tick.
      reacts: bool [A].
      goes_on: bool [A], whether it is still there when its recording has ended.
      end: float32 [A], length of the line.
    """

    line: Array
    track: Array
    reacts: Array
    goes_on: Array
    end: Array


def idm_accel(
    speed: Array, free_speed: Array, gap: Array, lead_speed: Array, cfg: IdmConfig = IDM
) -> Array:
    """Acceleration [...] of the Intelligent Driver Model, m/s^2.

    Args:
      speed: own, m/s.
      free_speed: wanted on a free road, m/s.
      gap: metres to what is ahead; inf: nothing.
      lead_speed: of what is ahead, m/s along the own path.
      cfg: the model.
    """
    closing = speed * (speed - lead_speed) / (2 * np.sqrt(cfg.accel * cfg.brake))
    wanted = cfg.gap + jnp.maximum(speed * cfg.headway + closing, 0.0)
    free = 1.0 - (speed / jnp.maximum(free_speed, 0.1)) ** cfg.exponent
    accel = cfg.accel * (free - (wanted / jnp.maximum(gap, 0.1)) ** 2)
    return jnp.clip(accel, -cfg.hardest, cfg.accel)


def gap_ahead(
    points: Array, headings: Array, width: Array, others: Array, sizes: Array, there: Array
) -> tuple[Array, Array]:
    """The first point of a path at which somebody is in the way.

    Args:
      points: [P, 2], ahead, the first at the own front.
      headings: [P].
      width: [], own.
      others: [A, 3], box centres.
      sizes: [A, 3].
      there: bool [A], who counts.

    Returns:
      Metres [] from the first point, inf where nobody is, and who: int32 [].
    """
    delta = points[:, None] - others[:, :2]
    cos, sin = jnp.cos(others[:, 2]), jnp.sin(others[:, 2])
    x = jnp.abs(cos * delta[..., 0] + sin * delta[..., 1])
    y = jnp.abs(cos * delta[..., 1] - sin * delta[..., 0])
    # Seen along the path, one's own width adds to the other's side that faces it.
    angle = headings[:, None] - others[:, 2]
    side = width / 2 + _SIDE
    reach_x = sizes[:, 0] / 2 + side * jnp.abs(jnp.sin(angle))
    reach_y = sizes[:, 1] / 2 + side * jnp.abs(jnp.cos(angle))
    blocked = (x < reach_x) & (y < reach_y) & there
    steps = jnp.sqrt(((points[1:] - points[:-1]) ** 2).sum(-1))
    along = jnp.concatenate([jnp.zeros(1), jnp.cumsum(steps)])
    first = jnp.where(blocked, along[:, None], jnp.inf)
    who = jnp.argmin(first.min(0))
    return first.min(), who


def begin(scenes: SceneArrays, tick: int) -> Agents:
    """The agents of N stacked scenes as they were recorded at `tick`."""
    return _replayed(scenes, jnp.int32(tick))


def _replayed(scenes: SceneArrays, tick: Array) -> Agents:
    last = scenes.agent_pose.shape[2] - 1
    now, before = jnp.minimum(tick, last), jnp.clip(tick - 1, 0, last)

    def at(rows: Array, tick: Array) -> Array:
        return jax.lax.dynamic_index_in_dim(rows, tick, axis=2, keepdims=False)

    pose, present = at(scenes.agent_pose, now), at(scenes.agent_present, now)
    both = present & at(scenes.agent_present, before)
    velocity = (pose - at(scenes.agent_pose, before))[..., :2] / TICK
    velocity = jnp.where(both[..., None], velocity, 0.0)
    cos, sin = jnp.cos(pose[..., 2]), jnp.sin(pose[..., 2])
    speed = velocity[..., 0] * cos + velocity[..., 1] * sin
    along = jnp.full(speed.shape, -1.0)
    return Agents(pose, velocity, present, along, jnp.maximum(speed, 0.0))


def advance(
    scenes: SceneArrays, paths: Paths | None, agents: Agents, tick: Array, ego: Array
) -> Agents:
    """The agents of N scenes at `tick` + 1.

    Args:
      scenes: N stacked scenes.
      paths: [N] where they drive, or None: all replay the recording.
      agents: at `tick`.
      tick: int32 [].
      ego: [N, 4], x, y, yaw and speed of the ego at `tick` + 1.
    """
    recorded = _replayed(scenes, tick + 1)
    if paths is None or not agents.pose.shape[1]:
        return recorded
    reacting = jax.vmap(_react, (0, 0, 0, 0, None, 0))
    return reacting(scenes, paths, agents, recorded, tick, ego)


def _react(
    scene: SceneArrays, paths: Paths, agents: Agents, recorded: Agents, tick: Array, ego: Array
) -> Agents:
    """One scene of `advance`."""
    length, width = scene.agent_size[:, 0], scene.agent_size[:, 1]
    last = paths.track.shape[1] - 1
    track = jnp.stack([paths.track[:, jnp.minimum(tick + i, last)] for i in range(2)])
    fresh = agents.along < 0
    along = jnp.where(fresh, track[0], agents.along)
    # The ego is one more box; its centre is ahead of its rear axle.
    middle = scene.ego_box[3] + scene.ego_box[0] / 2
    heading = jnp.stack([jnp.cos(ego[2]), jnp.sin(ego[2])])
    ego_pose = jnp.concatenate([ego[:2] + middle * heading, ego[2:3]])
    others = jnp.concatenate([agents.pose, ego_pose[None]])
    sizes = jnp.concatenate([scene.agent_size, scene.ego_box[None, :3]])
    velocity = jnp.concatenate([agents.velocity, (ego[3] * heading)[None]])
    there = jnp.concatenate([agents.present & scene.agent_solid, jnp.ones(1, bool)])
    ahead = jnp.arange(_REACH) * _SPACING

    def accelerate(i, line, along, speed, wanted, behind):
        points, headings = polylines.interpolate(line, along + length[i] / 2 + ahead)
        gap, who = gap_ahead(
            points, headings, width[i], others, sizes, there & (jnp.arange(len(there)) != i)
        )
        lead = (velocity[who] * jnp.stack([jnp.cos(headings[0]), jnp.sin(headings[0])])).sum()
        keep = idm_accel(speed, jnp.inf, gap, jnp.maximum(lead, 0.0))
        # Who is where it was recorded may accelerate as it did.
        most = jnp.where(behind > _LATE, IDM.accel, jnp.inf)
        follow = jnp.minimum((wanted - speed) / TICK, most)
        return jnp.maximum(jnp.where(keep < 0, jnp.minimum(follow, keep), follow), -IDM.hardest)

    # As fast as recorded, faster where it has fallen behind, and as before where that has ended.
    ended = ~recorded.present & paths.goes_on
    recorded_speed = jnp.where(ended, agents.speed, (track[1] - track[0]) / TICK)
    own_speed = jnp.where(fresh, recorded_speed, agents.speed)
    behind = jnp.where(ended, 0.0, jnp.maximum(track[0] - along, 0.0))
    wanted = recorded_speed + jnp.minimum(_CATCH_UP * behind, _FASTER)
    count = jnp.arange(agents.pose.shape[0])
    accel = jax.vmap(accelerate)(count, paths.line, along, own_speed, wanted, behind)
    speed = jnp.maximum(own_speed + TICK * accel, 0.0)
    new = jnp.minimum(along + TICK * speed, paths.end)
    xy, yaw = jax.vmap(polylines.interpolate)(paths.line, new)
    on_track = jnp.abs(new - track[1]) < 0.05
    pose = jnp.concatenate([xy, wrap_angle(yaw)[:, None]], axis=-1)
    pose = jnp.where((on_track & recorded.present)[:, None], recorded.pose, pose)
    was = agents.present
    late = was & ~recorded.present & (paths.goes_on | (new < track[1] - 1.0)) & (new < paths.end)
    present = recorded.present | late
    # Only who was there can react; who appears comes as recorded.
    react = paths.reacts & was & (recorded.present | late)
    direction = jnp.stack([jnp.cos(pose[:, 2]), jnp.sin(pose[:, 2])], axis=-1)
    return Agents(
        pose=jnp.where(react[:, None], pose, recorded.pose),
        velocity=jnp.where(react[:, None], speed[:, None] * direction, recorded.velocity),
        present=jnp.where(paths.reacts, present, recorded.present),
        along=jnp.where(react, new, -1.0),
        speed=jnp.where(react, speed, recorded.speed),
    )


def find_paths(scene: SceneArrays) -> Paths:
    """The paths of one scene's agents; on the host, NumPy.

    Vehicles and cyclists that drive forwards by more than 3 m in the recording react.
    """
    agents, ticks = scene.agent_present.shape
    line = np.zeros((agents, _PATH, 2), np.float32)
    line[:, 1:, 0] = 1.0
    found = Paths(
        line=line,
        track=np.zeros((agents, ticks), np.float32),
        reacts=np.zeros(agents, bool),
        goes_on=np.zeros(agents, bool),
        end=np.ones(agents, np.float32),
    )
    drives = np.isin(scene.agent_kind, (AgentKind.VEHICLE, AgentKind.CYCLIST))
    for i in np.flatnonzero(drives & scene.agent_solid & scene.agent_present.any(1)):
        seen = np.flatnonzero(scene.agent_present[i])
        first, last = seen[0], seen[-1]
        points = thinned(scene.agent_pose[i, first : last + 1, :2])
        heading = scene.agent_pose[i, last, 2]
        if len(points) < 2 or _length(points)[-1] < _MOVES:
            continue
        forwards = np.array([np.cos(scene.agent_pose[i, first, 2]),
                             np.sin(scene.agent_pose[i, first, 2])])  # fmt: skip
        if (points[min(len(points) - 1, 3)] - points[0]) @ forwards < 0:
            continue
        beyond = lanes_from(scene, points[-1], float(heading))
        found.goes_on[i] = len(beyond) > 0
        whole = np.concatenate([points, beyond]) if len(beyond) else points
        length = _length(whole)
        at = np.linspace(0.0, length[-1], _PATH)
        found.line[i] = np.stack([np.interp(at, length, whole[:, k]) for k in range(2)], axis=-1)
        found.end[i] = _length(found.line[i])[-1]
        found.track[i] = _progress(scene.agent_pose[i, :, :2], found.line[i], first, last)
        found.reacts[i] = True
    return found


def _length(points: np.ndarray) -> np.ndarray:
    steps = np.linalg.norm(np.diff(points, axis=0), axis=-1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def thinned(points: np.ndarray, apart: float = 0.5) -> np.ndarray:
    """Points at least so many metres apart: what jitters on the spot makes no path."""
    kept = [points[0]]
    for point in points[1:]:
        if np.linalg.norm(point - kept[-1]) >= apart:
            kept.append(point)
    return np.asarray(kept, np.float64)


def _progress(xy: np.ndarray, line: np.ndarray, first: int, last: int) -> np.ndarray:
    """Metres along `line` [P, 2] at each tick; it never falls and is held outside first .. last."""
    edge = np.diff(line, axis=0)
    length = np.maximum(np.linalg.norm(edge, axis=-1), 1e-9)
    start = np.concatenate([[0.0], np.cumsum(length)[:-1]])
    delta = xy[:, None] - line[:-1]
    at = np.clip((delta * edge).sum(-1) / length, 0.0, length)
    miss = np.linalg.norm(delta - at[..., None] * (edge / length[:, None]), axis=-1)
    along, best = np.zeros(len(xy)), 0.0
    for tick in range(first, last + 1):
        # A path that crosses itself must not be left at the crossing.
        near = np.where(np.abs(start + at[tick] - best) < 8.0, miss[tick], np.inf)
        i = int(np.argmin(near))
        best = max(best, start[i] + at[tick, i]) if np.isfinite(near[i]) else best
        along[tick] = best
    along[last:] = along[last]
    return along


def lanes_from(scene: SceneArrays, point: np.ndarray, heading: float) -> np.ndarray:
    """Points [M, 2] of the lanes ahead of a place, moved sideways to go on from it; may be none."""
    found: list[np.ndarray] = []
    travelled, offset = 0.0, np.zeros(2)
    for _ in range(8):
        lane = _lane_ahead(scene, point + offset, heading, _JOIN if not found else 2.0)
        if lane is None:
            break
        if not found:
            offset = lane[0] - point
        found.append(lane[1:] - offset)
        travelled += _length(lane)[-1]
        point, step = lane[-1] - offset, lane[-1] - lane[-2]
        heading = float(np.arctan2(step[1], step[0]))
        if travelled >= _EXTENSION:
            break
    return np.concatenate(found) if found else np.zeros((0, 2))


def _lane_ahead(
    scene: SceneArrays, point: np.ndarray, heading: float, reach: float
) -> np.ndarray | None:
    """What is left [M, 2] of the nearest lane that leads on from a place, or None."""
    best, chosen = reach, None
    for centre in scene.lane_centre[scene.lane_valid]:
        edge = np.diff(centre, axis=0)
        real = np.linalg.norm(edge, axis=-1) > 1e-6
        edge, start = edge[real], centre[:-1][real]
        if not len(edge):
            continue
        squared = (edge**2).sum(-1)
        at = np.clip(((point - start) * edge).sum(-1) / squared, 0.0, 1.0)
        feet = start + at[:, None] * edge
        miss = np.linalg.norm(point - feet, axis=-1)
        i = int(np.argmin(miss))
        angle = np.arctan2(edge[i, 1], edge[i, 0]) - heading
        rest = np.concatenate([feet[i : i + 1], (start + edge)[i:]])
        turned = abs(np.arctan2(np.sin(angle), np.cos(angle)))
        if turned < np.deg2rad(45.0) and miss[i] < best and _length(rest)[-1] > 1.0:
            best, chosen = miss[i], rest
    return chosen
