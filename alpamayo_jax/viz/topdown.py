"""A quick drawing from above: metres in, pixels out; for the many frames of a video."""

import functools
import math

import matplotlib.font_manager
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from alpamayo_jax.viz import style, text

_SMOOTH = 2  # drawn so many times larger, then reduced


class TopDown:
    """A square of the plane around a pose, its heading up.

    Args:
      pose: x, y, yaw of the middle.
      size: width and height in pixels.
      reach: metres from the middle to the left and the right edge.
      behind: how far below the middle of the picture the pose is, as a share of its height.
    """

    def __init__(
        self, pose: np.ndarray, size: tuple[int, int], reach: float = 40.0, behind: float = 0.2
    ):
        self._x, self._y, self._yaw = (float(v) for v in pose)
        self._size, self._scale = size, _SMOOTH * size[0] / (2 * reach)
        self._image = Image.new("RGB", (size[0] * _SMOOTH, size[1] * _SMOOTH), (255, 255, 255))
        self._draw = ImageDraw.Draw(self._image)
        self._middle = self._image.width / 2, self._image.height * (0.5 + behind)

    def polygon(self, points: np.ndarray, color: style.Color) -> None:
        """A filled polygon [N, 2]."""
        if len(points) > 2:
            self._draw.polygon(self._pixels(points), fill=_rgb(color))

    def line(self, points: np.ndarray, color: style.Color, width: float = 1.5) -> None:
        """A polyline [N, 2], `width` in pixels."""
        if len(points) > 1:
            thick = max(1, round(width * _SMOOTH))
            self._draw.line(self._pixels(points), fill=_rgb(color), width=thick, joint="curve")

    def box(self, pose: np.ndarray, length: float, width: float, color: style.Color) -> None:
        """A box around its centre pose, with a line from its middle to its front."""
        cos, sin = math.cos(pose[2]), math.sin(pose[2])
        turn = np.array([[cos, -sin], [sin, cos]])
        corners = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) * (length / 2, width / 2)
        self.polygon(corners @ turn.T + pose[:2], color)
        nose = np.array([(0.0, 0.0), (length / 2, 0.0)]) @ turn.T + pose[:2]
        self.line(nose, (1.0, 1.0, 1.0), 1.0)

    def dot(self, point: np.ndarray, color: style.Color, radius: float = 4.0) -> None:
        """A dot of `radius` pixels at [2]."""
        (x, y), r = self._pixels(np.asarray(point)[None])[0], radius * _SMOOTH
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=_rgb(color))

    def pixels(self) -> np.ndarray:
        """uint8 [height, width, 3]."""
        return np.asarray(self._image.resize(self._size, Image.Resampling.BOX))

    def _pixels(self, points: np.ndarray) -> list[tuple[float, float]]:
        dx, dy = points[:, 0] - self._x, points[:, 1] - self._y
        cos, sin = math.cos(self._yaw), math.sin(self._yaw)
        ahead, left = cos * dx + sin * dy, cos * dy - sin * dx
        # Far points would overflow the drawing's own integers.
        ahead, left = np.clip(ahead, -1e4, 1e4), np.clip(left, -1e4, 1e4)
        u = self._middle[0] - self._scale * left
        v = self._middle[1] - self._scale * ahead
        return list(zip(u.tolist(), v.tolist()))


def caption(lines: list[str], size: tuple[int, int], points: float = 15.0) -> np.ndarray:
    """uint8 [height, width, 3]: wrapped lines of text on white; what does not fit is cut."""
    image = Image.new("RGB", size, (255, 255, 255))
    draw, y = ImageDraw.Draw(image), 6
    step = round(points * 1.5)
    for line in lines:
        for part in text.wrap(text.printable(line), size[0] - 16, points, 72) or [""]:
            if y + step > size[1]:
                return np.asarray(image)
            draw.text((8, y), part, fill=_rgb(style.INK), font=_font(points))
            y += step
    return np.asarray(image)


@functools.cache
def _font(points: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(matplotlib.font_manager.findfont(text.FONT), points)


def _rgb(color: style.Color) -> tuple[int, int, int]:
    return tuple(round(255 * part) for part in color)
