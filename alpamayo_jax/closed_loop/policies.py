"""Policies that need no network: the recording, constant velocity, and a follower of the route.

Each is a `sim.closed_loop.PolicyFn`: a pure function of (scene, what is seen, random key). A user's
own function of that form, or an object with `plan` (`hosted.HostPolicy`), drives just as well.
"""

import jax.numpy as jnp

from alpamayo_jax.closed_loop.route_follower import route_follower
from alpamayo_jax.sim.closed_loop import WAYPOINTS, Plan, PolicyFn, Sight, to_rig
from alpamayo_jax.sim.scenes import TICK, SceneArrays
from alpamayo_jax.types import Array


def recorded(scene: SceneArrays, sight: Sight, key: Array) -> Plan:
    """Where the recorded driver was at the same times; past the end, on at the last velocity."""
    del key
    last = scene.num_ticks - 1
    tick = sight.tick + 1 + jnp.arange(WAYPOINTS)
    pose = jnp.asarray(scene.ego_pose)[jnp.minimum(tick, last)]
    end, before = scene.ego_pose[last], scene.ego_pose[last - 1]
    beyond = jnp.maximum(tick - last, 0)[:, None] * (end - before)[None, :2]
    pose = pose.at[:, :2].add(beyond)
    return Plan(to_rig(pose, sight.ego_history[-1]))


def constant_velocity(scene: SceneArrays, sight: Sight, key: Array) -> Plan:
    """Straight on at the speed of now."""
    del scene, key
    x = sight.ego_speed * TICK * jnp.arange(1, WAYPOINTS + 1)
    return Plan(jnp.stack([x, jnp.zeros_like(x), jnp.zeros_like(x)], axis=-1))


POLICIES: dict[str, PolicyFn] = {
    "recorded": recorded,
    "constant_velocity": constant_velocity,
    "route_follower": route_follower,
}
