"""Policies on the host: what they get, what they give, and a batch of rollouts seen by one."""

import dataclasses
from typing import Protocol, Sequence

import jax
import numpy as np

from alpamayo_jax.closed_loop.measure import Borders
from alpamayo_jax.sim import closed_loop, traffic
from alpamayo_jax.sim.closed_loop import WAYPOINTS, LoopSettings, Plan, Sight
from alpamayo_jax.sim.scenes import Scene, SceneArrays
from alpamayo_jax.types import Array, InputError

_to_rig, _from_rig = jax.jit(closed_loop.to_rig), jax.jit(closed_loop.from_rig)


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
      black: whether an image that it saw was black (all pixels at most 10).
      safe: whether it holds its plan for safe.
    """

    plan: Plan
    reasoning: str = ""
    black: bool = False
    safe: bool = True


class HostPolicy(Protocol):
    """A policy that is called on the host."""

    def plan(self, moments: Sequence[Moment]) -> list[HostPlan]:
        """One plan per moment, in their order."""
        ...


@dataclasses.dataclass(frozen=True)
class Batch:
    """Rollouts that are driven at once, N of them.

    Attributes:
      pairs: (scene, rollout) of each; the last one may be repeated to fill the batch.
      count: how many are no repetition.
      scenes: [N]; borders: [N]; roads: [N] or None; keys: [N].
    """

    pairs: list[tuple[int, int]]
    count: int
    scenes: SceneArrays
    borders: Borders
    roads: traffic.Paths | None
    keys: Array


@dataclasses.dataclass
class Said:
    """What a policy on the host said, per rollout of a batch."""

    reasoning: list[list[tuple[int, str]]]
    black: np.ndarray  # bool [N, T]
    unsafe: np.ndarray


def silent(batch: Batch) -> Said:
    """Nothing said in a batch."""
    shape = batch.scenes.ego_pose.shape[:2]
    nothing = np.zeros(shape, bool)
    return Said([[] for _ in batch.pairs], nothing, nothing.copy())


class HostLoop:
    """The ticks of one batch, as a policy on the host sees them."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        batch: Batch,
        policy: HostPolicy,
        settings: LoopSettings,
        seed: int,
    ):
        self._scenes, self._batch, self._policy = scenes, batch, policy
        self._settings, self._seed = settings, seed
        arrays = batch.scenes
        self._ego = np.array(arrays.ego_pose)
        self._agents = np.array(arrays.agent_pose)
        self._present = np.array(arrays.agent_present)
        self.said = silent(batch)
        self._poses: list[np.ndarray] = []  # scene frame, [N, 64, 3] per tick
        self._samples: list[np.ndarray] = []

    def plan(self, tick: int, sight: Sight) -> np.ndarray:
        """The plans [N, 64, 3] at a tick, rig frame."""
        here = sight.ego_history[:, -1]
        if self._poses and (tick - self._settings.warmup) % self._settings.plan_every:
            self._poses.append(_later(self._poses[-1]))
            self._samples.append(_later(self._samples[-1]))
            return np.asarray(_to_rig(self._poses[-1], here[:, None]), np.float32)
        runs = [
            row
            for row in range(self._batch.count)
            if tick < int(self._batch.scenes.num_ticks[row]) - 1
        ]
        moments = [self._moment(row, tick, sight) for row in runs]
        made = self._policy.plan(moments)
        pose, samples = self._checked(moments, made)
        whole = np.zeros((len(here), WAYPOINTS, 3), np.float32)
        whole[runs] = pose
        drawn = np.zeros((len(here), *samples.shape[1:]), np.float32)
        drawn[runs] = samples
        for row, one in zip(runs, made):
            said = self.said.reasoning[row]
            if one.reasoning and (not said or said[-1][1] != one.reasoning):
                said.append((tick, one.reasoning))
            self.said.black[row, tick], self.said.unsafe[row, tick] = one.black, not one.safe
        self._poses.append(np.asarray(_from_rig(whole, here[:, None])))
        self._samples.append(np.asarray(_from_rig(drawn, here[:, None, None])))
        return whole

    def _moment(self, row: int, tick: int, sight: Sight) -> Moment:
        scene, rollout = self._batch.pairs[row]
        agents = len(self._scenes[scene].arrays.agent_pose)
        own: Sight = jax.tree.map(lambda x: x[row], sight)
        lights = len(self._scenes[scene].arrays.light_state)
        own = own.replace(
            agent_pose=own.agent_pose[:agents],
            agent_velocity=own.agent_velocity[:agents],
            agent_present=own.agent_present[:agents],
            light_state=own.light_state[:lights],
        )
        words = np.random.SeedSequence((self._seed, scene, rollout, tick)).generate_state(1)
        return Moment(
            scene=self._scenes[scene],
            rollout=rollout,
            tick=tick,
            seed=int(words[0]),
            sight=own,
            ego_poses=self._ego[row, : tick + 1],
            agent_poses=self._agents[row, :agents, : tick + 1],
            agent_present=self._present[row, :agents, : tick + 1],
        )

    def _checked(
        self, moments: list[Moment], made: list[HostPlan]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The plans [n, 64, 3] and samples [n, M, 64, 2] of a tick.

        Raises:
          InputError: as `run`.
        """
        if len(made) != len(moments):
            raise InputError(
                f"tick {moments[0].tick}: the policy gave {len(made)} plans for {len(moments)} "
                "moments"
            )
        poses, samples = [], []
        for moment, one in zip(moments, made):
            where = f"scene {moment.scene.name!r}, tick {moment.tick}"
            pose = np.asarray(one.plan.pose, np.float32)
            drawn = pose[None, :, :2] if one.plan.samples is None else one.plan.samples
            drawn = np.asarray(drawn, np.float32)
            if pose.shape != (WAYPOINTS, 3):
                raise InputError(f"{where}: a plan must be [{WAYPOINTS}, 3], got {pose.shape}")
            want = samples[0].shape if samples else (
                self._samples[0].shape[1:] if self._samples else (len(drawn), WAYPOINTS, 2)
            )  # fmt: skip
            if drawn.shape != want:
                raise InputError(f"{where}: samples must be {list(want)}, got {drawn.shape}")
            if not (np.isfinite(pose).all() and np.isfinite(drawn).all()):
                raise InputError(f"{where}: the policy's plan has values that are not finite")
            poses.append(pose)
            samples.append(drawn)
        return np.stack(poses), np.stack(samples)

    def moved(self, tick: int, state: closed_loop.State) -> None:
        """Notes where everything is at `tick`."""
        self._ego[:, tick] = state.history[:, -1]
        self._agents[:, :, tick] = state.agents.pose
        self._present[:, :, tick] = state.agents.present

    def plans(self) -> tuple[np.ndarray, np.ndarray]:
        """All plans and samples, scene frame, leading axis of ticks."""
        return np.stack(self._poses), np.stack(self._samples)


def _later(poses: np.ndarray) -> np.ndarray:
    """Trajectories [..., 64, D] of a tick before from now on: one on, the last step repeated."""
    last = 2 * poses[..., -1:, :] - poses[..., -2:-1, :]
    if poses.shape[-1] == 3:
        last[..., 2] = poses[..., -1:, 2]
    return np.concatenate([poses[..., 1:, :], last], axis=-2)
