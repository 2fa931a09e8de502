"""Small clips and clip folders for tests: any length, cameras and agents, no recording needed."""

import functools
import json
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from alpamayo_jax import clip as clip_lib
from alpamayo_jax.data.clip_writer import write_clip


def small_clip(
    seconds: float = 10.0,
    cameras: Sequence[str] = ("camera_front_wide_120fov",),
    num_agents: int = 0,
    with_map: bool = False,
    reasoning: Sequence[tuple[float, str]] = (),
    seed: int = 0,
    size: tuple[int, int] = (64, 48),
    frame_dt: float = 0.1,
    start: float = 0.0,
    clip_id: str = "small",
    ftheta: bool = False,
) -> clip_lib.Clip:
    """A smooth random drive with noise images.

    Args:
      seconds: length of the ego track and of the cameras.
      cameras: names; release names get the release's index, others the next free one.
      num_agents: boxes that drive beside the ego, at 10 Hz.
      with_map: three lines.
      reasoning: (t, text) labels.
      seed: of the drive and the images.
      size: (width, height) of the images.
      frame_dt: seconds between frames.
      start: first time on the clip's clock.
      clip_id: its name.
      ftheta: f-theta lenses instead of pinholes.
    """
    rng = np.random.default_rng(seed)
    t = start + clip_lib.GRID_DT * np.arange(round(seconds / clip_lib.GRID_DT) + 1)
    ego = _drive(rng, t)
    names = clip_lib.RELEASE_CAMERAS
    free = iter(i for i in range(100) if i >= len(names) or names[i] not in cameras)
    indices = {name: names.index(name) if name in names else next(free) for name in cameras}
    return clip_lib.Clip(
        clip_id=clip_id,
        ego=ego,
        cameras=tuple(
            _camera(name, indices[name], seed, size, start, seconds, frame_dt, ftheta)
            for name in sorted(cameras, key=indices.get)
        ),
        ground_z=-0.5,
        agents=_agents(rng, ego, num_agents) if num_agents else None,
        map_lines=_map(rng) if with_map else None,
        reasoning=tuple(clip_lib.ReasoningLabel(t=t, text=text) for t, text in reasoning),
    ).validate()


def write_small_clip(folder: str | Path, **options: Any) -> Path:
    """`small_clip(**options)` as a folder; its clip_id is the folder's name."""
    folder = Path(folder)
    return write_clip(folder, small_clip(**{"clip_id": folder.name} | options))


def edit_npz(path: str | Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Lets `change` edit the arrays of an npz file in place."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    change(arrays)
    np.savez(path, **arrays)


def edit_json(path: str | Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Lets `change` edit a JSON object in place."""
    path = Path(path)
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def _drive(rng: np.random.Generator, t: np.ndarray) -> clip_lib.EgoTrack:
    s = t - t[0]
    speed = 6.0 + rng.uniform(-2, 2) + 2.0 * np.sin(s * rng.uniform(0.2, 0.5) + rng.uniform(0, 6))
    yaw = rng.uniform(-3, 3) + 0.4 * np.sin(s * rng.uniform(0.1, 0.4))
    pitch = 0.03 * np.sin(0.3 * s)
    rotation = Rotation.from_euler("ZY", np.stack([yaw, pitch], -1))
    step = clip_lib.GRID_DT * speed[:, None] * rotation.apply([1.0, 0.0, 0.0])
    xyz = np.cumsum(step, 0) + rng.uniform(-50, 50, 3)
    return clip_lib.EgoTrack(t=t, xyz=xyz, quat_wxyz=rotation.as_quat(scalar_first=True))


def _camera(name, index, seed, size, start, seconds, frame_dt, ftheta) -> clip_lib.Camera:
    width, height = size
    cx, cy = (width - 1) / 2, (height - 1) / 2
    mounting = clip_lib.EGO_FROM_FORWARD_CAMERA.copy()
    turn = Rotation.from_euler("z", 30.0 * index, degrees=True).as_matrix()
    mounting[:3, :3] = turn @ mounting[:3, :3]
    mounting[:3, 3] = (1.5, 0.1 * index, 1.2)
    lens = clip_lib.Pinhole(fx=0.8 * width, fy=0.8 * width, cx=cx, cy=cy)
    if ftheta:
        poly = (0.0, 0.5 * width, 0.0, -0.01 * width, 0.0)
        lens = clip_lib.FTheta(cx=cx, cy=cy, forward_poly=poly, max_angle=1.2)
    times = start + frame_dt * np.arange(int(seconds / frame_dt + 1e-6) + 1)
    read = functools.partial(_image, seed, index, size)
    return clip_lib.Camera(name, index, width, height, lens, mounting, times, read)


def _image(seed: int, camera: int, size: tuple[int, int], frame: int) -> np.ndarray:
    """Blocks of random colour: they survive JPEG, and no two frames are alike."""
    width, height = size
    blocks = np.random.default_rng((seed, camera, frame)).integers(
        0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8
    )
    return np.ascontiguousarray(blocks.repeat(8, 0).repeat(8, 1)[:height, :width])


def _agents(rng: np.random.Generator, ego: clip_lib.EgoTrack, count: int) -> clip_lib.AgentTable:
    n = len(ego.t)
    offset = rng.uniform(-20, 20, (count, 1, 3)) * (1, 1, 0)
    return clip_lib.AgentTable(
        t=np.tile(ego.t, count),
        track=np.repeat(np.arange(count, dtype=np.int32), n),
        xyz=(ego.xyz[None] + offset).reshape(-1, 3),
        yaw=rng.uniform(-3, 3, count * n),
        lwh=np.tile([4.5, 1.9, 1.6], (count * n, 1)),
        category=np.repeat(np.array(["REGULAR_VEHICLE", "PEDESTRIAN"])[np.arange(count) % 2], n),
    )


def _map(rng: np.random.Generator) -> clip_lib.MapLines:
    return clip_lib.MapLines(
        points=rng.uniform(-100, 100, (9, 3)),
        offsets=np.array([0, 4, 4, 9], np.int64),
        kind=np.array(["lane_left:SOLID_WHITE", "drivable_area", "crossing"]),
        ids=np.array(["a", "b", "c"]),
    )
