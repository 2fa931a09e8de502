"""Suite "sim": simulated seconds per second of the wall, without cameras and with one.

Scenes are procedural, of every family in turn; many scenes repeat a few, since drawing them up is
no part of the simulator. Without cameras a policy is compiled into the loop; with one, the front
camera of every scene is drawn at every tick, for a policy on the host that does not look.
"""

import dataclasses
from typing import Any, Sequence

import jax
import numpy as np

from alpamayo_jax.benchmark.timing import alternate
from alpamayo_jax.closed_loop.cameras import SceneCameras
from alpamayo_jax.closed_loop.measure import find_borders, measure
from alpamayo_jax.closed_loop.policies import POLICIES
from alpamayo_jax.closed_loop.runner import HostPlan, Moment, run as run_policy
from alpamayo_jax.sim import closed_loop
from alpamayo_jax.sim.closed_loop import WAYPOINTS, LoopSettings, Plan
from alpamayo_jax.sim.procedural import procedural_scene
from alpamayo_jax.sim.scenes import TICK, Scene, stack

COUNTS = (1, 16, 256)


@dataclasses.dataclass(frozen=True)
class Load:
    """What is simulated.

    Attributes:
      counts: numbers of scenes.
      distinct: so many of them differ.
      seconds: of each scene.
      camera_counts: numbers of scenes with a camera.
      camera_seconds: of each scene with a camera, warm-up included.
      policies: names of `closed_loop.policies.POLICIES`.
    """

    counts: Sequence[int] = COUNTS
    distinct: int = 23
    seconds: float = 20.0
    camera_counts: Sequence[int] = COUNTS
    camera_seconds: float = 4.0
    policies: Sequence[str] = ("recorded", "constant_velocity", "route_follower")


class _Watching:
    """A host policy that has its camera drawn and stands still."""

    def __init__(self) -> None:
        self._cameras = SceneCameras(num_frames=1)

    def plan(self, moments: Sequence[Moment]) -> list[HostPlan]:
        for moment in moments:
            self._cameras.see(moment)
        return [HostPlan(Plan(np.zeros((WAYPOINTS, 3), np.float32))) for _ in moments]


def run(load: Load = Load(), *, rounds: int = 5) -> dict[str, Any]:
    """Measures the loop alone, its metrics, and the loop with a camera.

    Args:
      load: what is simulated.
      rounds: repetitions that count; with cameras one.

    Returns:
      phases: "POLICY/N_scenes" and "metrics/N_scenes" -> `Times.row` and
      `simulated_seconds_per_second`; "camera/N_scenes" -> the same of one run. growth: phase ->
      how much longer the largest number of scenes takes than one 16 times smaller, where both are
      measured: 16 is no gain, 1 is free.
    """
    largest = max(load.counts)
    distinct = [
        procedural_scene(0, index, seconds=load.seconds)
        for index in range(min(load.distinct, largest))
    ]
    phases: dict[str, dict[str, Any]] = {}
    for count in load.counts:
        phases |= _loops(_repeated(distinct, count), load.policies, rounds)
    watched = [
        procedural_scene(0, index, seconds=load.camera_seconds)
        for index in range(min(load.distinct, max(load.camera_counts, default=0)))
    ]
    for count in load.camera_counts:
        phases[f"camera/{count}_scenes"] = _watched(_repeated(watched, count))
    return {"phases": phases, "growth": _growth(phases)}


def _repeated(scenes: Sequence[Scene], count: int) -> list[Scene]:
    """So many scenes; those that are repeated get another name."""
    made = []
    for i in range(count):
        scene = scenes[i % len(scenes)]
        made.append(dataclasses.replace(scene, name=f"{scene.name}-{i}"))
    return made


def _loops(scenes: Sequence[Scene], policies: Sequence[str], rounds: int) -> dict[str, dict]:
    count = len(scenes)
    arrays = jax.device_put(stack([scene.arrays for scene in scenes]))
    borders = jax.device_put(find_borders([scene.arrays for scene in scenes]))
    keys = jax.random.split(jax.random.key(0), count)

    def driving(name: str):
        return lambda: jax.block_until_ready(
            closed_loop.drive(arrays, None, keys, policy=POLICIES[name])
        )

    calls = {f"{name}/{count}_scenes": driving(name) for name in policies}
    driven = next(iter(calls.values()))()
    calls[f"metrics/{count}_scenes"] = lambda: jax.block_until_ready(
        measure(arrays, borders, driven)
    )
    simulated = TICK * float(np.sum([scene.arrays.num_ticks - 1 for scene in scenes]))
    return {
        name: times.row() | {"simulated_seconds_per_second": simulated / times.median}
        for name, times in alternate(calls, rounds).items()
    }


def _watched(scenes: Sequence[Scene]) -> dict[str, Any]:
    settings = LoopSettings()
    run_policy(scenes[:1], _Watching(), settings=settings)  # compiles the camera
    made = run_policy(scenes, _Watching(), settings=settings)
    planned = np.asarray(made.rollout.planned)
    frames, simulated = int(planned.sum()), TICK * float(planned.sum())
    return {
        "median": made.seconds,
        "spread": [made.seconds, made.seconds],
        "times": 1,
        "first": made.seconds,
        "frames": frames,
        "seconds_per_frame": made.seconds / frames,
        "simulated_seconds_per_second": simulated / made.seconds,
    }


def _growth(phases: dict[str, dict[str, Any]]) -> dict[str, float]:
    """How much longer 16 times as many scenes take, per kind of phase."""
    found = {}
    for name, row in phases.items():
        kind, _, count = name.partition("/")
        small = f"{kind}/{int(count.removesuffix('_scenes')) // 16}_scenes"
        if small in phases:
            found[f"{kind}: {small.split('/')[1]} to {count}"] = row["median"] / (
                phases[small]["median"]
            )
    return found
