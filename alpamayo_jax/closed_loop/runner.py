"""Runs a policy in scenes and says what came out, step by step and summed up.

A policy is either a pure function (`PureFn`, below: compiled into one loop over time for all scenes
and rollouts) or a `HostPolicy` (called at every tick with all scenes and rollouts of a batch, so
that a neural policy can draw its cameras and run once for all of them).
"""

import dataclasses
from typing import Any, Callable, Protocol, Sequence

import numpy as np

from alpamayo_jax.sim.closed_loop import LoopSettings, Plan, PolicyFn, Rollout, Sight
from alpamayo_jax.sim.scenes import Scene


@dataclasses.dataclass(frozen=True)
class Moment:
    """One scene at one tick of one rollout, for a policy on the host.

    Attributes:
      scene: the scene.
      rollout: number of the rollout.
      tick: time is 0.1 s times that.
      seed: differs between scenes, rollouts and ticks; the same in a run repeated.
      sight: what is seen now, NumPy.
      ego_poses: float32 [tick + 1, 3], driven poses from the start of the scene on.
      agent_poses: float32 [A, tick + 1, 3], where the agents were.
      agent_present: bool [A, tick + 1].
    """

    scene: Scene
    rollout: int
    tick: int
    seed: int
    sight: Sight
    ego_poses: np.ndarray
    agent_poses: np.ndarray
    agent_present: np.ndarray


@dataclasses.dataclass(frozen=True)
class HostPlan:
    """A plan and what the policy said.

    Attributes:
      plan: rig frame of now; NumPy. All plans of a run have the same number of samples.
      reasoning: why, or "".
    """

    plan: Plan
    reasoning: str = ""


class HostPolicy(Protocol):
    """A policy that is called on the host."""

    def plan(self, moments: Sequence[Moment]) -> list[HostPlan]:
        """One plan per moment, in their order."""
        ...


@dataclasses.dataclass(frozen=True)
class Run:
    """What happened in scenes x rollouts.

    Attributes:
      scenes: the scenes.
      rollouts: K.
      rollout: leading axes [S, K] on every field; NumPy.
      steps: metric under AlpaSim's name -> [S, K, T] per step, plus "valid" bool [S, K, T].
      reasoning: [S][K] lists of (tick, text), without repeats of the same text.
      simulated_seconds: of all scenes and rollouts, warm-up included.
      seconds: of the wall, compilation excluded.
    """

    scenes: tuple[Scene, ...]
    rollouts: int
    rollout: Rollout
    steps: dict[str, np.ndarray]
    reasoning: list[list[list[tuple[int, str]]]]
    simulated_seconds: float
    seconds: float


def run(
    scenes: Sequence[Scene],
    policy: PolicyFn | HostPolicy,
    *,
    rollouts: int = 1,
    seed: int = 0,
    settings: LoopSettings = LoopSettings(),
    progress: Callable[[Any], Any] = lambda steps: steps,
) -> Run:
    """Drives every scene `rollouts` times.

    Args:
      scenes: any number of any size; they are driven in batches of similar size.
      policy: a pure function, or an object with `plan`.
      rollouts: K, at least 1.
      seed: of all random numbers.
      settings: warm-up and traffic.
      progress: wraps what is iterated over, such as tqdm.

    Raises:
      InputError: a scene is shorter than the warm-up and one step; or a host policy returned plans
        of a wrong number or shape, or not finite: names the scene and the tick.
    """
