"""What a session has been told so far: ego poses and camera frames, in whatever order they came.

Times are integer microseconds, as large as since 1970. They become seconds only as differences, in
integers first: float32 cannot hold them, and float64 loses what makes a step of 0.1 s exact.
"""

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from alpamayo_jax.clip import Camera, Clip, EGO_FROM_FORWARD_CAMERA, EgoTrack, Pinhole
from alpamayo_jax.data.windows import FRAME_DT, PAST_S, observe
from alpamayo_jax.types import InputError, Observation

KEPT_US = 5_000_000  # observations older than this before the newest are forgotten
POSE_TOLERANCE_US = 1_000  # how far before a time the last pose may be to stand for it
FRAME_AGE_US = 200_000  # how old the newest frame may be when a plan is asked for
_UNIT_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Pose:
    """A pose of the rig: position float64 [3] and heading in the simulator's local frame."""

    xyz: np.ndarray
    yaw: float


class PoseHistory:
    """Poses of the rig in the simulator's local frame, rising in time."""

    def __init__(self):
        self._times = np.zeros(0, np.int64)
        self._values = np.zeros((0, 7))  # position and quaternion (w, x, y, z)

    def __len__(self) -> int:
        return len(self._times)

    @property
    def last_us(self) -> int:
        """Time of the newest pose."""
        return int(self._times[-1])

    def add(self, times: np.ndarray, xyz: np.ndarray, quat: np.ndarray) -> None:
        """Adds poses; one at a time that is known already replaces it.

        Args:
          times: int64 [N] microseconds, in any order.
          xyz: [N, 3] metres.
          quat: [N, 4] (w, x, y, z).

        Raises:
          InputError: a number is not finite, or a quaternion not of unit length.
        """
        values = np.concatenate([xyz, quat], axis=-1).astype(np.float64)
        if not np.isfinite(values).all():
            row = int(np.argmax(~np.isfinite(values).all(-1)))
            raise InputError(f"pose {row} of {len(values)} has NaN or infinite values")
        off = np.abs(np.linalg.norm(values[:, 3:], axis=-1) - 1.0) > _UNIT_TOLERANCE
        if off.any():
            row = int(np.argmax(off))
            raise InputError(
                f"pose {row} of {len(values)} has quaternion {values[row, 3:].tolist()}; a "
                "rotation is a unit quaternion (w, x, y, z)"
            )
        times = np.concatenate([self._times, np.asarray(times, np.int64)])
        values = np.concatenate([self._values, values])
        # Of equal times the last is kept, which is the first of the reversed.
        times, first = np.unique(times[::-1], return_index=True)
        kept = times >= times[-1] - KEPT_US if len(times) else slice(None)
        self._times, self._values = times[kept], values[::-1][first][kept]

    def track(self, base_us: int) -> EgoTrack:
        """All poses, in seconds after `base_us`."""
        return EgoTrack(
            t=(self._times - base_us) / 1e6,
            xyz=self._values[:, :3],
            quat_wxyz=self._values[:, 3:],
        )

    def at(self, time_us: int) -> Pose:
        """The pose at a time within the history, or the nearest end of it."""
        t = (self._times - time_us) / 1e6
        xyz = np.array([np.interp(0.0, t, self._values[:, axis]) for axis in range(3)])
        matrix = Rotation.from_quat(self._values[:, 3:], scalar_first=True).as_matrix()
        headings = np.unwrap(np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]))
        return Pose(xyz, float(np.interp(0.0, t, headings)))


class FrameHistory:
    """The recent frames of one camera."""

    def __init__(self, logical_id: str, index: int):
        self.logical_id, self.index = logical_id, index
        self._frames: dict[int, np.ndarray] = {}

    def add(self, time_us: int, image: np.ndarray) -> None:
        """Adds a frame uint8 [height, width, 3] whose exposure ended at `time_us`."""
        self._frames[time_us] = image
        newest = max(self._frames)
        for old in [t for t in self._frames if t < newest - KEPT_US]:
            del self._frames[old]

    def newest_us(self, now_us: int) -> int | None:
        """Time of the newest frame at or before `now_us`."""
        return max((t for t in self._frames if t <= now_us), default=None)

    def camera(self, base_us: int, now_us: int) -> Camera:
        """The frames up to `now_us` as a camera of a clip, in seconds after `base_us`."""
        times = sorted(t for t in self._frames if t <= now_us)
        images = [self._frames[t] for t in times]
        height, width = images[-1].shape[:2]
        return Camera(
            name=self.logical_id,
            index=self.index,
            width=width,
            height=height,
            intrinsics=Pinhole(1.0, 1.0, 0.0, 0.0),  # the lens does not reach the policy
            ego_from_camera=EGO_FROM_FORWARD_CAMERA,
            times=(np.array(times, np.int64) - base_us) / 1e6,
            read=images.__getitem__,
        )


def observation_at(
    name: str, poses: PoseHistory, cameras: list[FrameHistory], now_us: int, num_frames: int
) -> tuple[Observation, int]:
    """What the policy sees at `now_us`, exactly as it sees a window of a clip.

    The newest frame says when t0 is; without cameras it is `now_us`.

    Args:
      name: of the session, for messages.
      poses: ego motion.
      cameras: those the policy looks through.
      now_us: when the plan is asked for.
      num_frames: per camera, 0.1 s apart.

    Returns:
      The observation and its t0 in microseconds.

    Raises:
      InputError: frames or poses are missing or too old; says which and since when.
    """
    if len(poses) < 2:
        raise InputError(f"{name}: {len(poses)} ego poses; {PAST_S - FRAME_DT:.1f} s are needed")
    newest = {camera.logical_id: camera.newest_us(now_us) for camera in cameras}
    missing = [logical_id for logical_id, time in newest.items() if time is None]
    if missing:
        raise InputError(f"{name}: no image of camera {', '.join(missing)} has come")
    t0_us = max(newest.values(), default=now_us)
    if now_us - t0_us > FRAME_AGE_US:
        raise InputError(
            f"{name}: the newest image is {(now_us - t0_us) / 1e6:.3f} s old, at most "
            f"{FRAME_AGE_US / 1e6} s are allowed"
        )
    if poses.last_us < t0_us - POSE_TOLERANCE_US or poses.last_us < now_us - FRAME_AGE_US:
        raise InputError(
            f"{name}: ego poses end {(now_us - poses.last_us) / 1e6:.3f} s before the plan is to "
            "begin; send ego motion before drive"
        )
    clip = Clip(
        clip_id=name,
        ego=poses.track(t0_us),
        cameras=tuple(
            camera.camera(t0_us, now_us) for camera in sorted(cameras, key=lambda c: c.index)
        ),
    )
    return observe(clip, 0.0, num_frames), t0_us
