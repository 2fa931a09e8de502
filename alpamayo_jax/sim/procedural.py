"""Scenes of the closed loop from the procedural world."""

import dataclasses

import numpy as np

from alpamayo_jax.sim import camera, labels
from alpamayo_jax.sim.recorded import scene_from_clip
from alpamayo_jax.sim.scenarios import Run
from alpamayo_jax.sim.scenes import AgentKind, Scene, SceneArrays, check_arrays
from alpamayo_jax.sim.source import IMAGE_SIZE, clip_of, procedural_run
from alpamayo_jax.sim.world import Kind

_KINDS = {Kind.PEDESTRIAN: AgentKind.PEDESTRIAN, Kind.CYCLIST: AgentKind.CYCLIST}


def procedural_scene(
    seed: int,
    index: int = 0,
    *,
    seconds: float = 20.0,
    family: str | None = None,
    cameras: tuple[camera.CameraSpec, ...] = (camera.FRONT,),
    image_size: tuple[int, int] = IMAGE_SIZE,
) -> Scene:
    """Draws and plays one scenario, as a scene.

    Args:
      seed, index, seconds, family, cameras, image_size: as in `source.procedural_clip`.

    Returns:
      A scene with its class, cause and label; its `world` is the played scenario, and its agents
      are the world's actors in their order. Without a label it ends before the
      moment.

    Raises:
      ConfigError: an argument out of range.
    """
    run, clip_id = procedural_run(seed, index, seconds=seconds, family=family)
    scene = scene_from_clip(clip_of(run, clip_id, cameras, image_size), family=run.scenario.family)
    return dataclasses.replace(
        scene,
        arrays=_with_actors(scene.arrays, run, scene.origin),
        scenario=run.scenario.scenario_class,
        cause=run.scenario.cause,
        label=labels.label_of(run, clip_id, labels.explanations(run)),
        world=run,
    )


def _with_actors(arrays: SceneArrays, run: Run, origin: np.ndarray) -> SceneArrays:
    """All actors of the world as agents, also those that a recording would leave out."""
    motions, actors = run.motions, run.world.actors
    ticks = len(arrays.ego_pose)
    shift = np.array([*origin, 0.0])
    pose = np.zeros((len(motions), ticks, 3), np.float32)
    present = np.zeros((len(motions), ticks), bool)
    for row, there, motion in zip(pose, present, motions):
        row[:] = motion.pose - shift
        there[:] = motion.present
    kinds = [
        _KINDS.get(actor.kind, AgentKind.VEHICLE if actor.kind.vehicle else AgentKind.OBJECT)
        for actor in actors
    ]
    return check_arrays(
        dataclasses.replace(
            arrays,
            agent_pose=pose,
            agent_present=present,
            agent_size=np.array([a.lwh for a in actors], np.float32).reshape(-1, 3),
            agent_kind=np.array(kinds, np.int32),
            agent_solid=np.ones(len(actors), bool),
            speed_limit=np.float32(run.scenario.style.set_speed),
        ),
        f"scene of {run.scenario.family}",
    )
