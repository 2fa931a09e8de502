"""A baseline that follows its route at the distance and speed of the Intelligent Driver Model.

It sees where everybody is, but neither signs nor intentions: it keeps its distance to who is on its
way, brakes for people who are about to step on it, waits at lights that are not green, and slows
down for curves. It stays in its lane, so it waits behind what others pass, and it does not stop at
signs, which takes a memory.
"""

import jax
import jax.numpy as jnp

from alpamayo_jax.ops import polylines
from alpamayo_jax.sim.closed_loop import WAYPOINTS, Plan, Sight
from alpamayo_jax.sim.scenes import TICK, AgentKind, Light, SceneArrays
from alpamayo_jax.types import Array

ACCEL, BRAKE = 1.5, 2.0  # m/s^2, comfortable
HARDEST = 6.0  # m/s^2
TIME_GAP, MIN_GAP = 1.5, 2.0  # s, m
LATERAL = 2.0  # m/s^2 in a curve
_BESIDE = 0.3  # m, room kept to the side of what is passed
_SEEN_AHEAD = (0.0, 0.5, 1.0, 1.5, 2.0)  # s, where people may be soon
_LINE_REACH = 4.0  # m, how far from the route the middle of its stop line may be
_CURVE = 40.0  # m of the way ahead whose curves count


def route_follower(scene: SceneArrays, sight: Sight, key: Array) -> Plan:
    """Along the route, as fast as the road and whoever is in front allow."""
    del key
    here, rig = sight.ego_history[-1, :2], sight.ego_history[-1]
    along, off, _ = polylines.project(here, scene.route)
    gap, speed, counts = _leaders(scene, sight, along)
    wanted = jnp.minimum(scene.speed_limit, _curve_speed(scene.route, along))

    def advance(state, number):
        s, v = state
        room = jnp.maximum(gap + speed * number * TICK - (s - along), 0.1)
        follow = jnp.where(counts, idm(v, wanted, room, speed), ACCEL)
        accel = jnp.clip(jnp.minimum(idm(v, wanted), follow.min(initial=ACCEL)), -HARDEST, ACCEL)
        after = jnp.maximum(v + accel * TICK, 0.0)
        s = s + 0.5 * (v + after) * TICK
        return (s, after), s

    _, s = jax.lax.scan(advance, (along, sight.ego_speed), jnp.arange(WAYPOINTS))
    point, heading = polylines.interpolate(scene.route, s)
    # Back to the middle of the route over the way of 1.5 s, at least 8 m.
    reach = jnp.maximum(1.5 * sight.ego_speed, 8.0)
    aside = off * jnp.exp(-(s - along) / reach)
    normal = jnp.stack([-jnp.sin(heading), jnp.cos(heading)], axis=-1)
    yaw = heading - jnp.arctan2(aside, reach)
    pose = jnp.concatenate([point + aside[:, None] * normal, yaw[:, None]], axis=-1)
    return Plan(into_rig(pose, rig))


def idm(v: Array, wanted: Array, gap: Array = jnp.inf, lead: Array = 0.0) -> Array:
    """Acceleration of the Intelligent Driver Model (Treiber, Hennecke, Helbing 2000), m/s^2.

    Args:
      v: own speed.
      wanted: free speed.
      gap: metres to the vehicle ahead, bumper to bumper.
      lead: its speed.
    """
    kept = MIN_GAP + jnp.maximum(v * TIME_GAP + v * (v - lead) / (2 * (ACCEL * BRAKE) ** 0.5), 0.0)
    return ACCEL * (1.0 - (v / jnp.maximum(wanted, 0.1)) ** 4 - (kept / gap) ** 2)


def _leaders(scene: SceneArrays, sight: Sight, along: Array) -> tuple[Array, Array, Array]:
    """(metres to, speed along the route of, whether it counts), [A + G]: agents, then lights."""
    front = along + scene.ego_box[0] + scene.ego_box[3]
    seconds = jnp.asarray(_SEEN_AHEAD)
    project = jax.vmap(polylines.project, (0, None))

    def agent(pose, velocity, size, kind):
        ahead = pose[:2] + seconds[:, None] * velocity
        s, off, heading = project(ahead, scene.route)
        cos, sin = jnp.abs(jnp.cos(pose[2] - heading)), jnp.abs(jnp.sin(pose[2] - heading))
        long = 0.5 * (size[0] * cos + size[1] * sin)
        wide = 0.5 * (size[0] * sin + size[1] * cos)
        person = (kind == AgentKind.PEDESTRIAN) | (kind == AgentKind.CYCLIST)
        looked_at = (seconds == 0.0) | (person & (jnp.abs(off) < jnp.abs(off[0])))
        on_way = jnp.abs(off) < wide + scene.ego_box[1] / 2 + _BESIDE
        room = jnp.where(on_way & looked_at & (s + long > front), s - long - front, jnp.inf)
        speed = velocity[0] * jnp.cos(heading[0]) + velocity[1] * jnp.sin(heading[0])
        return room.min(), speed

    gap, speed = jax.vmap(agent)(
        sight.agent_pose, sight.agent_velocity, scene.agent_size, scene.agent_kind
    )
    counts = sight.agent_present & scene.agent_solid & jnp.isfinite(gap)
    at, off, _ = project(scene.light_stop.mean(axis=1), scene.route)
    closed = (sight.light_state == Light.RED) | (sight.light_state == Light.YELLOW)
    # A line that is too near to stop at, or passed, is driven over.
    can_stop = at - front > sight.ego_speed**2 / (2 * HARDEST) - 1.0
    waits = scene.light_valid & closed & (jnp.abs(off) < _LINE_REACH) & can_stop
    line_gap = at - front + MIN_GAP - 0.5  # stop half a metre before the line
    return (
        jnp.concatenate([jnp.where(counts, gap, 1e6), line_gap]),
        jnp.concatenate([jnp.maximum(speed, 0.0), jnp.zeros_like(at)]),
        jnp.concatenate([counts, waits]),
    )


def _curve_speed(route: Array, along: Array) -> Array:
    """Speed at which the sharpest curve of the way ahead is comfortable."""
    _, heading = polylines.interpolate(route, along + jnp.arange(0.0, _CURVE, 2.0))
    turn = jnp.abs(jnp.sin(heading[2:] - heading[:-2])) / 4.0
    return jnp.sqrt(LATERAL / jnp.maximum(turn.max(), 1e-3))


def into_rig(pose: Array, rig: Array) -> Array:
    """Poses [..., 3] (x, y, yaw) of the scene frame in the frame of the pose `rig` [3]."""
    cos, sin = jnp.cos(rig[2]), jnp.sin(rig[2])
    dx, dy = pose[..., 0] - rig[0], pose[..., 1] - rig[1]
    turned = pose[..., 2] - rig[2]
    yaw = jnp.arctan2(jnp.sin(turned), jnp.cos(turned))
    return jnp.stack([cos * dx + sin * dy, cos * dy - sin * dx, yaw], axis=-1)
