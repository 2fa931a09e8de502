"""Driving in closed loop: every 0.1 s a policy plans, the controller tracks, the world moves on.

One tick at time t, as in AlpaSim: the policy sees the scene as it is at t and plans; the tracking
controller reads the plan over the next 2 s and holds one command for 0.1 s; vehicle and agents move
to t + 0.1 s. During the warm-up the ego is moved along the recording and nothing is planned. Poses
are (x, y, yaw); a plan is in the rig frame of its own tick, everything else in the scene frame.
"""

import dataclasses
import functools
from typing import Callable

import flax.struct
import jax
import jax.numpy as jnp

from alpamayo_jax.ops.so3 import wrap_angle
from alpamayo_jax.sim import tracking, traffic, vehicle
from alpamayo_jax.sim.scenes import TICK, SceneArrays
from alpamayo_jax.types import Array

HISTORY = 16  # poses that a policy sees, 0.1 s apart
WAYPOINTS = 64  # of a plan, 0.1 s apart


@flax.struct.dataclass
class Sight:
    """What a policy may look at at one tick; one scene.

    Attributes:
      tick: int32 [], time is 0.1 s times that.
      ego_history: float32 [16, 3], driven poses, oldest first; the last is now.
      ego_speed: float32 [], m/s along the body.
      ego_accel: float32 [], m/s^2 along the body.
      agent_pose: float32 [A, 3].
      agent_velocity: float32 [A, 2], m/s.
      agent_present: bool [A].
      light_state: int32 [G].
    """

    tick: Array
    ego_history: Array
    ego_speed: Array
    ego_accel: Array
    agent_pose: Array
    agent_velocity: Array
    agent_present: Array
    light_state: Array


@flax.struct.dataclass
class Plan:
    """Where a policy wants to be 0.1, 0.2, ... 6.4 s from now, in the rig frame of now.

    Attributes:
      pose: float32 [64, 3], x, y, yaw.
      samples: float32 [M, 64, 2], x and y of all trajectories it drew, or None: the plan alone.
    """

    pose: Array
    samples: Array | None = None


# A policy that is a pure function: (scene, what is seen, random key) -> plan. It is vmapped.
PolicyFn = Callable[[SceneArrays, Sight, Array], Plan]


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """How scenes are driven.

    Attributes:
      warmup: ticks during which the ego follows the recording (AlpaSim: 1.7 s).
      reactive: whether vehicles and cyclists react (IDM along their lanes) or replay the log.
      plan_every: ticks between two plans of a policy on the host; in between the last plan goes on.
    """

    warmup: int = 17
    reactive: bool = False
    plan_every: int = 1


@flax.struct.dataclass
class Rollout:
    """What happened in one scene, scene frame; a leading axis for scenes (and rollouts).

    Attributes:
      num_ticks: int32 [], ticks that were simulated; later rows repeat the last.
      warmup: int32 [], first tick at which the policy planned.
      ego_pose: float32 [T, 3].
      ego_speed: float32 [T].
      agent_pose: float32 [A, T, 3].
      agent_present: bool [A, T].
      plan: float32 [T, 64, 3]; zero at ticks without one.
      planned: bool [T].
      solved: bool [T], whether the controller found a solution at that tick.
      samples: float32 [T, M, 64, 2], or None.
    """

    num_ticks: Array
    warmup: Array
    ego_pose: Array
    ego_speed: Array
    agent_pose: Array
    agent_present: Array
    plan: Array
    planned: Array
    solved: Array
    samples: Array | None = None


@flax.struct.dataclass
class State:
    """Where N scenes are at one tick.

    Attributes:
      tick: int32 [].
      vehicle: float32 [N, 8], as in `vehicle`.
      history: float32 [N, 16, 3], poses of the ego, oldest first.
      agents: the other road users.
    """

    tick: Array
    vehicle: Array
    history: Array
    agents: traffic.Agents


def to_rig(pose: Array, origin: Array) -> Array:
    """Poses [..., 3] of the scene frame in the rig frame of `origin` [..., 3]; they broadcast."""
    delta = pose[..., :2] - origin[..., :2]
    cos, sin = jnp.cos(origin[..., 2]), jnp.sin(origin[..., 2])
    x = cos * delta[..., 0] + sin * delta[..., 1]
    y = cos * delta[..., 1] - sin * delta[..., 0]
    return jnp.stack([x, y, wrap_angle(pose[..., 2] - origin[..., 2])], axis=-1)


def from_rig(pose: Array, origin: Array) -> Array:
    """The inverse of `to_rig`; poses may also be points [..., 2]."""
    cos, sin = jnp.cos(origin[..., 2]), jnp.sin(origin[..., 2])
    x = cos * pose[..., 0] - sin * pose[..., 1] + origin[..., 0]
    y = sin * pose[..., 0] + cos * pose[..., 1] + origin[..., 1]
    if pose.shape[-1] == 2:
        return jnp.stack([x, y], axis=-1)
    return jnp.stack([x, y, wrap_angle(pose[..., 2] + origin[..., 2])], axis=-1)


def begin(scenes: SceneArrays, warmup: int) -> State:
    """The state of N stacked scenes at the end of the warm-up, from what was recorded.

    Velocities are differences of poses: those that a recording states may be missing or late.
    """
    poses = scenes.ego_pose
    step = to_rig(poses[:, warmup], poses[:, warmup - 2]) / (2 * TICK)
    return State(
        tick=jnp.int32(warmup),
        vehicle=vehicle.initial_state(
            poses[:, warmup], jnp.maximum(scenes.ego_speed[:, warmup], 0.0), step[:, 2]
        ),
        history=poses[:, warmup - HISTORY + 1 : warmup + 1],
        agents=traffic.begin(scenes, warmup),
    )


def look(scenes: SceneArrays, state: State) -> Sight:
    """What the policies of N scenes may look at now."""
    tick = jnp.minimum(state.tick, scenes.num_ticks - 1)
    lights = jax.vmap(lambda states, i: states[:, i])(scenes.light_state, tick)
    rate = state.vehicle[:, vehicle.STATE.index("yaw_rate")]
    return Sight(
        tick=tick,
        ego_history=state.history,
        ego_speed=state.vehicle[:, 3],
        ego_accel=state.vehicle[:, 7] + rate**2 * vehicle.VEHICLE.rear_to_cg,
        agent_pose=state.agents.pose,
        agent_velocity=state.agents.velocity,
        agent_present=state.agents.present,
        light_state=lights,
    )


def advance(
    scenes: SceneArrays, roads: traffic.Paths | None, state: State, plan: Plan
) -> tuple[State, Array]:
    """One tick: the controller tracks the plans of N scenes, everything moves on by 0.1 s.

    Args:
      scenes: N stacked scenes.
      roads: where agents drive when they react, or None: they replay the recording.
      state: at tick t.
      plan: [N, 64, 3] and so on, rig frame of tick t.

    Returns:
      The state at tick t + 1, and bool [N]: whether the controller found a solution.
    """
    here = jnp.zeros_like(plan.pose[:, :1])
    command, solved = tracking.control(state.vehicle, jnp.concatenate([here, plan.pose], axis=1))
    moved = vehicle.advance(state.vehicle, command, TICK)
    moved = moved.at[:, 2].set(wrap_angle(moved[:, 2]))
    runs = (state.tick + 1 < scenes.num_ticks)[:, None]
    moved = jnp.where(runs, moved, state.vehicle)
    history = jnp.concatenate([state.history[:, 1:], moved[:, None, :3]], axis=1)
    new = State(
        tick=state.tick + 1,
        vehicle=moved,
        history=jnp.where(runs[..., None], history, state.history),
        agents=traffic.advance(scenes, roads, state.agents, state.tick, moved[:, :4]),
    )
    return new, solved


def _tracked(plan: Plan, origin: Array) -> tuple[Array, Array | None]:
    """A plan and its samples in the scene frame."""
    pose = from_rig(plan.pose, origin[:, None])
    if plan.samples is None:
        return pose, None
    return pose, from_rig(plan.samples, origin[:, None, None])


def record(
    scenes: SceneArrays,
    warmup: int,
    states: State,
    plans: tuple[Array, Array | None],
    solved: Array,
) -> Rollout:
    """Puts together what happened.

    Args:
      scenes: N stacked scenes.
      warmup: first tick of the policy.
      states: those after each of its ticks, with a leading axis of ticks.
      plans: scene frame, with a leading axis of ticks.
      solved: bool [ticks, N].
    """
    before = warmup + 1
    ahead = functools.partial(jnp.moveaxis, source=0, destination=1)
    later = functools.partial(jnp.moveaxis, source=0, destination=2)

    def with_empty(rows: Array) -> Array:
        rows = ahead(rows)
        return jnp.pad(rows, ((0, 0), (warmup, 1), *([(0, 0)] * (rows.ndim - 2))))

    ticks = jnp.arange(scenes.ego_pose.shape[1])
    ran = (ticks >= warmup) & (ticks < scenes.num_ticks[:, None] - 1)
    return Rollout(
        num_ticks=scenes.num_ticks,
        warmup=jnp.full_like(scenes.num_ticks, warmup),
        ego_pose=jnp.concatenate([scenes.ego_pose[:, :before], ahead(states.vehicle)[..., :3]], 1),
        ego_speed=jnp.concatenate(
            [scenes.ego_speed[:, :before], ahead(states.vehicle)[..., 3]], axis=1
        ),
        agent_pose=jnp.concatenate(
            [scenes.agent_pose[:, :, :before], later(states.agents.pose)], axis=2
        ),
        agent_present=jnp.concatenate(
            [scenes.agent_present[:, :, :before], later(states.agents.present)], axis=2
        ),
        plan=with_empty(plans[0]),
        planned=ran,
        solved=with_empty(solved) | ~ran,
        samples=None if plans[1] is None else with_empty(plans[1]),
    )


@functools.partial(jax.jit, static_argnames=("policy", "warmup"))
def drive(
    scenes: SceneArrays,
    roads: traffic.Paths | None,
    keys: Array,
    *,
    policy: PolicyFn,
    warmup: int = LoopSettings.warmup,
) -> Rollout:
    """Drives N scenes with a pure policy: one program, a scan over ticks, all scenes at once.

    Args:
      scenes: N stacked scenes of more than `warmup` + 1 ticks.
      roads: where reacting agents drive, or None: they replay the recording.
      keys: [N] random keys; the policy gets the scene's, with the tick folded in.
      policy: the policy; compiled in.
      warmup: ticks during which the ego follows the recording, at least 15.

    Returns:
      What happened, leading axis [N].
    """
    ticks = scenes.ego_pose.shape[1]
    if not HISTORY - 1 <= warmup < ticks - 1:
        raise ValueError(f"warmup is {warmup}; it must be {HISTORY - 1} to {ticks - 2}")

    def step(state: State, _):
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, state.tick)
        plan = jax.vmap(policy)(scenes, look(scenes, state), own)
        new, solved = advance(scenes, roads, state, plan)
        return new, (new, _tracked(plan, state.vehicle[:, :3]), solved)

    _, (states, plans, solved) = jax.lax.scan(
        step, begin(scenes, warmup), None, length=ticks - 1 - warmup
    )
    return record(scenes, warmup, states, plans, solved)
