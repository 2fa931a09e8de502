"""Pictures of a moment for a model or a person: camera frames, or the view from above."""

import dataclasses
import io
from typing import Sequence

import numpy as np
from PIL import Image

from alpamayo_jax.clip import GRID_DT, GRID_TOLERANCE, Clip
from alpamayo_jax.types import InputError
from alpamayo_jax.viz import style
from alpamayo_jax.viz.birdseye import MOST_HANDLES, draw_birdseye
from alpamayo_jax.viz.drive import front_camera
from alpamayo_jax.viz.keyframe import Mark, draw_mark
from alpamayo_jax.viz.scene import local_track, scene_at, to_local

MAX_WIDTH = 640  # pixels; a language model sees no more of a road
_QUALITY = 85
_AHEAD_M = 60.0  # metres that a view from above shows at least
_LATE_S = 0.26  # how much older than asked for a frame may be: half of 2 Hz


@dataclasses.dataclass(frozen=True)
class Picture:
    """An encoded picture.

    Attributes:
      t: seconds on the clip's clock, when it was taken.
      data: JPEG.
    """

    t: float
    data: bytes


def picture_times(t0: float, before_s: float, after_s: float, rate: float = 2.0) -> list[float]:
    """Times from t0 - before_s to t0 + after_s at `rate` per second, t0 among them."""
    first, last = -int(before_s * rate + 1e-6), int(after_s * rate + 1e-6)
    return [t0 + k / rate for k in range(first, last + 1)]


def camera_pictures(
    clip: Clip, times: list[float], latest: float | None = None, max_width: int = MAX_WIDTH
) -> list[Picture]:
    """Frames of the front camera, for each time the last one at or before it.

    Args:
      clip: with a camera.
      times: seconds on the clip's clock; those outside the camera's recording are left out.
      latest: no frame after this is read; None: no such limit.
      max_width: pixels; wider frames are made smaller.

    Raises:
      InputError: the clip has no camera, no time has a frame, or a frame is unreadable.
    """
    camera = front_camera(clip.cameras)
    if camera is None:
        raise InputError(f"clip {clip.clip_id!r}: it has no camera, so there is nothing to look at")
    found: dict[int, Picture] = {}
    for t in times:
        t = t if latest is None else min(t, latest)
        frame = int(np.searchsorted(camera.times, t + GRID_TOLERANCE, side="right")) - 1
        if frame >= 0 and t - camera.times[frame] <= _LATE_S and frame not in found:
            found[frame] = Picture(float(camera.times[frame]), jpeg(camera.read(frame), max_width))
    if not found:
        raise InputError(
            f"clip {clip.clip_id!r}: camera {camera.name!r} has no frame between {min(times):.1f} "
            f"and {max(times):.1f} s"
        )
    return list(found.values())


def view_pictures(
    clip: Clip, times: list[float], latest: float | None = None, size: int = 560
) -> list[Picture]:
    """Views from above at those times, with the road users and map that the clip knows.

    Only the past of the ego is drawn. Times outside the ego's track are left out.

    Raises:
      InputError: no time is on the track.
    """
    pictures = []
    for t in times:
        inside = clip.ego.t[0] - GRID_TOLERANCE <= t <= clip.ego.t[-1] + GRID_TOLERANCE
        if inside and (latest is None or t <= latest + GRID_TOLERANCE):
            data = view_from_above(clip, t, size)
            with Image.open(io.BytesIO(data)) as image:
                pictures.append(Picture(t, jpeg(np.asarray(image.convert("RGB")), size)))
    if not pictures:
        raise InputError(f"clip {clip.clip_id!r}: no time from {min(times):.1f} s is on its track")
    return pictures


def view_from_above(
    clip: Clip, t: float, size: int = 560, future_s: float = 0.0, tracks: Sequence[int] = ()
) -> bytes:
    """One view from above as PNG, with the last 2 s of the ego and, if asked for, what follows.

    Args:
      clip: the drive.
      t: seconds on the clip's clock, on the ego's track.
      size: pixels of both sides.
      future_s: seconds of the recorded future to draw; 0: none.
      tracks: of road users to circle, where they are annotated at t.
    """
    history = local_track(clip, t, t - 2.0, t)
    future = local_track(clip, t, t, t + future_s)[1:] if future_s else None
    if future is not None and not len(future):
        future = None
    page, per_row = style.Page(size, size), max(1, size // 240)
    legend = style.LEGEND_ROW * -(-MOST_HANDLES // per_row)
    axes = page.axes(78, 12, size - 90, size - 76 - legend)
    nothing = np.zeros((0, 1, 3))
    handles = draw_birdseye(axes, nothing, history, future, scene_at(clip, t), _AHEAD_M)
    low, high = sorted(axes.get_ylim()), sorted(axes.get_xlim())
    for mark in _marks(clip, t, tracks):
        if low[0] < mark.x < low[1] and high[0] < mark.y < high[1]:
            draw_mark(axes, mark)
    axes.set_xlabel("metres to the left (+) and right")
    axes.set_ylabel("metres ahead")
    page.legend(14, size - legend, handles, per_row)
    return page.png()


def _marks(clip: Clip, t: float, tracks: Sequence[int]) -> list[Mark]:
    """Circles around road users at time t."""
    if clip.agents is None or not len(clip.agents.t):
        return []
    agents, marks = clip.agents, []
    for track in dict.fromkeys(tracks):
        rows = np.flatnonzero(agents.track == track)
        gap = np.abs(agents.t[rows] - t)
        if not len(rows) or gap.min() > GRID_DT:
            continue
        row = rows[np.argmin(gap)]
        x, y, _ = to_local(clip, t, agents.xyz[row])
        radius = float(np.hypot(*agents.lwh[row, :2])) / 2 + 0.8
        marks.append(Mark(x, y, radius, f"track {track}"))
    return marks


def pictures_of(
    clip: Clip, times: list[float], latest: float | None = None
) -> tuple[str, list[Picture]]:
    """("camera" or "view from above", the pictures): the camera's where the clip has one."""
    if clip.cameras:
        return "camera", camera_pictures(clip, times, latest)
    return "view from above", view_pictures(clip, times, latest)


def jpeg(image: np.ndarray, max_width: int = MAX_WIDTH) -> bytes:
    """A uint8 [height, width, 3] image as JPEG, made smaller where it is wider than `max_width`."""
    picture = Image.fromarray(image)
    if picture.width > max_width:
        height = max(round(picture.height * max_width / picture.width), 1)
        picture = picture.resize((max_width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


