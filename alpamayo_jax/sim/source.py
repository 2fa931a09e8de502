"""Procedural clips: an endless, seeded source of drives with rendered cameras and reasoning.

The same (seed, index) gives the same arrays in every process. Frames are rendered when they are
read; nothing is stored unless asked for.
"""

import dataclasses
import functools

import numpy as np

from alpamayo_jax.clip import AgentTable, Camera, Clip, EgoTrack, Event
from alpamayo_jax.config import ConfigError
from alpamayo_jax.sim import camera, scenario
from alpamayo_jax.sim.reasoning import reasoning_labels
from alpamayo_jax.sim.road import map_lines
from alpamayo_jax.sim.scene import World, make_world, render, vehicle_states
from alpamayo_jax.types import InputError

IMAGE_SIZE = (320, 192)  # width, height


class FrameRenderer:
    """Reads the frames of one camera of one run; the world is built at the first frame."""

    def __init__(
        self, spec: camera.CameraSpec, size: tuple[int, int], world: "SharedWorld", cache: bool
    ):
        self._spec, self._size, self._world, self._cache = spec, size, world, cache
        self._frames: dict[int, np.ndarray] = {}

    @functools.cached_property
    def view(self) -> camera.View:
        """The tabulated camera."""
        return _view(self._spec, *self._size)

    def __call__(self, frame: int) -> np.ndarray:
        """uint8 [height, width, 3]; raises `InputError` for a frame outside the clip."""
        run = self._world.run
        if not 0 <= frame < run.scenario.num_steps:
            raise InputError(
                f"camera {self._spec.name!r} has frames 0 to {run.scenario.num_steps - 1}, "
                f"asked for {frame}"
            )
        if frame in self._frames:
            return self._frames[frame].copy()
        image = render(self.view, self._world.world, run, frame)
        if self._cache:
            self._frames[frame] = image.copy()
        return image


class SharedWorld:
    """A played scenario, and its world, built once for all cameras."""

    def __init__(self, run: scenario.Run):
        self.run = run

    @functools.cached_property
    def world(self) -> World:
        """What does not move."""
        return make_world(self.run)


@functools.lru_cache(maxsize=32)
def _view(spec: camera.CameraSpec, width: int, height: int) -> camera.View:
    return camera.make_view(spec, width, height)


def procedural_clip(
    seed: int,
    index: int = 0,
    *,
    seconds: float = 20.0,
    family: str | None = None,
    cameras: tuple[camera.CameraSpec, ...] = (camera.FRONT,),
    image_size: tuple[int, int] = IMAGE_SIZE,
    cache: bool = False,
) -> Clip:
    """Draws and plays one scenario.

    Args:
      seed, index: what the clip depends on.
      seconds: length.
      family: key of `scenario.FAMILIES`, or None for a balanced choice.
      cameras: the rig; may be empty.
      image_size: width and height in pixels, of every camera.
      cache: keep rendered frames in memory.

    Returns:
      A valid `Clip`: poses and frames at 10 Hz on the same times, agents, map, reasoning traces.

    Raises:
      ConfigError: an argument out of range.
    """
    drawn = scenario.sample_scenario(seed, index, seconds, family)
    clip_id = f"procedural-{seed}-{index:05d}-{drawn.family}"
    return clip_of(scenario.run(drawn), clip_id, cameras, image_size, cache)


def clip_of(
    run: scenario.Run,
    clip_id: str,
    cameras: tuple[camera.CameraSpec, ...] = (camera.FRONT,),
    image_size: tuple[int, int] = IMAGE_SIZE,
    cache: bool = False,
) -> Clip:
    """Describes a played scenario as a `Clip`; arguments as in `procedural_clip`."""
    drive, world = run.drive, SharedWorld(run)
    zero = np.zeros_like(drive.t)
    half = drive.heading / 2
    ego = EgoTrack(
        t=drive.t,
        xyz=np.stack([drive.x, drive.y, zero], -1),
        quat_wxyz=np.stack([np.cos(half), zero, zero, np.sin(half)], -1),
    )
    width, height = image_size
    views = tuple(
        Camera(
            name=spec.name,
            index=spec.index,
            width=width,
            height=height,
            intrinsics=camera.intrinsics(spec, width, height),
            ego_from_camera=camera.extrinsics(spec),
            times=drive.t,
            read=FrameRenderer(spec, image_size, world, cache),
        )
        for spec in sorted(cameras, key=lambda spec: spec.index)
    )
    signal = run.scenario.signal
    return Clip(
        clip_id=clip_id,
        ego=ego,
        cameras=views,
        ground_z=0.0,
        agents=_agents(run),
        map_lines=map_lines(run.scenario.road, signal.s if signal else None),
        reasoning=reasoning_labels(run),
        events=_events(run),
    ).validate()


def _events(run: scenario.Run) -> tuple[Event, ...]:
    """What the traffic light shows, from the start and at every change; it stands at its line."""
    signal, times = run.scenario.signal, run.drive.t
    if signal is None:
        return ()
    changes = {float(times[0])} | {t for t, _ in signal.phases if times[0] < t <= times[-1]}
    line, _, _ = run.scenario.road.pose(signal.s)
    place = (float(line[0]), float(line[1]), 0.0)
    return tuple(Event(t, "traffic_light", signal.colour(t), place) for t in sorted(changes))


def _agents(run: scenario.Run) -> AgentTable:
    """Rows in order of time, then track; a track has no rows while it is off the road."""
    t, track, yaw = ([np.zeros(0)] for _ in range(3))
    xyz, lwh = [np.zeros((0, 3))], [np.zeros((0, 3))]
    for number, (actor, _, xy, heading, present) in enumerate(vehicle_states(run)):
        count = int(present.sum())
        t.append(run.drive.t[present])
        track.append(np.full(count, number))
        xyz.append(np.pad(xy[present], ((0, 0), (0, 1)), constant_values=actor.lwh[2] / 2))
        yaw.append(heading[present])
        lwh.append(np.tile(actor.lwh, (count, 1)))
    times = np.concatenate(t)
    order = np.argsort(times, kind="stable")
    return AgentTable(
        t=times[order],
        track=np.concatenate(track)[order].astype(np.int32),
        xyz=np.concatenate(xyz)[order],
        yaw=np.concatenate(yaw)[order],
        lwh=np.concatenate(lwh)[order],
        category=np.full(len(times), "VEHICLE"),
    )


@dataclasses.dataclass(frozen=True)
class ProceduralSource:
    """A list of procedural clips.

    Attributes:
      num_clips: how many.
      seed: of the whole source; other seeds give other clips.
      seconds, cameras, image_size, cache: as in `procedural_clip`.
      family: only this family, or None for all in equal shares.
    """

    num_clips: int
    seed: int
    seconds: float = 20.0
    cameras: tuple[camera.CameraSpec, ...] = (camera.FRONT,)
    image_size: tuple[int, int] = IMAGE_SIZE
    cache: bool = False
    family: str | None = None

    def __post_init__(self):
        if self.num_clips < 1:
            raise ConfigError(f"a procedural source needs num_clips >= 1, got {self.num_clips}")

    def __len__(self) -> int:
        return self.num_clips

    def clip(self, index: int) -> Clip:
        """Clip `index`; raises `IndexError` outside the source."""
        if not 0 <= index < self.num_clips:
            raise IndexError(f"clip {index} is not in a source of {self.num_clips} clips")
        return procedural_clip(
            self.seed,
            index,
            seconds=self.seconds,
            family=self.family,
            cameras=self.cameras,
            image_size=self.image_size,
            cache=self.cache,
        )
