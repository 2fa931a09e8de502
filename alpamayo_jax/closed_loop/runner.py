"""Runs a policy in scenes and says what came out, step by step and summed up.

A policy is either a pure function (`sim.closed_loop.PolicyFn`: compiled into one loop over time
for all scenes and rollouts) or a `HostPolicy` (called at every tick with all scenes and rollouts of
a batch, so that a neural policy can draw its cameras and run once for all of them).
"""

import dataclasses
import functools
import time
from typing import Any, Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.closed_loop.hosted import (
    Batch,
    HostLoop,
    HostPlan,
    HostPolicy,
    Moment,
    Said,
    silent,
)
from alpamayo_jax.closed_loop.measure import find_borders, measure
from alpamayo_jax.sim import closed_loop, traffic
from alpamayo_jax.sim.closed_loop import (
    HISTORY,
    WAYPOINTS,
    LoopSettings,
    Plan,
    PolicyFn,
    Rollout,
)
from alpamayo_jax.sim.scenes import TICK, Scene, SceneArrays, stack
from alpamayo_jax.types import InputError

__all__ = ["MOST", "HostPlan", "HostPolicy", "Moment", "Run", "run"]

MOST = 256  # rollouts that are driven at once

_begin = jax.jit(closed_loop.begin, static_argnames="warmup")
_look, _advance = jax.jit(closed_loop.look), jax.jit(closed_loop.advance)
_record = jax.jit(closed_loop.record, static_argnames="warmup")


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
            Batch(
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


def _drive_pure(
    batches: Sequence[Batch],
    policy: PolicyFn,
    settings: LoopSettings,
    progress: Callable[[Any], Any],
) -> Iterable[tuple[Rollout, Said, float]]:
    """(what happened, nothing said, seconds) of every batch."""
    first = batches[0]
    program = closed_loop.drive.lower(
        first.scenes, first.roads, first.keys, policy=policy, warmup=settings.warmup
    ).compile()
    for batch in progress(batches):
        begin = time.perf_counter()
        rollout = jax.block_until_ready(program(batch.scenes, batch.roads, batch.keys))
        yield rollout, silent(batch), time.perf_counter() - begin


def _drive_hosted(
    scenes: Sequence[Scene],
    batches: Sequence[Batch],
    policy: HostPolicy,
    settings: LoopSettings,
    seed: int,
    progress: Callable[[Any], Any],
) -> Iterable[tuple[Rollout, Said, float]]:
    """(what happened, what was said, seconds) of every batch, tick by tick."""
    ahead = batches[0].scenes.ego_pose.shape[1] - 1 - settings.warmup
    ticks = iter(progress(range(ahead * len(batches))))
    for batch in batches:
        state = _begin(batch.scenes, warmup=settings.warmup)
        still = Plan(jnp.zeros((len(batch.pairs), WAYPOINTS, 3), jnp.float32))
        # Compiled before the clock runs.
        _look(batch.scenes, state)
        jax.block_until_ready(_advance(batch.scenes, batch.roads, state, still))
        loop = HostLoop(scenes, batch, policy, settings, seed)
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
