"""A baseline that follows its route at the distance and speed of the Intelligent Driver Model.

It sees where everybody is, but neither signs nor intentions: it keeps its distance to who is on its
way, brakes for people who are about to step on it, waits at lights that are not green, and slows
down for curves. It stays in its lane, so it waits behind what others pass, and it does not stop at
signs, which takes a memory.
"""

import jax
import jax.numpy as jnp

from alpamayo_jax.ops import polylines
from alpamayo_jax.sim.closed_loop import WAYPOINTS, Plan, Sight, to_rig
from alpamayo_jax.sim.scenes import TICK, AgentKind, Light, SceneArrays
from alpamayo_jax.sim.traffic import IDM, gap_ahead, idm_accel
from alpamayo_jax.types import Array

LATERAL = 2.0  # m/s^2 in a curve
_AHEAD, _SPACING = 60, 1.5  # points of the way ahead that are looked at, and metres between them
_SOON = (0.5, 1.0, 1.5, 2.0)  # s, where people may be
_LINE_REACH = 4.0  # m, how far from the route the middle of its stop line may be
_BEFORE_LINE = 0.5  # m
_CURVE = 40.0  # m of the way ahead whose curves count
_BACK_S, _BACK_M = 1.5, 8.0  # the way, in s and at least m, on which it returns to its route


def route_follower(scene: SceneArrays, sight: Sight, key: Array) -> Plan:
    """Along the route, as fast as the road and whoever is in front allow."""
    del key
    rig = sight.ego_history[-1]
    along, off, _ = polylines.project(rig[:2], scene.route)
    gap, speed = _leaders(scene, sight, along)
    free = jnp.minimum(scene.speed_limit, _curve_speed(scene.route, along))

    def advance(state, number):
        s, v = state
        room = gap + speed * number * TICK - (s - along)
        accel = idm_accel(v, free, room, speed).min()
        after = jnp.maximum(v + accel * TICK, 0.0)
        s = s + 0.5 * (v + after) * TICK
        return (s, after), s

    _, s = jax.lax.scan(advance, (along, sight.ego_speed), jnp.arange(WAYPOINTS))
    point, heading = polylines.interpolate(scene.route, s)
    reach = jnp.maximum(_BACK_S * sight.ego_speed, _BACK_M)
    aside = off * jnp.exp(-(s - along) / reach)
    normal = jnp.stack([-jnp.sin(heading), jnp.cos(heading)], axis=-1)
    yaw = heading - jnp.arctan2(aside, reach)
    pose = jnp.concatenate([point + aside[:, None] * normal, yaw[:, None]], axis=-1)
    return Plan(to_rig(pose, rig))


def _leaders(scene: SceneArrays, sight: Sight, along: Array) -> tuple[Array, Array]:
    """(metres from the front to it, its speed along the route), [1 + G]: who is next, the lights.

    The distance is inf where there is nobody, or no need to wait.
    """
    front = along + scene.ego_box[0] + scene.ego_box[3]
    points, headings = polylines.interpolate(scene.route, front + _SPACING * jnp.arange(_AHEAD))
    soon = jnp.asarray((0.0, *_SOON))
    count = len(soon)
    ahead = soon[:, None, None] * sight.agent_velocity
    poses = jnp.repeat(sight.agent_pose[None], count, 0).at[..., :2].add(ahead)
    person = (scene.agent_kind == AgentKind.PEDESTRIAN) | (scene.agent_kind == AgentKind.CYCLIST)
    counts = sight.agent_present & scene.agent_solid & (person | (soon == 0.0)[:, None])
    velocity = jnp.tile(sight.agent_velocity, (count, 1))
    gap, speed = jnp.float32(jnp.inf), jnp.float32(0.0)
    if len(velocity):
        sizes = jnp.tile(scene.agent_size, (count, 1))
        gap, who = gap_ahead(
            points, headings, scene.ego_box[1], poses.reshape(-1, 3), sizes, counts.reshape(-1)
        )
        at = jnp.argmin(jnp.abs(_SPACING * jnp.arange(_AHEAD) - gap))
        direction = jnp.stack([jnp.cos(headings[at]), jnp.sin(headings[at])])
        speed = jnp.maximum((velocity[who] * direction).sum(), 0.0)
    line, off, _ = jax.vmap(polylines.project, (0, None))(
        jnp.asarray(scene.light_stop).mean(axis=1), scene.route
    )
    closed = (sight.light_state == Light.RED) | (sight.light_state == Light.YELLOW)
    # A line that is too near to stop at, or passed, is driven over.
    can_stop = line - front > sight.ego_speed**2 / (2 * IDM.hardest) - 1.0
    waits = scene.light_valid & closed & (jnp.abs(off) < _LINE_REACH) & can_stop
    to_line = jnp.where(waits, line - front + IDM.gap - _BEFORE_LINE, jnp.inf)
    return (
        jnp.concatenate([gap[None], to_line]),
        jnp.concatenate([speed[None], jnp.zeros_like(to_line)]),
    )


def _curve_speed(route: Array, along: Array) -> Array:
    """Speed at which the sharpest curve of the way ahead is comfortable."""
    _, heading = polylines.interpolate(route, along + jnp.arange(0.0, _CURVE, 2.0))
    turn = jnp.abs(jnp.sin(heading[2:] - heading[:-2])) / 4.0
    return jnp.sqrt(LATERAL / jnp.maximum(turn.max(), 1e-3))
