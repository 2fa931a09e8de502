"""One picture of one decision: what the camera saw, where the samples go, and why."""

import os
from typing import Sequence

import numpy as np

from alpamayo_jax.clip import Camera, Clip
from alpamayo_jax.types import InputError, Observation
from alpamayo_jax.viz import birdseye, overlay, style, text
from alpamayo_jax.viz.scene import Scene, scene_at

_FRONT_INDEX = 1  # front wide, in the release's camera map
_WIDTH, _MARGIN, _TITLE = 1600, 24, 52
_WIDE, _NARROW = 1040, 440  # the two columns
_LEAST_HEIGHT, _MOST_IMAGE = 600, 720
_TICKS = (62, 56)  # what tick and axis labels take to the left and below
_GAP = 12
_FONT, _LINE = 15.0, 26
_MOST_LINES = 30


def front_camera(cameras: Sequence[Camera]) -> Camera | None:
    """The front wide camera, or else the one that looks most nearly ahead; None of no cameras."""
    ahead = [float(camera.ego_from_camera[0, 2]) for camera in cameras]
    for camera in cameras:
        if camera.index == _FRONT_INDEX:
            return camera
    return cameras[int(np.argmax(ahead))] if ahead else None


def clip_picture(
    path: str | os.PathLike | None,
    clip: Clip,
    observation: Observation,
    samples_xyz: np.ndarray,
    future_xyz: np.ndarray | None = None,
    reasoning: str | Sequence[str] = "",
    title: str = "",
) -> bytes:
    """`drive_picture` of a window of a clip, by the front camera that was observed.

    Args:
      path: where to write the PNG, or None.
      clip: the drive, for its lens, road users and map.
      observation: of the window.
      samples_xyz: [K, W, 3] metres, ego frame at t0.
      future_xyz: recorded [W, 3], or None where the clip ends.
      reasoning: one text, or one per sample.
      title: one line; clip and time where it is empty.
    """
    seen = {camera.camera_index for camera in observation.cameras}
    camera = front_camera([c for c in clip.cameras if c.index in seen])
    frame = None
    if camera is not None:
        (frames,) = [c for c in observation.cameras if c.camera_index == camera.index]
        frame = frames.images[-1]
    return drive_picture(
        path,
        frame,
        camera,
        samples_xyz,
        observation.ego_history_xyz,
        future_xyz,
        ground_z=clip.ground_z,
        reasoning=reasoning,
        title=title or f"{clip.clip_id}, t0 = {observation.t0:.1f} s",
        scene=scene_at(clip, observation.t0),
    )


def drive_picture(
    path: str | os.PathLike | None,
    frame: np.ndarray | None,
    camera: Camera | None,
    samples_xyz: np.ndarray,
    history_xyz: np.ndarray,
    future_xyz: np.ndarray | None = None,
    ground_z: float = 0.0,
    reasoning: str | Sequence[str] = "",
    title: str = "",
    scene: Scene | None = None,
) -> bytes:
    """The camera image with the samples on the road, beside the view from above, and the reasoning.

    Args:
      path: where to write the PNG, or None.
      frame: uint8 [height, width, 3] of `camera` at t0; None draws no camera.
      camera: lens and mount of the frame, or None with `frame`.
      samples_xyz: [K, W, 3] metres at 10 Hz from t0 + 0.1 s, ego frame at t0.
      history_xyz: [H, 3], ending at t0.
      future_xyz: [W, 3] recorded, or None.
      ground_z: height of the road in the ego frame, metres.
      reasoning: one text, or one per sample; equal ones are shown once.
      title: one line.
      scene: other road users and map for the view from above, or None.

    Returns:
      The PNG, 1600 pixels wide.

    Raises:
      InputError: a trajectory or the frame is not usable, or a camera comes without a frame.
    """
    if (frame is None) != (camera is None):
        raise InputError("drive picture: frame and camera must be given together, or neither")
    samples = style.checked("samples_xyz", samples_xyz, (None, None, 3))
    wide = frame is not None
    column, per_row = (_WIDE, 5) if wide else (_NARROW, 2)
    image, note = _camera_image(frame, camera, samples, future_xyz, ground_z, column)
    lines = _reasoning_lines(reasoning, len(samples), column, note)
    named = len(samples) if len(samples) <= style.MOST_NAMED else 1
    legend = style.LEGEND_ROW * -(-(birdseye.MOST_HANDLES + named) // per_row) + 2 * _GAP
    above = _MARGIN + (_TITLE if title else 0)
    content = len(image) + legend + _LINE * len(lines)
    page = style.Page(_WIDTH, above + max(content, _LEAST_HEIGHT) + _MARGIN)

    page.heading(_MARGIN, title, 19.0)
    left = _MARGIN if wide else _WIDTH - _MARGIN - column
    if wide:
        page.image(left + (column - image.shape[1]) // 2, above, image)
    start = (left + column + _MARGIN if wide else _MARGIN) + _TICKS[0]
    axes = page.axes(
        start,
        above,
        _WIDTH - column - 3 * _MARGIN - _TICKS[0],
        page.height - above - _MARGIN - _TICKS[1],
    )
    handles = birdseye.draw_birdseye(axes, samples, history_xyz, future_xyz, scene)
    top = above + len(image) + (_GAP if wide else 0)
    page.legend(left, top, handles, per_row)
    top += style.LEGEND_ROW * -(-len(handles) // per_row) + _GAP
    for i, (line, bold) in enumerate(lines):
        page.text(left, top + _LINE * i, line, _FONT, bold)
    return page.png(path)


def _camera_image(
    frame: np.ndarray | None,
    camera: Camera | None,
    samples: np.ndarray,
    future_xyz: np.ndarray | None,
    ground_z: float,
    column: int,
) -> tuple[np.ndarray, str]:
    """(image at most `column` wide, a note where no sample can be seen in it)."""
    if frame is None:
        return np.zeros((0, 0, 3), np.uint8), ""
    width = min(column, round(_MOST_IMAGE * camera.width / camera.height))
    image = overlay.draw_trajectories(frame, camera, samples, future_xyz, ground_z, width)
    seen = overlay.project_to_image(camera, samples, ground_z)[1].any()
    if seen or not len(samples):
        return image, ""
    return image, f"No sample reaches the road seen by {camera.name}."


def _reasoning_lines(
    reasoning: str | Sequence[str], count: int, width: int, note: str
) -> list[tuple[str, bool]]:
    """(line, bold) of the wrapped texts."""
    if isinstance(reasoning, str):
        groups = {reasoning: None}
    else:
        if len(reasoning) != count:
            raise InputError(f"drive picture: {len(reasoning)} reasoning texts for {count} samples")
        groups = {}
        for k, words in enumerate(reasoning):
            groups.setdefault(words, []).append(k + 1)
    lines = [(line, True) for line in text.wrap(text.printable(note), width, _FONT, style.DPI)]
    for words, numbers in groups.items():
        if not words.strip() and numbers is None:
            continue
        if numbers is None or len(numbers) == count:
            lines.append(("Reasoning", True))
        else:
            names = ", ".join(map(str, numbers))
            lines.append((f"Reasoning of sample{'s' if len(numbers) > 1 else ''} {names}", True))
        body = text.printable(words.strip()) or "(empty)"
        lines += [(line, False) for line in text.wrap(body, width, _FONT, style.DPI)]
    if len(lines) > _MOST_LINES:
        rest = len(lines) - _MOST_LINES + 1
        lines = [*lines[: _MOST_LINES - 1], (f"… and {rest} more lines", True)]
    return lines
