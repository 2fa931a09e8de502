"""Runs a policy in scenes and says what came out, step by step and summed up.

A policy is either a pure function (`sim.closed_loop.PolicyFn`: compiled into one loop over time for all scenes
and rollouts) or a `HostPolicy` (called at every tick with all scenes and rollouts of a batch, so
that a neural policy can draw its cameras and run once for all of them).
"""

import dataclasses
import functools
import time
from typing import Any, Callable, Iterable, Protocol, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.closed_loop.measure import Borders, find_borders, measure
from alpamayo_jax.sim import closed_loop, traffic
from alpamayo_jax.sim.closed_loop import (
    HISTORY,
    WAYPOINTS,
    LoopSettings,
    Plan,
    PolicyFn,
    Rollout,
    Sight,
)
from alpamayo_jax.sim.scenes import TICK, Scene, SceneArrays, stack
from alpamayo_jax.types import Array, InputError

MOST = 256  # rollouts that are driven at once

_begin = jax.jit(closed_loop.begin, static_argnames="warmup")
_look, _advance = jax.jit(closed_loop.look), jax.jit(closed_loop.advance)
_record = jax.jit(closed_loop.record, static_argnames="warmup")
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
class Run:
    """What happened in scenes x rollouts.

    Attributes:
      scenes: the scenes.
      rollouts: K.
      rollout: leading axes [S, K] on every field; NumPy.
      steps: metric under AlpaSim's name -> [S, K, T] per step, plus "valid" bool [S, K, T]: the
        steps after the warm-up that were simulated.
      strict_steps: the same with AlpaSim's quirks.
      reasoning: [S][K] lists of (tick, text), without repeats of the same text.
      simulated_seconds: of all scenes and rollouts, warm-up included.
      seconds: of the wall for driving, compilation and metrics excluded.
    """

    scenes: tuple[Scene, ...]
    rollouts: int
    rollout: Rollout
    steps: dict[str, np.ndarray]
    strict_steps: dict[str, np.ndarray]
    reasoning: list[list[list[tuple[int, str]]]]
    simulated_seconds: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class _Batch:
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
class _Said:
    """What a policy on the host said, per rollout of a batch."""

    reasoning: list[list[tuple[int, str]]]
    black: np.ndarray  # bool [N, T]
    unsafe: np.ndarray


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
      scenes: any number of any size; they are padded to the largest and driven at most 256 rollouts
        at once.
      policy: a pure function, or an object with `plan`.
      rollouts: K, at least 1.
      seed: of all random numbers.
      settings: warm-up and traffic.
      progress: wraps what is iterated over, such as tqdm.

    Raises:
      InputError: a scene is shorter than the warm-up and one step; or a host policy returned plans
        of a wrong number or shape, or not finite: names the scene and the tick.
    """
    if rollouts < 1:
        raise ValueError(f"rollouts is {rollouts}; at least one is needed")
    _check(scenes, settings)
    pairs = [(i, k) for i in range(len(scenes)) for k in range(rollouts)]
    size = min(len(pairs), MOST)
    stacked = stack([scene.arrays for scene in scenes])
    borders = find_borders([scene.arrays for scene in scenes])
    roads = _roads(stacked, len(scenes)) if settings.reactive else None
    keys = jax.random.split(jax.random.key(seed), len(pairs))
    batches = []
    for begin in range(0, len(pairs), size):
        own = pairs[begin : begin + size]
        filled = own + own[-1:] * (size - len(own))
        rows = np.array([i for i, _ in filled])
        take = functools.partial(jax.tree.map, lambda x, rows=rows: x[rows])
        batches.append(
            _Batch(
                filled, len(own), take(stacked), take(borders), None if roads is None
                else take(roads), keys[np.array([i * rollouts + k for i, k in filled])],
            )  # fmt: skip
        )
    if callable(getattr(policy, "plan", None)):
        driven = _drive_hosted(scenes, batches, policy, settings, seed, progress)
    else:
        driven = _drive_pure(batches, policy, settings, progress)
    made, reasoning, seconds = [], [], 0.0
    # In this order, so that what is driven comes to its end, and closes its progress bar.
    for (rollout, said, wall), batch in zip(driven, batches):
        steps = [
            {name: np.asarray(rows)[: batch.count] for name, rows in found.items()}
            for found in measure(batch.scenes, batch.borders, rollout)
        ]
        kept = jax.tree.map(lambda x, n=batch.count: np.asarray(x)[:n], rollout)
        for rows in steps:
            rows["img_is_black"] = said.black[: batch.count].astype(np.float32)
            rows["safety_monitor_triggered"] = said.unsafe[: batch.count].astype(np.float32)
            ticks = np.arange(kept.ego_pose.shape[1])
            after = ticks >= kept.warmup[:, None]
            rows["valid"] = after & (ticks < kept.num_ticks[:, None])
        made.append((kept, *steps))
        reasoning += said.reasoning[: batch.count]
        seconds += wall

    def joined(*parts: np.ndarray) -> np.ndarray:
        whole = np.concatenate(parts)
        return whole.reshape(len(scenes), rollouts, *whole.shape[1:])

    rollout, steps, strict_steps = (jax.tree.map(joined, *parts) for parts in zip(*made))
    ticks = float(np.asarray(rollout.num_ticks, np.float64).sum() - len(pairs))
    return Run(
        scenes=tuple(scenes),
        rollouts=rollouts,
        rollout=rollout,
        steps=steps,
        strict_steps=strict_steps,
        reasoning=[reasoning[i : i + rollouts] for i in range(0, len(pairs), rollouts)],
        simulated_seconds=TICK * ticks,
        seconds=seconds,
    )


def _check(scenes: Sequence[Scene], settings: LoopSettings) -> None:
    if not scenes:
        raise InputError("no scenes to drive in")
    if settings.warmup < HISTORY - 1:
        raise InputError(
            f"warmup is {settings.warmup} ticks; a policy sees {HISTORY} poses, so it must be at "
            f"least {HISTORY - 1}"
        )
    if settings.plan_every < 1:
        raise InputError(f"plan_every is {settings.plan_every}; at least 1 tick is needed")
    for scene in scenes:
        ticks = int(scene.arrays.num_ticks)
        if ticks < settings.warmup + 2:
            raise InputError(
                f"scene {scene.name!r} has {ticks} ticks of {TICK} s; with a warm-up of "
                f"{settings.warmup} it needs at least {settings.warmup + 2}"
            )


def _roads(scenes: SceneArrays, count: int) -> traffic.Paths:
    """Where the agents of stacked scenes drive, [S]."""
    found = [traffic.find_paths(jax.tree.map(lambda x, i=i: x[i], scenes)) for i in range(count)]
    return jax.tree.map(lambda *rows: np.stack(rows), *found)


def _silent(batch: _Batch) -> _Said:
    shape = batch.scenes.ego_pose.shape[:2]
    nothing = np.zeros(shape, bool)
    return _Said([[] for _ in batch.pairs], nothing, nothing.copy())


def _drive_pure(
    batches: Sequence[_Batch],
    policy: PolicyFn,
    settings: LoopSettings,
    progress: Callable[[Any], Any],
) -> Iterable[tuple[Rollout, _Said, float]]:
    """(what happened, nothing said, seconds) of every batch."""
    first = batches[0]
    program = closed_loop.drive.lower(
        first.scenes, first.roads, first.keys, policy=policy, warmup=settings.warmup
    ).compile()
    for batch in progress(batches):
        begin = time.perf_counter()
        rollout = jax.block_until_ready(program(batch.scenes, batch.roads, batch.keys))
        yield rollout, _silent(batch), time.perf_counter() - begin


def _drive_hosted(
    scenes: Sequence[Scene],
    batches: Sequence[_Batch],
    policy: HostPolicy,
    settings: LoopSettings,
    seed: int,
    progress: Callable[[Any], Any],
) -> Iterable[tuple[Rollout, _Said, float]]:
    """(what happened, what was said, seconds) of every batch, tick by tick."""
    ahead = batches[0].scenes.ego_pose.shape[1] - 1 - settings.warmup
    ticks = iter(progress(range(ahead * len(batches))))
    for batch in batches:
        state = _begin(batch.scenes, warmup=settings.warmup)
        still = Plan(jnp.zeros((len(batch.pairs), WAYPOINTS, 3), jnp.float32))
        # Compiled before the clock runs.
        _look(batch.scenes, state)
        jax.block_until_ready(_advance(batch.scenes, batch.roads, state, still))
        loop = _HostLoop(scenes, batch, policy, settings, seed)
        begin, states, solved = time.perf_counter(), [], []
        for tick in range(settings.warmup, settings.warmup + ahead):
            next(ticks)
            sight = jax.tree.map(np.asarray, _look(batch.scenes, state))
            plan = loop.plan(tick, sight)
            state, good = _advance(batch.scenes, batch.roads, state, Plan(plan))
            states.append(jax.tree.map(np.asarray, state))
            loop.moved(tick + 1, states[-1])
            solved.append(np.asarray(good))
        seconds = time.perf_counter() - begin
        together = jax.tree.map(lambda *rows: np.stack(rows), *states)
        rollout = _record(
            batch.scenes, warmup=settings.warmup, states=together, plans=loop.plans(),
            solved=np.stack(solved),
        )  # fmt: skip
        yield rollout, loop.said, seconds
    next(ticks, None)  # so that a progress bar closes


class _HostLoop:
    """The ticks of one batch, as a policy on the host sees them."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        batch: _Batch,
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
        self.said = _silent(batch)
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
