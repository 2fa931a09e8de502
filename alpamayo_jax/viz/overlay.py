"""Trajectories drawn onto the road in a camera image.

A trajectory is a line of ego origins in the ego frame at t0. It is lowered to the road, given a
width in metres there and projected, so that perspective narrows it and a bend of the lens bends it.
"""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

from alpamayo_jax.clip import Camera
from alpamayo_jax.ops import camera as geometry
from alpamayo_jax.types import InputError
from alpamayo_jax.viz import style

_NEAR = 0.3  # metres; road nearer to the camera than this is not drawn
_STEP = 0.25  # metres between points of a line before projection
_STRIP = 0.15  # metres
_SUPERSAMPLE = 3
_FAR_PIXEL = 1e5


@dataclasses.dataclass(frozen=True)
class Ribbon:
    """One line on the road.

    Attributes:
      xyz: [W, 3] metres, ego frame at t0; the ego origin itself is put before it.
      color: red, green, blue in [0, 1].
      alpha: opacity in (0, 1].
      width: metres on the road.
      min_pixels: least width in pixels of the output, however far away.
    """

    xyz: np.ndarray
    color: style.Color
    alpha: float = 0.8
    width: float = 0.14
    min_pixels: float = 2.5


def project_to_image(
    camera: Camera, xyz: np.ndarray, ground_z: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of points on the road.

    Args:
      camera: the camera.
      xyz: [..., N, 3] metres, ego frame.
      ground_z: height of the road below the ego origin (0 or negative), added to z.

    Returns:
      (uv float64 [..., N, 2], seen bool [..., N]): seen where the point is in front of the camera
      and inside the image.
    """
    uv, valid = _project(camera, np.asarray(xyz, np.float64), ground_z)
    size = np.array([camera.width, camera.height])
    return uv, valid & ((uv >= -0.5) & (uv < size - 0.5)).all(-1)


def draw_ribbons(
    image: np.ndarray,
    camera: Camera,
    ribbons: list[Ribbon],
    ground_z: float = 0.0,
    width: int | None = None,
) -> np.ndarray:
    """Draws ribbons in the given order, later ones on top.

    Args:
      image: uint8 [height, width, 3] of `camera`.
      camera: lens and mount of the image.
      ribbons: what to draw.
      ground_z: as in `project_to_image`.
      width: width of the result in pixels; None keeps the image's own. Enlarging before drawing
        keeps lines crisp on small images.

    Returns:
      uint8 [out_height, out_width, 3].

    Raises:
      InputError: the image does not have the camera's size, or a trajectory is not finite.
    """
    expected = (camera.height, camera.width, 3)
    if image.shape != expected or image.dtype != np.uint8:
        raise InputError(
            f"picture: frame of camera {camera.name!r} must be uint8 {list(expected)}, "
            f"got {image.dtype} {list(image.shape)}"
        )
    scale = 1.0 if width is None else width / camera.width
    size = (round(camera.width * scale), max(1, round(camera.height * scale)))
    canvas = Image.fromarray(image)
    if size != canvas.size:
        canvas = canvas.resize(size, Image.Resampling.LANCZOS)
    out = np.asarray(canvas, np.float32)
    for i, ribbon in enumerate(ribbons):
        xyz = style.checked(f"trajectory {i}", ribbon.xyz, (None, 3))
        coverage = _coverage(camera, xyz, ribbon, ground_z, scale, size)[..., None] * ribbon.alpha
        out = out + coverage * (255.0 * np.asarray(ribbon.color, np.float32) - out)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def draw_trajectories(
    image: np.ndarray,
    camera: Camera,
    samples_xyz: np.ndarray,
    future_xyz: np.ndarray | None = None,
    ground_z: float = 0.0,
    width: int | None = None,
) -> np.ndarray:
    """Draws the recorded future as a broad green band and the samples as coloured lines over it.

    Args:
      image, camera, ground_z, width: as in `draw_ribbons`.
      samples_xyz: [K, W, 3] metres, ego frame at t0; K may be 0.
      future_xyz: [W, 3], or None where it is not known.

    Returns:
      uint8 [out_height, out_width, 3].
    """
    samples = style.checked("samples_xyz", samples_xyz, (None, None, 3))
    ribbons = []
    if future_xyz is not None:
        future = style.checked("future_xyz", future_xyz, (None, 3))
        ribbons.append(Ribbon(future, style.RECORDED, alpha=0.45, width=1.0, min_pixels=5.0))
    colors = style.sample_colors(len(samples))
    alpha = 0.85 if len(samples) <= 8 else 0.6
    ribbons += [Ribbon(xyz, color, alpha=alpha) for xyz, color in zip(samples, colors)]
    return draw_ribbons(image, camera, ribbons, ground_z, width)


def _project(camera: Camera, xyz: np.ndarray, ground_z: float) -> tuple[np.ndarray, np.ndarray]:
    points = geometry.camera_from_ego(xyz + np.array([0, 0, ground_z]), camera.ego_from_camera)
    uv, valid = geometry.project(points, camera.intrinsics)
    # A ray more than 90 degrees off the axis has negative depth and is still seen by a fisheye.
    return uv, valid & (np.linalg.norm(points, axis=-1) > _NEAR)


def _coverage(
    camera: Camera,
    xyz: np.ndarray,
    ribbon: Ribbon,
    ground_z: float,
    scale: float,
    size: tuple[int, int],
) -> np.ndarray:
    """How much of each pixel the ribbon covers: float32 [height, width] in [0, 1]."""
    fine = (size[0] * _SUPERSAMPLE, size[1] * _SUPERSAMPLE)
    mask = Image.new("L", fine)
    line = _resample(np.concatenate([np.zeros((1, 3)), xyz]))
    if len(line) > 1:
        # Narrow strips, so that little is lost where only part of the width is in front of the lens.
        strips = 2 * max(1, int(np.ceil(ribbon.width / 2 / _STRIP)))
        across = np.linspace(-0.5, 0.5, strips + 1)[:, None, None] * ribbon.width
        uv, valid = _project(camera, line + across * _left_normals(line), ground_z)
        uv = ((uv + 0.5) * scale * _SUPERSAMPLE - 0.5).clip(-_FAR_PIXEL, _FAR_PIXEL)
        draw = ImageDraw.Draw(mask)
        whole = valid[1:, 1:] & valid[1:, :-1] & valid[:-1, 1:] & valid[:-1, :-1]
        for j, i in np.argwhere(whole):
            corners = uv[[j, j, j + 1, j + 1], [i, i + 1, i + 1, i]]
            draw.polygon([tuple(corner) for corner in corners], fill=255)
        thickness = max(1, round(ribbon.min_pixels * _SUPERSAMPLE))
        centre = strips // 2
        for i in np.flatnonzero(valid[centre, 1:] & valid[centre, :-1]):
            draw.line([tuple(uv[centre, i]), tuple(uv[centre, i + 1])], fill=255, width=thickness)
    return np.asarray(mask.resize(size, Image.Resampling.BOX), np.float32) / 255.0


def _resample(line: np.ndarray) -> np.ndarray:
    """The same line with points every `_STEP` metres; a line shorter than one step is empty."""
    steps = np.linalg.norm(np.diff(line, axis=0), axis=-1)
    keep = np.concatenate([[True], steps > 1e-6])
    line, length = line[keep], np.concatenate([[0.0], np.cumsum(steps[keep[1:]])])
    if length[-1] < _STEP:
        return line[:0]
    at = np.linspace(0.0, length[-1], min(2000, 1 + int(np.ceil(length[-1] / _STEP))))
    return np.stack([np.interp(at, length, line[:, i]) for i in range(3)], -1)


def _left_normals(line: np.ndarray) -> np.ndarray:
    """[N, 3] horizontal unit vectors to the left of the line."""
    tangent = np.gradient(line[:, :2], axis=0)
    norm = np.linalg.norm(tangent, axis=-1, keepdims=True)
    tangent = np.where(norm > 1e-9, tangent / np.maximum(norm, 1e-9), [1.0, 0.0])
    return np.stack([-tangent[:, 1], tangent[:, 0], np.zeros(len(line))], -1)
