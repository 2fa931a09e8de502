"""A rollout as a recording for the Rerun viewer (extra `viz`)."""

import os
import pathlib
from typing import Any

import numpy as np

from alpamayo_jax import files
from alpamayo_jax.closed_loop.cameras import SceneCameras
from alpamayo_jax.closed_loop.pictures import reasoning_at
from alpamayo_jax.closed_loop.runner import Run
from alpamayo_jax.closed_loop.summary import ending
from alpamayo_jax.ops.boxes import centre_pose
from alpamayo_jax.sim.scenes import TICK, AgentKind, SceneArrays
from alpamayo_jax.types import InputError

_CURVES = ("min_distance_to_obstacle_m", "dist_to_gt_trajectory", "progress", "plan_deviation")
_COLORS = {"lanes": (170, 175, 182), "edges": (110, 115, 122), "recorded": (13, 158, 82),
           "plan": (230, 97, 0), "samples": (250, 205, 155)}  # fmt: skip


def write_rerun(
    path: str | os.PathLike, run: Run, scene: int, rollout: int, cameras: SceneCameras | None = None
) -> pathlib.Path:
    """Writes one rollout: map, boxes, plans, camera, reasoning and metrics on one time line.

    Args:
      path: an .rrd file; it is whole or not there.
      run: what happened.
      scene, rollout: which.
      cameras: draw what they see, where the scene can be drawn.

    Raises:
      InputError: the package is missing.
    """
    try:
        import rerun as rr
    except ImportError:
        raise InputError("recordings need Rerun: pip install 'alpamayo_jax[viz]'") from None
    with files.replacing(path) as partial:
        one = run.scenes[scene]
        stream = rr.RecordingStream("alpamayo_jax", recording_id=f"{one.name}-{rollout}")
        stream.save(partial)
        _static(rr, stream, one.arrays)
        for tick in range(int(run.rollout.num_ticks[scene, rollout])):
            stream.set_time("time", duration=tick * TICK)
            _tick(rr, stream, run, scene, rollout, tick)
            if cameras is not None and one.world is not None:
                pose = run.rollout.ego_pose[scene, rollout, tick]
                agents = run.rollout.agent_pose[scene, rollout, :, tick]
                for spec, image in zip(cameras.specs, cameras.draw(one, tick, pose, agents)):
                    stream.log(f"camera/{spec.name}", rr.Image(image).compress(jpeg_quality=80))
        stream.flush()
        stream.disconnect()
    return pathlib.Path(path)


def _static(rr: Any, stream: Any, arrays: SceneArrays) -> None:
    ticks = int(arrays.num_ticks)
    for name, lines in (
        ("map/lanes", arrays.lane_centre[arrays.lane_valid]),
        ("map/edges", arrays.road_edge[arrays.road_edge_valid]),
        ("map/recorded", arrays.ego_pose[None, :ticks, :2]),
    ):
        color = _COLORS[name.removeprefix("map/")]
        strips = [_raised(line) for line in lines]
        stream.log(name, rr.LineStrips3D(strips, colors=[color] * len(strips)), static=True)


def _tick(rr: Any, stream: Any, run: Run, scene: int, rollout: int, tick: int) -> None:
    rolled, arrays = run.rollout, run.scenes[scene].arrays
    length, width, height, offset = arrays.ego_box
    ego = rolled.ego_pose[scene, rollout, tick]
    centre = np.asarray(centre_pose(ego, offset, length))
    _boxes(rr, stream, "ego", centre[None], np.array([[length, width, height]]), ["ego"])
    there = np.flatnonzero(rolled.agent_present[scene, rollout, :, tick][: len(arrays.agent_size)])
    kinds = [AgentKind(int(kind)).name.lower() for kind in arrays.agent_kind[there]]
    agents = rolled.agent_pose[scene, rollout, there, tick]
    _boxes(rr, stream, "agents", agents, arrays.agent_size[there], kinds)
    if rolled.planned[scene, rollout, tick]:
        plan = rolled.plan[scene, rollout, tick, :, :2]
        stream.log("plan", rr.LineStrips3D([_raised(plan, 0.3)], colors=[_COLORS["plan"]]))
        if rolled.samples is not None:
            drawn = [_raised(sample, 0.2) for sample in rolled.samples[scene, rollout, tick]]
            stream.log("samples", rr.LineStrips3D(drawn, colors=[_COLORS["samples"]] * len(drawn)))
    stream.log("speed", rr.Scalars(float(rolled.ego_speed[scene, rollout, tick])))
    for name in _CURVES:
        value = float(run.steps[name][scene, rollout, tick])
        if np.isfinite(value):
            stream.log(f"metrics/{name}", rr.Scalars(value))
    before = reasoning_at(run, scene, rollout, tick - 1)
    text = reasoning_at(run, scene, rollout, tick)
    if text != before:
        stream.log("reasoning", rr.TextLog(text))
    end = ending(run, scene, rollout)
    if tick == end.tick:
        stream.log("ending", rr.TextLog(end.words))


def _boxes(
    rr: Any, stream: Any, name: str, poses: np.ndarray, sizes: np.ndarray, labels: list[str]
) -> None:
    zero = np.zeros(len(poses))
    half = poses[:, 2] / 2
    stream.log(
        name,
        rr.Boxes3D(
            centers=np.stack([poses[:, 0], poses[:, 1], sizes[:, 2] / 2], -1),
            half_sizes=sizes / 2,
            quaternions=np.stack([zero, zero, np.sin(half), np.cos(half)], -1),
            labels=labels,
        ),
    )


def _raised(points: np.ndarray, z: float = 0.0) -> np.ndarray:
    return np.concatenate([points, np.full((len(points), 1), z)], axis=-1)
