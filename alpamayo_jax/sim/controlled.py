"""Short drives whose right decision is known, and whose labels are wrong in a controlled share.

Every clip is one window of 8 s: the picture at t0 shows one cause, the cause asks for one decision,
and the decision for one manoeuvre. A driver of this source first says why he acts and then does
what he said: which manoeuvre is driven depends on the picture only through the reasoning. Two knobs
spoil that, independently of each other: in a share of clips the reasoning names another cause, and
in a share of clips another manoeuvre is driven than the one that was said. A policy that imitates
such clips says and does the wrong thing in known shares; reinforcement learning has to find out
what is right. World frame: the ego frame at t0; metres, seconds, radians.
"""

import dataclasses

import numpy as np

from alpamayo_jax.clip import GRID_DT, AgentTable, Camera, Clip, EgoTrack, Event, ReasoningLabel
from alpamayo_jax.coc.schema import CocLabel
from alpamayo_jax.config import ConfigError
from alpamayo_jax.sim import camera
from alpamayo_jax.sim.controlled_moments import (
    DECISIONS,
    FRONT,
    T0,
    Moment,
    boxes,
    draw,
    drive,
    label_of,
)
from alpamayo_jax.sim.controlled_picture import LENS, Box, PictureReader

_STEPS = 81


def clip_of(
    moment: Moment, clip_id: str, rig: tuple[camera.CameraSpec, ...] = (LENS,)
) -> Clip:
    """Describes a drawn moment as a `Clip` with the cameras of `rig`."""
    clock = GRID_DT * np.arange(_STEPS)
    poses = drive(moment.driven, moment.speed, clock - T0)
    found = boxes(moment, clock - T0)
    light = moment.cause.value.removesuffix("_light")
    light = light if light in ("red", "green") else None
    line = moment.distance + FRONT + 1.0
    events = () if light is None else (Event(0.0, "traffic_light", light, (line, 0.0, 0.0)),)
    cameras = tuple(
        Camera(
            name=spec.name,
            index=spec.index,
            width=PictureReader.size[0],
            height=PictureReader.size[1],
            intrinsics=camera.intrinsics(spec, *PictureReader.size),
            ego_from_camera=camera.extrinsics(spec),
            times=clock,
            read=PictureReader(poses, found, light, line, moment.look, spec),
        )
        for spec in rig
    )
    return Clip(
        clip_id=clip_id,
        ego=EgoTrack.on_plane(clock, poses),
        cameras=cameras,
        agents=_agents(found, clock),
        reasoning=(ReasoningLabel(0.0, DECISIONS[moment.said].trace),),
        events=events,
    ).validate()


def _agents(found: list[Box], clock: np.ndarray) -> AgentTable:
    """Rows in order of time, then track."""
    count, steps = len(found), len(clock)

    def column(values: list[np.ndarray], *shape: int) -> np.ndarray:
        return np.stack(values, 1).reshape(-1, *shape) if values else np.zeros((0, *shape))

    return AgentTable(
        t=np.repeat(clock, count),
        track=np.tile(np.arange(count, dtype=np.int32), steps),
        xyz=column([np.stack([b.x, b.y, 0 * b.x + b.lwh[2] / 2], -1) for b in found], 3),
        yaw=column([b.yaw for b in found]),
        lwh=column([np.tile(b.lwh, (steps, 1)) for b in found], 3),
        category=np.tile(np.array([b.category for b in found], str), steps),
    )


@dataclasses.dataclass(frozen=True)
class ControlledSource:
    """A list of drives with one known right decision each.

    Attributes:
      num_clips: how many.
      seed: of the whole source; other seeds give other clips.
      wrong_reasoning: see `draw`.
      wrong_trajectory: see `draw`.
      num_clean: so many clips more, the last ones, are right in both.
      cameras: of all clips. What asks for the decision is far ahead; a wide camera hardly shows it.
    """

    num_clips: int
    seed: int
    wrong_reasoning: float = 0.0
    wrong_trajectory: float = 0.0
    num_clean: int = 0
    cameras: tuple[camera.CameraSpec, ...] = (LENS,)

    def __post_init__(self):
        if self.num_clips < 1 or self.num_clean < 0:
            raise ConfigError(
                f"a controlled source needs num_clips >= 1 and num_clean >= 0, got "
                f"{self.num_clips} and {self.num_clean}"
            )
        for name in ("wrong_reasoning", "wrong_trajectory"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} is a share from 0 to 1, got {getattr(self, name)}")

    def __len__(self) -> int:
        return self.num_clips + self.num_clean

    def moment(self, index: int) -> Moment:
        """What clip `index` was made of; raises `IndexError` outside the source."""
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} is not in a source of {len(self)} clips")
        clean = index >= self.num_clips
        shares = (0.0, 0.0) if clean else (self.wrong_reasoning, self.wrong_trajectory)
        return draw(self.seed, index, *shares)

    def clip_name(self, index: int) -> str:
        """What clip `index` is called."""
        return f"controlled-{self.seed}-{index:05d}-{self.moment(index).cause}"

    def clip(self, index: int) -> Clip:
        """Clip `index`; raises `IndexError` outside the source."""
        return clip_of(self.moment(index), self.clip_name(index), self.cameras)

    def label(self, index: int, t0: float = T0) -> CocLabel:
        """The right label of clip `index`, also where the clip itself is wrong."""
        del t0  # a clip has one window
        return label_of(self.moment(index), self.clip_name(index))
