"""Every closed-loop metric at every step of rollouts: scenes and rollouts in, arrays out."""

import functools
from typing import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.metrics import closed_loop as definitions
from alpamayo_jax.ops import boxes, polylines
from alpamayo_jax.ops.boxes import Box
from alpamayo_jax.sim.closed_loop import Rollout
from alpamayo_jax.sim.scenes import SceneArrays
from alpamayo_jax.types import Array


@flax.struct.dataclass
class Borders:
    """Edges of scenes as segments, padded; a leading axis for scenes.

    Attributes:
      lanes: float32 [N, M, 2, 2], boundary of the union of all lanes.
      lanes_valid: bool [N, M].
      road: float32 [N, M, 2, 2], road edges.
      road_valid: bool [N, M].
    """

    lanes: Array
    lanes_valid: Array
    road: Array
    road_valid: Array


def find_borders(scenes: Sequence[SceneArrays]) -> Borders:
    """The borders of unstacked scenes; on the host."""
    lanes, roads = [], []
    for scene in scenes:
        polygons = [polygon for polygon in scene.lane_polygon[scene.lane_valid]]
        lanes.append(definitions.union_boundary(polygons))
        lines = scene.road_edge[scene.road_edge_valid]
        pieces = np.stack([lines[:, :-1], lines[:, 1:]], axis=2).reshape(-1, 2, 2)
        roads.append(pieces[np.linalg.norm(pieces[:, 1] - pieces[:, 0], axis=-1) > 1e-6])
    return Borders(*_padded(lanes), *_padded(roads))


def _padded(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    size = max(len(row) for row in rows)
    out, valid = np.zeros((len(rows), size, 2, 2), np.float32), np.zeros((len(rows), size), bool)
    for i, row in enumerate(rows):
        out[i, : len(row)], valid[i, : len(row)] = row, True
    return out, valid


def _ego(pose: Array, size: Array) -> Box:
    """The ego's rounded box for rear-axle poses [..., 3] and `ego_box` [4]."""
    centre = boxes.centre_pose(pose, size[3], size[0])
    return boxes.box(centre, size[0], size[1])


@jax.jit
def measure(
    scenes: SceneArrays, borders: Borders, rollouts: Rollout
) -> tuple[dict[str, Array], dict[str, Array]]:
    """All metrics of `definitions.TIME_AGGREGATION` but those of images and monitors.

    Args:
      scenes: N stacked scenes.
      borders: theirs.
      rollouts: one per scene, leading axis [N].

    Returns:
      Metric -> float32 [N, T], NaN where it is not known at a step; and the same with AlpaSim's
      quirks.
    """
    ticks = jnp.arange(scenes.ego_pose.shape[1])

    def at_tick(tick: Array) -> tuple[dict[str, Array], dict[str, Array]]:
        return jax.vmap(_at_tick, (0, 0, 0, None))(scenes, borders, rollouts, tick)

    found = jax.lax.map(at_tick, ticks)
    found = jax.tree.map(lambda rows: rows.T.astype(jnp.float32), found)
    motion = jax.vmap(definitions.comfortable)(rollouts.ego_pose).astype(jnp.float32)
    for strict, steps in zip((False, True), found):
        steps["comfortable"] = motion
        driven = functools.partial(_driven, strict=strict)
        steps["dist_traveled_m"] = jax.vmap(driven)(scenes.ego_box, rollouts)
    return found


def _driven(size: Array, rollout: Rollout, *, strict: bool) -> Array:
    """Metres driven until each tick [T] by the centre of the box.

    strict: the place of the centre on its own whole path (AlpaSim): a path that crosses itself
    counts the first pass only.
    """
    path = boxes.centre_pose(rollout.ego_pose, size[3], size[0])[:, :2]
    if strict:
        return jax.vmap(definitions.along, (0, None))(path, path)
    return polylines.lengths(path)


def _at_tick(
    scene: SceneArrays, borders: Borders, rollout: Rollout, tick: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The metrics of one scene at one tick, without and with AlpaSim's quirks."""
    size, steps = scene.ego_box, rollout.plan.shape[1]
    ego = _ego(rollout.ego_pose[tick], size)
    last = scene.num_ticks - 1

    def agents(pose: Array) -> Box:
        pick = (...,) + (None,) * (pose.ndim - 2)
        return boxes.box(pose, scene.agent_size[:, 0][pick], scene.agent_size[:, 1][pick])

    there = rollout.agent_present[:, tick] & scene.agent_solid
    both = [
        definitions.collisions(ego, agents(rollout.agent_pose[:, tick]), there, strict=strict)
        | definitions.on_road(
            ego,
            (scene.lane_centre, scene.lane_polygon, scene.lane_valid),
            (borders.lanes, borders.lanes_valid),
            (borders.road, borders.road_valid),
            (scene.drivable, scene.drivable_valid),
            strict=strict,
        )
        for strict in (False, True)
    ]
    path = boxes.centre_pose(scene.ego_pose, size[3], size[0])[:, :2]
    found = definitions.progress(ego.centre, path, tick, last)
    # What a plan is compared with: the recording and the logged agents at the plan's own times.
    times = tick + 1 + jnp.arange(steps)
    known, at = times <= last, jnp.minimum(times, last)
    plan, planned = rollout.plan[tick], rollout.planned[tick]
    before = jnp.maximum(tick - 1, 0)
    twice = planned & rollout.planned[before] & (tick > 0)
    deviation = definitions.plan_deviation(plan[:, :2], rollout.plan[before][:, :2])
    samples = plan[None, :, :2] if rollout.samples is None else rollout.samples[tick]
    errors = definitions.min_ade(samples, scene.ego_pose[at, :2], known)
    meets = definitions.open_loop_collision(
        _ego(plan, size),
        agents(scene.agent_pose[:, at]),
        scene.agent_present[:, at] & scene.agent_solid[:, None] & known,
    )
    found |= {name: jnp.where(planned, value, jnp.nan) for name, value in errors.items()}
    found["open_loop_collision"] = jnp.where(planned, meets, jnp.nan)
    found["plan_deviation"] = jnp.where(twice, deviation, jnp.nan)
    return both[0] | found, both[1] | found
