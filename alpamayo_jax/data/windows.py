"""Windows of a clip: what the policy sees at t0, and what the recorded driver did then.

A window is 16 poses of history, t0 - 1.5 s to t0, and 64 of future, t0 + 0.1 s to t0 + 6.4 s, and
where images are needed 4 frames near t0 - 0.3, -0.2, -0.1 and 0 s. It occupies 1.6 s before t0 and
6.4 s after, so that windows 8 s apart share no step of the drive. Poses leave here in the ego frame
at t0 (x forward, y left, z up; metres): R_t0^-1 (x - x_t0), computed in float64.
"""

import math
from typing import Sequence

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from alpamayo_jax.clip import GRID_DT, GRID_TOLERANCE, Camera, Clip
from alpamayo_jax.types import CameraFrames, InputError, Observation, Target

NUM_HISTORY = 16
NUM_FUTURE = 64
PAST_S = NUM_HISTORY * GRID_DT
FUTURE_S = NUM_FUTURE * GRID_DT
FRAME_DT = 0.1
FRAME_TOLERANCE_S = 0.06


def window_times(
    clip: Clip,
    stride_s: float = GRID_DT,
    start_s: float | None = None,
    end_s: float | None = None,
    need_images: bool | None = None,
    num_frames: int = 4,
    cameras: Sequence[int] | None = None,
) -> list[float]:
    """The t0 of the windows of a clip, on its 10 Hz grid.

    Args:
      clip: the drive.
      stride_s: between one candidate and the next, a multiple of 0.1 s; 8.0 gives disjoint windows.
      start_s, end_s: seconds on the clip's clock that hold the whole of every window, 1.6 s before
        t0 to 6.4 s after; None: the ends of the ego track.
      need_images: whether each camera must have its frames near t0; None: where there is a camera.
      num_frames: frames per camera.
      cameras: indices of the cameras that must have frames; None: all.

    Returns:
      The first fitting grid time and every stride after it, less those without frames. Empty where
      start_s and end_s leave no room.

    Raises:
      InputError: the ego track is shorter than one window, images are needed of a clip without
        cameras, the stride is no multiple of the grid, or a time is NaN.
    """
    t, where = clip.ego.t, f"clip {clip.clip_id!r}"
    if t[-1] - t[0] < PAST_S + FUTURE_S - GRID_TOLERANCE:
        raise InputError(
            f"{where}: ego.t covers {t[-1] - t[0]:.1f} s ({t[0]:.1f} to {t[-1]:.1f} s); a window "
            f"takes {PAST_S} s of past and {FUTURE_S} s of future, {PAST_S + FUTURE_S} s in all"
        )
    for name, value in (("start_s", start_s), ("end_s", end_s)):
        if value is not None and math.isnan(value):
            raise InputError(f"{where}: {name} is {value}, not a time")
    step = round(stride_s / GRID_DT) if math.isfinite(stride_s) else 0
    if step < 1 or abs(step * GRID_DT - stride_s) > 1e-6:
        raise InputError(f"{where}: stride_s is {stride_s}, not a multiple of {GRID_DT} s")
    first = t[0] if start_s is None else max(t[0], start_s)
    last = t[-1] if end_s is None else min(t[-1], end_s)
    fits = (t - PAST_S >= first - GRID_TOLERANCE) & (t + FUTURE_S <= last + GRID_TOLERANCE)
    times = t[fits][::step]
    chosen = () if need_images is False else _chosen(clip, cameras)
    if need_images and not chosen:
        raise InputError(f"{where}: images are needed, but no camera is chosen or there")
    for camera in chosen:
        _, error = _nearest_frames(camera, times, num_frames)
        times = times[(error <= FRAME_TOLERANCE_S).all(-1)]
    return times.tolist()


def keyframe_times(
    clip: Clip,
    start_s: float | None = None,
    end_s: float | None = None,
    need_images: bool | None = None,
    num_frames: int = 4,
    cameras: Sequence[int] | None = None,
) -> list[float]:
    """The times of the clip's reasoning at which a window fits; arguments as in `window_times`.

    At these the trace explains what comes next; later it also holds, but says less. A trace too
    near to an end of the clip, or without frames, has none.
    """
    first = clip.ego.t[0] if start_s is None else max(clip.ego.t[0], start_s)
    last = clip.ego.t[-1] if end_s is None else min(clip.ego.t[-1], end_s)
    times = np.array([label.t for label in clip.reasoning if label.text], np.float64)
    fits = (times - PAST_S >= first - GRID_TOLERANCE) & (times + FUTURE_S <= last + GRID_TOLERANCE)
    times = times[fits]
    for camera in () if need_images is False else _chosen(clip, cameras):
        _, error = _nearest_frames(camera, times, num_frames)
        times = times[(error <= FRAME_TOLERANCE_S).all(-1)]
    return times.tolist()


def observe(
    clip: Clip, t0: float, num_frames: int = 4, cameras: Sequence[int] | None = None
) -> Observation:
    """What the policy sees at t0; t0 may lie between poses of the grid.

    Each frame is the one nearest to t0 - 0.1 * k seconds; `CameraFrames.times` says when it was
    taken, which may be up to 0.06 s off, also after t0. Where the camera is slower than 10 Hz two
    of them can be the same.

    Args:
      clip: the drive.
      t0: seconds on the clip's clock.
      num_frames: frames per camera, at least 1.
      cameras: indices of the cameras to use; None: all; (): poses only.

    Returns:
      The observation; positions are interpolated linearly, rotations along the shortest arc.

    Raises:
      InputError: t0 is outside the ego track or has less than 1.5 s of past; a camera is unknown or
        has no frame within 0.06 s of a wanted time; a frame is unreadable.
    """
    times = t0 - GRID_DT * np.arange(NUM_HISTORY - 1, -1, -1)
    xyz, rot = _local_poses(clip, t0, times, "past")
    return Observation(
        cameras=tuple(_frames(clip, camera, t0, num_frames) for camera in _chosen(clip, cameras)),
        ego_history_xyz=xyz,
        ego_history_rot=rot,
        clip_id=clip.clip_id,
        t0=float(t0),
    ).validate(NUM_HISTORY)


def outline(
    clip: Clip, t0: float, num_frames: int = 4, cameras: Sequence[int] | None = None
) -> tuple[Observation, Target]:
    """`observe` and `target` with their sizes and texts, but without poses and images.

    Nothing is decoded and hardly any memory used: it serves to count tokens.
    """
    history, future = np.zeros((NUM_HISTORY, 3)), np.zeros((NUM_FUTURE, 3))
    frames = tuple(
        CameraFrames(
            camera_index=camera.index,
            images=np.broadcast_to(np.uint8(0), (num_frames, camera.height, camera.width, 3)),
            times=np.zeros(num_frames),
            intrinsics=camera.intrinsics,
            ego_from_camera=camera.ego_from_camera,
        )
        for camera in _chosen(clip, cameras)
    )
    rot, turns = np.tile(np.eye(3), (NUM_HISTORY, 1, 1)), np.tile(np.eye(3), (NUM_FUTURE, 1, 1))
    seen = Observation(frames, history, rot, clip_id=clip.clip_id, t0=float(t0))
    return seen, Target(future, turns, reasoning=reasoning_at(clip, t0))


def reasoning_at(clip: Clip, t0: float) -> str:
    """The last label at or before t0; "" where none has begun."""
    begun = [label.text for label in clip.reasoning if label.t <= t0 + GRID_TOLERANCE]
    return begun[-1] if begun else ""


def target(clip: Clip, t0: float) -> Target:
    """What the recorded driver did after t0, and why.

    The reasoning is that of the last label at or before t0, however old: a label holds until the
    next one, and one with an empty text ends it. A label after t0 may tell what cannot be seen yet.

    Returns:
      The target; its reasoning is "" where no label has begun.

    Raises:
      InputError: t0 is outside the ego track or has less than 6.4 s of future.
    """
    times = t0 + GRID_DT * np.arange(1, NUM_FUTURE + 1)
    xyz, rot = _local_poses(clip, t0, times, "future")
    return Target(
        ego_future_xyz=xyz, ego_future_rot=rot, reasoning=reasoning_at(clip, t0)
    ).validate(NUM_FUTURE, f"target of clip {clip.clip_id!r} at t0={t0:.3f} s")


def _local_poses(
    clip: Clip, t0: float, times: np.ndarray, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Poses at `times` in the ego frame at t0: float32 [N, 3] and [N, 3, 3]."""
    ego, where = clip.ego, f"clip {clip.clip_id!r}: t0={t0:.3f} s"
    low, high = ego.t[0] - GRID_TOLERANCE, ego.t[-1] + GRID_TOLERANCE
    if not low <= t0 <= high:
        raise InputError(
            f"{where} is outside the ego track, {ego.t[0]:.3f} to {ego.t[-1]:.3f} s"
        )
    if times[0] < low or times[-1] > high:
        have, need = (
            (t0 - ego.t[0], t0 - times[0]) if what == "past" else (ego.t[-1] - t0, times[-1] - t0)
        )
        raise InputError(
            f"{where} has {have:.3f} s of {what} on the ego track ({ego.t[0]:.3f} to "
            f"{ego.t[-1]:.3f} s), {need:.1f} s are needed"
        )
    wanted = np.clip(np.append(times, t0), ego.t[0], ego.t[-1])
    # Only the poses around the window: a drive can have hours of them.
    begin = max(int(np.searchsorted(ego.t, wanted.min(), side="right")) - 1, 0)
    end = min(int(np.searchsorted(ego.t, wanted.max(), side="left")) + 2, len(ego.t))
    begin = min(begin, end - 2)
    t = ego.t[begin:end]
    quat = Rotation.from_quat(ego.quat_wxyz[begin:end], scalar_first=True)
    rotation = Slerp(t, quat)(wanted)
    xyz = np.stack([np.interp(wanted, t, ego.xyz[begin:end, axis]) for axis in range(3)], -1)
    ego_from_world = rotation[-1].inv()
    local = ego_from_world.apply(xyz[:-1] - xyz[-1])
    turned = (ego_from_world * rotation[:-1]).as_matrix()
    return local.astype(np.float32), turned.astype(np.float32)


def _chosen(clip: Clip, cameras: Sequence[int] | None) -> tuple[Camera, ...]:
    if cameras is None:
        return clip.cameras
    return tuple(clip.camera(index) for index in sorted(cameras))


def _nearest_frames(
    camera: Camera, t0: np.ndarray, num_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """(frame number, distance in seconds), each [..., num_frames], oldest first, for t0 [...]."""
    if num_frames < 1:
        raise InputError(f"camera {camera.name!r}: num_frames is {num_frames}, not 1 or more")
    wanted = np.asarray(t0)[..., None] - FRAME_DT * np.arange(num_frames - 1, -1, -1)
    after = np.clip(np.searchsorted(camera.times, wanted), 0, len(camera.times) - 1)
    before = np.maximum(after - 1, 0)
    back, ahead = np.abs(wanted - camera.times[before]), np.abs(camera.times[after] - wanted)
    # Rounding of sums of 0.1 must not turn a tie, or a frame just in reach, around.
    frame = np.where(back <= ahead + 1e-6, before, after)
    return frame, np.maximum(np.minimum(back, ahead) - 1e-6, 0.0)


def _frames(clip: Clip, camera: Camera, t0: float, num_frames: int) -> CameraFrames:
    frames, error = _nearest_frames(camera, np.asarray(t0), num_frames)
    if error.max() > FRAME_TOLERANCE_S:
        k = int(np.argmax(error > FRAME_TOLERANCE_S))
        wanted = t0 - FRAME_DT * (num_frames - 1 - k)
        raise InputError(
            f"clip {clip.clip_id!r}: camera {camera.name!r} has no frame within "
            f"{FRAME_TOLERANCE_S} s of {wanted:.3f} s (t0={t0:.3f} s); the nearest is at "
            f"{camera.times[frames[k]]:.3f} s"
        )
    return CameraFrames(
        camera_index=camera.index,
        images=np.stack([camera.read(int(frame)) for frame in frames]),
        times=camera.times[frames] - t0,
        intrinsics=camera.intrinsics,
        ego_from_camera=camera.ego_from_camera,
    )
