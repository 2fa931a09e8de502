"""Procedural clips: an endless, seeded source of drives with rendered cameras and reasoning.

The same (seed, index) gives the same arrays in every process. Frames are rendered when they are
read; nothing is stored unless asked for.
"""

import collections
import dataclasses
import functools
import threading

import numpy as np

from alpamayo_jax.clip import AgentTable, Camera, Clip, EgoTrack, Event
from alpamayo_jax.config import ConfigError
from alpamayo_jax.sim import camera, labels, scenarios
from alpamayo_jax.sim.mapping import map_lines
from alpamayo_jax.sim.renderer import Rig, Stage
from alpamayo_jax.types import InputError

IMAGE_SIZE = (320, 192)  # width, height
_KEPT_STEPS = 5  # of a rig of several cameras, which are drawn together


class RigFrames:
    """The frames of all cameras of one run; the world is made ready at the first.

    Every camera of a rig is drawn at once, and the last few steps are kept for the others.
    """

    def __init__(
        self,
        run: scenarios.Run,
        specs: tuple[camera.CameraSpec, ...],
        size: tuple[int, int],
        cache: bool,
    ):
        self._run, self._specs, self._size, self._cache = run, specs, size, cache
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._stage: Stage | None = None
        self._frames: collections.OrderedDict[int, np.ndarray] = collections.OrderedDict()

    @property
    def count(self) -> int:
        """How many frames there are."""
        return self._run.scenario.num_steps

    def read(self, number: int, step: int) -> np.ndarray:
        """uint8 [height, width, 3] of camera `number` at a step."""
        with self._lock:
            images = self._frames.get(step)
            if images is None:
                if self._stage is None:
                    self._stage = Stage(self._run.world, self._run.motions)
                rig = _rig(self._specs, *self._size)
                images = self._stage.render(rig, step, self._run.drive.pose[step])
                keep = self.count if self._cache else _KEPT_STEPS if len(self._specs) > 1 else 0
                self._frames[step] = images
                while len(self._frames) > keep:
                    self._frames.popitem(last=False)
        return images[number].copy()

    def __getstate__(self):
        kept = ("_run", "_specs", "_size", "_cache")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._begin()


@dataclasses.dataclass(frozen=True)
class FrameReader:
    """Reads the frames of camera `number` of a rig, which is called `name`."""

    frames: RigFrames
    number: int
    name: str

    def __call__(self, frame: int) -> np.ndarray:
        """uint8 [height, width, 3]; raises `InputError` for a frame outside the clip."""
        if not 0 <= frame < self.frames.count:
            raise InputError(
                f"camera {self.name!r} has frames 0 to {self.frames.count - 1}, asked for {frame}"
            )
        return self.frames.read(self.number, frame)


@functools.lru_cache(maxsize=8)
def _rig(specs: tuple[camera.CameraSpec, ...], width: int, height: int) -> Rig:
    return Rig(tuple(camera.make_view(spec, width, height) for spec in specs))


def procedural_run(
    seed: int, index: int = 0, *, seconds: float = 20.0, family: str | None = None
) -> tuple[scenarios.Run, str]:
    """(the played scenario, the id of its clip); arguments and errors as in `procedural_clip`."""
    drawn = scenarios.sample_scenario(seed, index, seconds, family)
    return scenarios.play(drawn), f"procedural-{seed}-{index:05d}-{drawn.family}"


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
      family: key of `scenarios.FAMILIES`, or None for a balanced choice.
      cameras: the rig; may be empty.
      image_size: width and height in pixels, of every camera.
      cache: keep rendered frames in memory.

    Returns:
      A valid `Clip`: poses and frames at 10 Hz on the same times, agents, map, reasoning traces.

    Raises:
      ConfigError: an argument out of range.
    """
    run, clip_id = procedural_run(seed, index, seconds=seconds, family=family)
    return clip_of(run, clip_id, cameras, image_size, cache)


def clip_of(
    run: scenarios.Run,
    clip_id: str,
    cameras: tuple[camera.CameraSpec, ...] = (camera.FRONT,),
    image_size: tuple[int, int] = IMAGE_SIZE,
    cache: bool = False,
) -> Clip:
    """Describes a played scenario as a `Clip`; arguments as in `procedural_clip`."""
    drive = run.drive
    ego = EgoTrack.on_plane(drive.t, np.stack([drive.x, drive.y, drive.heading], -1))
    width, height = image_size
    specs = tuple(sorted(cameras, key=lambda spec: spec.index))
    frames = RigFrames(run, specs, image_size, cache)
    views = tuple(
        Camera(
            name=spec.name,
            index=spec.index,
            width=width,
            height=height,
            intrinsics=camera.intrinsics(spec, width, height),
            ego_from_camera=camera.extrinsics(spec),
            times=drive.t,
            read=FrameReader(frames, number, spec.name),
        )
        for number, spec in enumerate(specs)
    )
    return Clip(
        clip_id=clip_id,
        ego=ego,
        cameras=views,
        ground_z=0.0,
        agents=_agents(run),
        map_lines=map_lines(run.world.layout),
        reasoning=labels.reasoning_labels(labels.explanations(run)),
        events=_events(run),
    ).validate()


def _events(run: scenarios.Run) -> tuple[Event, ...]:
    """What the traffic light shows, from the start and at every change; it stands at its line."""
    signal, times = run.world.signal, run.drive.t
    if signal is None:
        return ()
    changes = {float(times[0])} | {t for t, _ in signal.phases if times[0] < t <= times[-1]}
    x, y, _ = run.world.layout.route.place(signal.s)
    return tuple(
        Event(t, "traffic_light", signal.colour(t), (x, y, 0.0)) for t in sorted(changes)
    )


def _agents(run: scenarios.Run) -> AgentTable:
    """Rows in order of time, then track; a track has no rows while it is off its path."""
    t, track, yaw = ([np.zeros(0)] for _ in range(3))
    xyz, lwh, category = [np.zeros((0, 3))], [np.zeros((0, 3))], [np.zeros(0, "U1")]
    for number, (actor, motion) in enumerate(zip(run.world.actors, run.motions)):
        here = motion.present
        count = int(here.sum())
        t.append(run.drive.t[here])
        track.append(np.full(count, number))
        middle = actor.lwh[2] / 2
        xyz.append(np.pad(motion.xy[here], ((0, 0), (0, 1)), constant_values=middle))
        yaw.append(motion.yaw[here])
        lwh.append(np.tile(actor.lwh, (count, 1)))
        category.append(np.full(count, actor.kind.value))
    times = np.concatenate(t)
    order = np.argsort(times, kind="stable")
    return AgentTable(
        t=times[order],
        track=np.concatenate(track)[order].astype(np.int32),
        xyz=np.concatenate(xyz)[order],
        yaw=np.concatenate(yaw)[order],
        lwh=np.concatenate(lwh)[order],
        category=np.concatenate(category)[order],
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
