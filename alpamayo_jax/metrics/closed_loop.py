"""What is measured at one step of a closed-loop rollout, as AlpaSim defines it.

Every function is about one scene at one step; `jax.vmap` does the rest. Metres, radians; boxes are
those of `ops.boxes`. `strict` copies AlpaSim's quirks, which are named where they are copied;
without it they are mended.

Two quantities of the paper have no published definition, so they have names of our own here:
`close_encounter_0.3m` (another road user nearer than `CLOSE` = 0.3 m) with its at-fault variant
(not counting who is behind the ego), and `comfortable` (the driven motion within
`dynamics.ComfortBounds` at that step).
"""

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.metrics import dynamics
from alpamayo_jax.ops import boxes, polylines
from alpamayo_jax.ops.boxes import Box, Contact
from alpamayo_jax.ops.so3 import rot_from_yaw, wrap_angle
from alpamayo_jax.types import Array

# Name -> how its steps become one number.
TIME_AGGREGATION = {
    "collision_front": "max",
    "collision_rear": "max",
    "collision_lateral": "max",
    "collision_any": "max",
    "min_distance_to_obstacle_m": "min",
    "offroad": "max",
    "wrong_lane": "max",
    "min_distance_to_lane_boundary_m": "min",
    "progress": "last",
    "progress_rel_to_total": "last",
    "progress_rel": "min",
    "dist_to_gt_trajectory": "max",
    "dist_to_gt_location": "max",
    "dist_traveled_m": "last",
    "gt_dist_traveled_m": "last",
    "plan_deviation": "mean",
    "min_ade": "mean",
    "min_ade@0.5s": "mean",
    "min_ade@1.0s": "mean",
    "min_ade@2.5s": "mean",
    "min_ade@5.0s": "mean",
    "open_loop_collision": "max",
    "img_is_black": "max",
    "safety_monitor_triggered": "max",
    "close_encounter_0.3m": "max",
    "close_encounter_at_fault_0.3m": "max",
    "comfortable": "mean",
}

CLOSE = 0.3  # metres, ours: AlpaSim and the paper give none
ADE_HORIZONS = (0.5, 1.0, 2.5, 5.0)  # seconds
_TOUCH = 1e-3  # metres from a road edge that count as touching it
_WRONG_WAY = 2 * np.pi / 3
_CONTACTS = 4  # so many touching agents are looked at in one step
_STILL = 0.1  # metres; a path shorter than that is jitter on the spot
_FORGET = 0.1  # per step ahead: the weight of a plan's later points falls as exp(-0.1 k)
_OPEN_LOOP = 30  # steps of a plan that are checked for collisions


def collisions(ego: Box, others: Box, there: Array, *, strict: bool) -> dict[str, Array]:
    """Whether and where the ego is touched, and how near the nearest road user is.

    Args:
      ego: [].
      others: [A].
      there: bool [A], who is present and can be touched.
      strict: of several agents that touch the ego the last one alone decides where, so that one
        at the front may go unseen (AlpaSim); else front counts before lateral before rear.

    Returns:
      Name -> float32 []; without anyone the distance is inf.
    """
    if not there.shape[0]:
        none = jnp.float32(0)
        names = ("front", "rear", "lateral", "any")
        found = {f"collision_{name}": none for name in names}
        return found | {"min_distance_to_obstacle_m": jnp.float32(jnp.inf)} | {
            f"close_encounter_{name}": none for name in ("0.3m", "at_fault_0.3m")
        }  # fmt: skip
    distance = jnp.where(there, boxes.distance(ego, others), jnp.inf)
    # The classification is costly, so only those that touch, the last ones first, are looked at.
    count = there.shape[0]
    order = jnp.where(distance <= 0, jnp.arange(count) + 1.0, 0.0)
    rank, who = jax.lax.top_k(order, min(_CONTACTS, count))
    touching = jax.tree.map(lambda rows: rows[who], others)
    where = jnp.where(rank > 0, boxes.contact(ego, touching), Contact.NONE)
    if strict:
        where = where[:1]
    front = (where == Contact.FRONT).any()
    lateral = (where == Contact.LATERAL).any() & ~front
    rear = (where == Contact.REAR).any() & ~front & ~lateral
    # Someone is behind when all of its box is behind the ego's rear face.
    seen = boxes.into(ego, boxes.corners(others).reshape(-1, 2)).reshape(count, 4, 2)
    behind = (seen[..., 0] < -(ego.half[0] + ego.radius) + others.radius[:, None]).all(-1)
    close = distance < CLOSE
    return {
        "collision_front": front,
        "collision_rear": rear,
        "collision_lateral": lateral,
        "collision_any": front | rear | lateral,
        "min_distance_to_obstacle_m": distance.min(),
        "close_encounter_0.3m": close.any(),
        "close_encounter_at_fault_0.3m": (close & ~behind).any(),
    }


def union_boundary(polygons: list[np.ndarray], piece: float = 1.0) -> np.ndarray:
    """The boundary of the union of polygons; on the host.

    Args:
      polygons: [P_i, 2] each, closed or not.
      piece: metres; edges are cut into pieces, each of which is inside or outside as a whole.

    Returns:
      Segments float32 [M, 2, 2].
    """
    found = []
    loops = [np.asarray(polygon, np.float64) for polygon in polygons if len(polygon) > 2]
    low = np.array([loop.min(0) for loop in loops]).reshape(-1, 2)
    high = np.array([loop.max(0) for loop in loops]).reshape(-1, 2)
    for number, loop in enumerate(loops):
        edge = np.roll(loop, -1, axis=0) - loop
        real = np.linalg.norm(edge, axis=-1) > 1e-6
        start, edge = loop[real], edge[real]
        length = np.linalg.norm(edge, axis=-1)
        cuts = np.maximum(np.ceil(length / piece).astype(int), 1)
        step = np.repeat(edge / cuts[:, None], cuts, axis=0)
        begin = np.repeat(start, cuts, axis=0) + step * np.concatenate(
            [np.arange(n) for n in cuts]
        )[:, None]
        middle = begin + step / 2
        normal = np.stack([-step[:, 1], step[:, 0]], -1) / np.linalg.norm(step, axis=-1)[:, None]
        sides = np.stack([middle + 0.05 * normal, middle - 0.05 * normal])
        covered = np.zeros(sides.shape[:2], bool)
        near = np.flatnonzero(
            (low <= middle.max(0) + 1).all(-1) & (high >= middle.min(0) - 1).all(-1)
        )
        for other in near:
            covered |= _inside(sides.reshape(-1, 2), loops[other]).reshape(covered.shape)
        found.append(_merged(begin, begin + step, ~covered.all(0), np.repeat(edge, cuts, axis=0)))
    return np.concatenate([np.zeros((0, 2, 2)), *found]).astype(np.float32)


def _merged(
    begin: np.ndarray, end: np.ndarray, kept: np.ndarray, edge: np.ndarray
) -> np.ndarray:
    """The kept pieces [M, 2, 2], those that follow each other on one edge made one."""
    goes_on = kept[1:] & kept[:-1] & (np.abs(edge[1:] - edge[:-1]).max(-1) < 1e-9)
    first = kept & ~np.concatenate([[False], goes_on])
    last = kept & ~np.concatenate([goes_on, [False]])
    return np.stack([begin[first], end[last]], axis=1)


def _inside(points: np.ndarray, loop: np.ndarray) -> np.ndarray:
    """Bool [N] for points [N, 2] and a polygon [P, 2]."""
    a, b = loop, np.roll(loop, -1, axis=0)
    y = points[:, 1:2]
    crosses = (a[:, 1] > y) != (b[:, 1] > y)
    rise = np.where(a[:, 1] == b[:, 1], 1.0, b[:, 1] - a[:, 1])
    at = a[:, 0] + (y - a[:, 1]) / rise * (b[:, 0] - a[:, 0])
    return (crosses & (points[:, 0:1] < at)).sum(-1) % 2 == 1


def _segments_distance(ego: Box, segments: Array, valid: Array) -> Array:
    if not segments.shape[0]:
        return jnp.float32(jnp.inf)
    distance = boxes.segment_distance(ego, segments[:, 0], segments[:, 1])
    return jnp.where(valid, distance, jnp.inf).min()


def on_road(
    ego: Box,
    lanes: tuple[Array, Array, Array],
    boundary: tuple[Array, Array],
    edges: tuple[Array, Array],
    drivable: tuple[Array, Array],
    *,
    strict: bool,
) -> dict[str, Array]:
    """Off-road, wrong lane, and the room to the edge of the lanes.

    The ego is off-road when no lane, and no lanes together, contain it and it touches a road edge.

    Args:
      ego: [].
      lanes: centre lines [L, P, 2], polygons [L, Q, 2], valid [L].
      boundary: of the lanes' union: segments [M, 2, 2], valid [M].
      edges: of the road: segments [M, 2, 2], valid [M].
      drivable: polygons [D, P, 2], valid [D].
      strict: an ego wholly beyond the edge is not off-road, and the heading difference of the
        wrong-lane check is not wrapped (AlpaSim); else it is off-road where it is outside all
        lanes and drivable areas, and the difference is wrapped.
    """
    centre, polygon, valid = lanes
    point = ego.centre
    within = jnp.zeros(0, bool)
    wrong = jnp.zeros((), bool)
    if centre.shape[0]:
        within = jax.vmap(polylines.inside, (None, 0))(point, polygon) & valid
        _, _, heading = jax.vmap(polylines.project, (None, 0))(point, centre)
        turn = heading - ego.yaw
        wrong = (within & (jnp.abs(turn if strict else wrap_angle(turn)) > _WRONG_WAY)).any()
    room = _segments_distance(ego, *boundary)
    contained = within.any() & (room > 0)
    touches = _segments_distance(ego, *edges) < _TOUCH
    offroad = ~contained & touches
    if not strict and drivable[0].shape[0]:
        on = (jax.vmap(polylines.inside, (None, 0))(point, drivable[0]) & drivable[1]).any()
        offroad |= ~contained & ~on & ~within.any() & drivable[1].any()
    return {
        "offroad": offroad,
        "wrong_lane": wrong,
        "min_distance_to_lane_boundary_m": jnp.where(contained, room, 0.0),
    }


def progress(point: Array, path: Array, tick: Array, last: Array) -> dict[str, Array]:
    """How far along the recorded path the ego is, and how far from it.

    Args:
      point: [2], centre of the ego's box.
      path: [T, 2], the same of the recorded ego.
      tick: int32 [], now.
      last: int32 [], last tick of the recording that counts as the whole path.
    """
    numbers = jnp.arange(path.shape[0])
    whole = path[jnp.minimum(numbers, last)]
    so_far = path[jnp.minimum(numbers, tick)]
    total, until = polylines.lengths(whole)[-1], polylines.lengths(so_far)[-1]
    # A path of no length is done from the start.
    share = jnp.where(total > _STILL, along(point, whole) / jnp.maximum(total, _STILL), 1.0)
    relative = jnp.where(until > _STILL, along(point, so_far) / jnp.maximum(until, _STILL), 1.0)
    location = path[jnp.minimum(tick, last)]
    return {
        "progress": share,
        "progress_rel_to_total": share,
        "progress_rel": jnp.where(tick < 2, 1.0, relative),
        "dist_to_gt_trajectory": polylines.line_distance(point, whole),
        "dist_to_gt_location": jnp.sqrt(((point - location) ** 2).sum()),
        "gt_dist_traveled_m": total,
    }


def along(point: Array, path: Array) -> Array:
    """Metres along `path` [T, 2] to the place nearest to `point` [2]; 0 on a path of no length."""
    return jnp.where(polylines.lengths(path)[-1] > 1e-3, polylines.project(point, path)[0], 0.0)


def plan_deviation(plan: Array, before: Array) -> Array:
    """Weighted mean distance [] of plan [W, 2] from the plan of the step before, scene frame.

    Point k of the newer plan and point k + 1 of the older one are for the same time.
    """
    apart = jnp.sqrt(((plan[:-1] - before[1:]) ** 2).sum(-1))
    weight = jnp.exp(-_FORGET * jnp.arange(apart.shape[0]))
    return (weight * apart).sum() / weight.sum()


def min_ade(samples: Array, truth: Array, known: Array) -> dict[str, Array]:
    """Smallest mean error of samples [M, W, 2] up to each horizon; NaN where it is not known.

    Args:
      samples: scene frame, 0.1 s apart.
      truth: [W, 2], where the recorded ego was then.
      known: bool [W], whether the recording reaches that far.
    """
    error = jnp.sqrt(((samples - truth) ** 2).sum(-1))
    mean = jnp.cumsum(error, axis=-1) / jnp.arange(1, truth.shape[0] + 1)
    best = jnp.where(known, mean.min(0), jnp.nan)
    found = {f"min_ade@{horizon}s": best[round(horizon * 10) - 1] for horizon in ADE_HORIZONS}
    return {"min_ade": best[-1]} | found


def open_loop_collision(plan: Box, others: Box, there: Array) -> Array:
    """Whether a plan's boxes [W] touch any logged agent's [A, W] at the same time within 3 s."""
    if not there.shape[0]:
        return jnp.zeros((), bool)
    early = jax.tree.map(lambda rows: rows[:_OPEN_LOOP], plan)
    theirs = jax.tree.map(lambda rows: rows[:, :_OPEN_LOOP], others)
    return ((boxes.distance(early, theirs) <= 0) & there[:, :_OPEN_LOOP]).any()


def comfortable(pose: Array, bounds: dynamics.ComfortBounds = dynamics.ComfortBounds()) -> Array:
    """Whether the motion of driven poses [T, 3] is within all bounds at each step: bool [T]."""
    xyz = jnp.concatenate([pose[:, :2], jnp.zeros_like(pose[:, :1])], axis=-1)
    motion = dynamics.dynamics(xyz, rot_from_yaw(pose[:, 2]))
    good = jnp.ones(pose.shape[0], bool)
    for name in ("lon_accel", "lat_accel", "jerk", "lon_jerk", "yaw_accel", "yaw_rate"):
        low, high = getattr(bounds, name)
        value = getattr(motion, name)
        good &= (value > low) & (value < high)
    return good
