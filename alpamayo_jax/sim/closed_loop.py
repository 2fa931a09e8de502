"""Driving in closed loop: every 0.1 s a policy plans, the controller tracks, the world moves on.

One tick at time t, as in AlpaSim: the policy sees the scene as it is at t and plans; the tracking
controller reads the plan over the next 2 s and holds one command for 0.1 s; vehicle and agents move
to t + 0.1 s. During the warm-up the ego is moved along the recording and nothing is planned. Poses
are (x, y, yaw); a plan is in the rig frame of its own tick, everything else in the scene frame.
"""

import dataclasses
from typing import Callable

import flax.struct

from alpamayo_jax.sim.scenes import SceneArrays
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
    """

    warmup: int = 17
    reactive: bool = False


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
