"""Small scenes and sights for tests of policies."""

import jax.numpy as jnp
import numpy as np

from alpamayo_jax.sim.closed_loop import HISTORY, Sight
from alpamayo_jax.sim.scenes import TICK, AgentKind, Light, make_arrays

TICKS = 60


def straight(speed=8.0, ticks=TICKS, limit=12.0, agents=(), lights=(), route=None, heading=0.0):
    """A car that drives straight on from the origin.

    agents: (x, y, yaw, vx, vy, length, width, kind) each; lights: (x of the line, state).
    """
    t = np.arange(ticks) * TICK
    direction = np.array([np.cos(heading), np.sin(heading)])
    pose = np.concatenate([speed * t[:, None] * direction, np.full((ticks, 1), heading)], -1)
    table = {}
    if agents:
        rows = [np.stack([x + vx * t, y + vy * t, np.full(ticks, yaw)], -1)
                for x, y, yaw, vx, vy, *_ in agents]  # fmt: skip
        table = {
            "agent_pose": np.stack(rows),
            "agent_present": np.ones((len(agents), ticks), bool),
            "agent_size": np.array([(a[5], a[6], 1.5) for a in agents]),
            "agent_kind": np.array([a[7] for a in agents]),
        }
    if lights:
        lines = [np.array([[x, 2.0], [x, -2.0]]) for x, _ in lights]
        table |= {
            "light_xy": np.array([(x + 10.0, 0.0) for x, _ in lights]),
            "light_stop": np.stack(lines),
            "light_state": np.array([[state] * ticks for _, state in lights]),
            "stop_lines": lines,
        }
    if route is None:
        route = np.outer(np.linspace(-20.0, 300.0, 65), direction)
    return make_arrays(pose, np.full(ticks, speed), route, limit, **table)


def sight(scene, tick=17, speed=None, offset=(0.0, 0.0)):
    """What is seen at a tick of the recording, the ego moved aside by `offset`."""
    ticks = np.maximum(np.arange(tick - HISTORY + 1, tick + 1), 0)
    history = np.array(scene.ego_pose[ticks])
    history[:, :2] += offset
    later = np.minimum(tick + 1, len(scene.ego_pose) - 1)
    velocity = (scene.agent_pose[:, later, :2] - scene.agent_pose[:, tick, :2]) / TICK
    return Sight(
        tick=jnp.int32(tick),
        ego_history=jnp.asarray(history),
        ego_speed=jnp.float32(scene.ego_speed[tick] if speed is None else speed),
        ego_accel=jnp.float32(0.0),
        agent_pose=jnp.asarray(scene.agent_pose[:, tick]),
        agent_velocity=jnp.asarray(velocity, jnp.float32).reshape(-1, 2),
        agent_present=jnp.asarray(scene.agent_present[:, tick]),
        light_state=jnp.asarray(scene.light_state[:, tick]),
    )


CAR = (4.5, 1.9, AgentKind.VEHICLE)
WALKER = (0.6, 0.6, AgentKind.PEDESTRIAN)
RED, GREEN = Light.RED, Light.GREEN
