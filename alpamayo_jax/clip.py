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
      points: float64 [P, 3], world; offsets: int64 [M + 1]; kind: str [M].
    """

    points: np.ndarray
    offsets: np.ndarray
    kind: np.ndarray


@dataclasses.dataclass(frozen=True)
class ReasoningLabel:
    """A reasoning trace that explains the ego's behaviour from time `t` on."""

    t: float
    text: str


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
    """

    clip_id: str
    ego: EgoTrack
    cameras: tuple[Camera, ...] = ()
    ground_z: float = 0.0
    agents: AgentTable | None = None
    map_lines: MapLines | None = None
    reasoning: tuple[ReasoningLabel, ...] = ()

    def validate(self) -> "Clip":
        """Checks shapes, clocks and numbers; returns self.

        Raises:
          InputError: names the clip and the field.
        """
        ego, where = self.ego, f"clip {self.clip_id!r}"
        n = len(ego.t)
        for name, value, shape in (
            ("ego.t", ego.t, (n,)),
            ("ego.xyz", ego.xyz, (n, 3)),
            ("ego.quat_wxyz", ego.quat_wxyz, (n, 4)),
        ):
            if value.shape != shape:
                raise InputError(f"{where}: {name} must be {list(shape)}, got {list(value.shape)}")
            bad = ~np.isfinite(value.reshape(n, -1)).all(-1)
            if bad.any():
                row = int(np.argmax(bad))
                raise InputError(f"{where}: {name} is not finite in row {row} of {n}")
        steps = np.diff(ego.t)
        if n < 2 or np.abs(steps - GRID_DT).max() > 1e-3:
            raise InputError(
                f"{where}: ego.t must be a grid of {GRID_DT} s, got {n} times with steps "
                f"{steps.min() if n > 1 else float('nan'):.4f} to "
                f"{steps.max() if n > 1 else float('nan'):.4f} s"
            )
        norms = np.linalg.norm(ego.quat_wxyz, axis=-1)
        if np.abs(norms - 1.0).max() > 1e-3:
            row = int(np.argmax(np.abs(norms - 1.0)))
            raise InputError(f"{where}: ego.quat_wxyz row {row} has norm {norms[row]:.4f}, not 1")
        indices = [camera.index for camera in self.cameras]
        if indices != sorted(set(indices)):
            raise InputError(f"{where}: camera indices must rise without repeats, got {indices}")
        for camera in self.cameras:
            backwards = np.diff(camera.times) <= 0
            if backwards.any():
                frame = int(np.argmax(backwards)) + 1
                raise InputError(
                    f"{where}: camera {camera.name!r} frame {frame} is at "
                    f"{camera.times[frame]:.6f} s, not after the frame before it"
                )
        return self
