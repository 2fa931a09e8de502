"""One description of a drive, recorded or simulated.

Frames: the world frame is any fixed right-handed frame with z up, in metres; the ego frame is
x forward, y left, z up; a camera frame is x right, y down, z forward. Quaternions are (w, x, y, z).
All times are seconds on the clip's own clock.
"""

import dataclasses
from typing import Callable

import numpy as np

from alpamayo_jax.types import InputError

GRID_DT = 0.1  # seconds between poses of the 10 Hz grid
GRID_TOLERANCE = 1e-3  # seconds a step of the grid may be off
UNIT_TOLERANCE = 1e-3  # how far a quaternion or a rotation may be from a rotation

# The cameras of the released models; the position in the tuple is `Camera.index`.
RELEASE_CAMERAS = (
    "camera_cross_left_120fov",
    "camera_front_wide_120fov",
    "camera_cross_right_120fov",
    "camera_rear_left_70fov",
    "camera_rear_tele_30fov",
    "camera_rear_right_70fov",
    "camera_front_tele_30fov",
)
FRONT_WIDE = 1

# A camera at the ego origin that looks along ego x: its x, y, z are ego -y, -z, x.
EGO_FROM_FORWARD_CAMERA = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
EGO_FROM_FORWARD_CAMERA.setflags(write=False)


@dataclasses.dataclass(frozen=True)
class Pinhole:
    """Pinhole intrinsics in pixels."""

    fx: float
    fy: float
    cx: float
    cy: float


@dataclasses.dataclass(frozen=True)
class FTheta:
    """F-theta intrinsics: image radius in pixels = sum_i forward_poly[i] * angle**i.

    The angle is measured from the optical axis in radians; beyond `max_angle` nothing is seen.
    """

    cx: float
    cy: float
    forward_poly: tuple[float, ...]
    max_angle: float


@dataclasses.dataclass(frozen=True)
class Camera:
    """One camera and its frames.

    Attributes:
      name: name in the source.
      index: index in the release's camera map (1 is front wide).
      width: pixels.
      height: pixels.
      intrinsics: pinhole or f-theta.
      ego_from_camera: float64 [4, 4].
      times: float64 [F], strictly rising.
      read: frame number -> uint8 [height, width, 3]; raises `InputError` for an unreadable frame.
    """

    name: str
    index: int
    width: int
    height: int
    intrinsics: Pinhole | FTheta
    ego_from_camera: np.ndarray
    times: np.ndarray
    read: Callable[[int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class EgoTrack:
    """Ego poses on a uniform 10 Hz grid.

    Attributes:
      t: float64 [N], steps of 0.1 s.
      xyz: float64 [N, 3], world.
      quat_wxyz: float64 [N, 4], unit, world from ego.
    """

    t: np.ndarray
    xyz: np.ndarray
    quat_wxyz: np.ndarray

    @classmethod
    def on_plane(cls, t: np.ndarray, poses: np.ndarray) -> "EgoTrack":
        """Of x, y, heading [N, 3] at z = 0."""
        half, zero = poses[:, 2] / 2, np.zeros(len(t))
        return cls(
            t=t,
            xyz=np.stack([poses[:, 0], poses[:, 1], zero], -1),
            quat_wxyz=np.stack([np.cos(half), zero, zero, np.sin(half)], -1),
        )


@dataclasses.dataclass(frozen=True)
class AgentTable:
    """Boxes of other road users, one row per (time, track).

    Attributes:
      t: float64 [R]; track: int32 [R]; xyz: float64 [R, 3] box centre, world; yaw: float64 [R];
      lwh: float64 [R, 3] length, width, height; category: str [R].
    """

    t: np.ndarray
    track: np.ndarray
    xyz: np.ndarray
    yaw: np.ndarray
    lwh: np.ndarray
    category: np.ndarray


@dataclasses.dataclass(frozen=True)
class MapLines:
    """Polylines of the map: line i is points[offsets[i]:offsets[i + 1]] of kind[i].

    Attributes:
      points: float64 [P, 3], world; offsets: int64 [M + 1]; kind: str [M]; ids: str [M], the
        source's names of the lines, or None.
    """

    points: np.ndarray
    offsets: np.ndarray
    kind: np.ndarray
    ids: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class ReasoningLabel:
    """A reasoning trace that explains the ego's behaviour from time `t` on."""

    t: float
    text: str


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened at a time and that is no pose, box or line.

    Attributes:
      t: seconds; a state holds from then until the next event of its kind and place.
      kind: what, for example "traffic_light", "turn_signal" or "keyframe".
      value: its state, for example "red", "left" or "on"; "" where there is none.
      xyz: where, world; None where it has no place.
    """

    t: float
    kind: str
    value: str = ""
    xyz: tuple[float, float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Clip:
    """A drive.

    Attributes:
      clip_id: unique within its source.
      ego: poses at 10 Hz.
      cameras: ordered by `Camera.index`; empty for a pose-only drive.
      ground_z: height of the road below the ego origin, metres in the ego frame (0 or negative).
      agents: other road users, or None where not annotated.
      map_lines: the map, or None.
      reasoning: traces in order of time; empty where there are none.
      events: in order of time, several may share one; empty where there are none.
    """

    clip_id: str
    ego: EgoTrack
    cameras: tuple[Camera, ...] = ()
    ground_z: float = 0.0
    agents: AgentTable | None = None
    map_lines: MapLines | None = None
    reasoning: tuple[ReasoningLabel, ...] = ()
    events: tuple[Event, ...] = ()

    def camera(self, index: int) -> Camera:
        """The camera of that index in the release's map.

        Raises:
          InputError: the clip has no such camera; lists those it has.
        """
        for camera in self.cameras:
            if camera.index == index:
                return camera
        have = ", ".join(f"{c.index} ({c.name})" for c in self.cameras) or "none"
        raise InputError(f"clip {self.clip_id!r}: no camera has index {index}; it has {have}")

    def validate(self) -> "Clip":
        """Checks shapes, clocks and numbers; returns self.

        Raises:
          InputError: names the clip and the field.
        """
        ego, where = self.ego, f"clip {self.clip_id!r}"
        check_track(where, ("ego.t", "ego.xyz", "ego.quat_wxyz"), ego.t, ego.xyz, ego.quat_wxyz)
        check_grid(where, "ego.t", ego.t)
        if not (np.isfinite(self.ground_z) and self.ground_z <= 0):
            raise InputError(
                f"{where}: ground_z is {self.ground_z}, not a height at or below the ego origin"
            )
        indices = [camera.index for camera in self.cameras]
        if indices != sorted(set(indices)) or (indices and indices[0] < 0):
            raise InputError(
                f"{where}: camera indices must rise from 0 without repeats, got {indices}"
            )
        for camera in self.cameras:
            place = f"{where}: camera {camera.name!r}"
            check_rising(place, "times", camera.times)
            check_transform(place, "ego_from_camera", camera.ego_from_camera)
        if self.agents is not None:
            check_agents(f"{where}: agents", self.agents)
        if self.map_lines is not None:
            check_map_lines(f"{where}: map_lines", self.map_lines)
        times = [label.t for label in self.reasoning]
        if not np.isfinite(times).all() or times != sorted(set(times)):
            raise InputError(f"{where}: times of reasoning must rise without repeats, got {times}")
        check_events(f"{where}: events", self.events)
        return self


def check_finite(where: str, name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises `InputError` unless `value` has that shape and finite numbers only."""
    if value.shape != shape:
        raise InputError(f"{where}: {name} must be {list(shape)}, got {list(value.shape)}")
    bad = ~np.isfinite(value)
    if bad.any():
        row = int(np.argwhere(bad)[0, 0])
        raise InputError(
            f"{where}: {name} has {int(bad.sum())} NaN or infinite values, the first in row {row} "
            f"of {len(value)}; repair or cut the recording there"
        )


def check_rising(where: str, name: str, times: np.ndarray) -> None:
    """Raises `InputError` unless `times` [N] is finite, not empty and strictly rising."""
    check_finite(where, name, times, (times.size,))
    if not times.size:
        raise InputError(f"{where}: {name} is empty")
    back = np.diff(times) <= 0
    if back.any():
        row = int(np.argmax(back)) + 1
        verb = "repeats" if times[row] == times[row - 1] else "goes backwards"
        raise InputError(
            f"{where}: {name} {verb} in row {row}: {times[row]:.6f} s after "
            f"{times[row - 1]:.6f} s; times must rise"
        )


def check_track(
    where: str, names: tuple[str, str, str], t: np.ndarray, xyz: np.ndarray, quat: np.ndarray
) -> None:
    """Raises `InputError` unless t [N], xyz [N, 3], quat [N, 4] are a track of finite poses.

    Args:
      where: start of the message.
      names: what t, xyz and quat are called there.
      t: strictly rising times, at least two.
      xyz: positions.
      quat: unit quaternions, (w, x, y, z).
    """
    check_rising(where, names[0], t)
    check_finite(where, names[1], xyz, (len(t), 3))
    check_finite(where, names[2], quat, (len(t), 4))
    if len(t) < 2:
        raise InputError(f"{where}: {names[0]} has {len(t)} pose; at least two are needed")
    norms = np.linalg.norm(quat, axis=-1)
    off = np.abs(norms - 1.0) > UNIT_TOLERANCE
    if off.any():
        row = int(np.argmax(off))
        raise InputError(
            f"{where}: {names[2]} row {row} of {len(t)} has norm {norms[row]:.4f}; a rotation is a "
            f"unit quaternion (w, x, y, z)"
        )


def check_grid(where: str, name: str, t: np.ndarray) -> None:
    """Raises `InputError` unless `t` steps by `GRID_DT`."""
    off = np.abs(np.diff(t) - GRID_DT) > GRID_TOLERANCE
    if off.any():
        row = int(np.argmax(off)) + 1
        raise InputError(
            f"{where}: {name} must be a grid of {GRID_DT} s, but row {row} is at {t[row]:.6f} s "
            f"after {t[row - 1]:.6f} s"
        )


def check_transform(where: str, name: str, matrix: np.ndarray) -> None:
    """Raises `InputError` unless `matrix` is a rigid [4, 4] transform."""
    check_finite(where, name, matrix, (4, 4))
    rotation = matrix[:3, :3]
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    last = matrix[3].tolist()
    if error > UNIT_TOLERANCE or np.linalg.det(rotation) < 0 or last != [0.0, 0.0, 0.0, 1.0]:
        raise InputError(
            f"{where}: {name} is not a rotation and a translation: R R^T differs from 1 by "
            f"{error:.2g}, det R = {np.linalg.det(rotation):.3g}, last row {last}"
        )


def check_agents(where: str, agents: AgentTable) -> None:
    """Raises `InputError` unless all columns have one length, finite numbers and real sizes."""
    n = len(agents.t)
    check_finite(where, "t", agents.t, (n,))
    check_finite(where, "track", agents.track, (n,))
    check_finite(where, "xyz", agents.xyz, (n, 3))
    check_finite(where, "yaw", agents.yaw, (n,))
    check_finite(where, "lwh", agents.lwh, (n, 3))
    if agents.category.shape != (n,):
        raise InputError(f"{where}: category must be [{n}], got {list(agents.category.shape)}")
    if (agents.lwh <= 0).any():
        row = int(np.argmax((agents.lwh <= 0).any(-1)))
        raise InputError(f"{where}: lwh row {row} is {agents.lwh[row].tolist()}; sizes are above 0")


def check_map_lines(where: str, lines: MapLines) -> None:
    """Raises `InputError` unless the offsets cut all points into lines, each with its kind."""
    check_finite(where, "points", lines.points, (len(lines.points), 3))
    offsets, m = lines.offsets, len(lines.kind)
    for name, value in (("kind", lines.kind), ("ids", lines.ids)):
        if value is not None and value.shape != (m,):
            raise InputError(f"{where}: {name} must be [{m}], got {list(value.shape)}")
    if offsets.shape != (m + 1,):
        raise InputError(
            f"{where}: offsets must be [{m + 1}], one more than kind, got {list(offsets.shape)}"
        )
    if offsets[0] != 0 or offsets[-1] != len(lines.points) or (np.diff(offsets) < 0).any():
        raise InputError(
            f"{where}: offsets must rise from 0 to the {len(lines.points)} points, got "
            f"{offsets[:3].tolist()} ... {offsets[-3:].tolist()}"
        )


def check_events(where: str, events: tuple[Event, ...]) -> None:
    """Raises `InputError` unless the events are in order of time and each has a kind."""
    last = -np.inf
    for i, event in enumerate(events):
        if not (np.isfinite(event.t) and event.t >= last):
            raise InputError(f"{where}[{i}]: t is {event.t} after {last}; times must not fall")
        if not event.kind:
            raise InputError(f"{where}[{i}]: kind is empty; it says what happened")
        if event.xyz is not None:
            check_finite(f"{where}[{i}]", "xyz", np.asarray(event.xyz, np.float64), (3,))
        last = event.t
