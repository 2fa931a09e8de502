"""Pictures of the controlled drives: one cause on a bare road, large enough for 64 x 64 pixels."""

import dataclasses
import functools

import numpy as np

from alpamayo_jax.sim.camera import CameraSpec, View, make_view
from alpamayo_jax.sim.ground import Look, make_look
from alpamayo_jax.sim.solids import draw, make_solids, part, to_ego
from alpamayo_jax.types import InputError

LENS = CameraSpec("front", 1, 20.0, "pinhole", pitch=1.5)
SIZE = (64, 64)
_LANE = 1.75  # metres from the middle of the lane to its edges
_LIGHTS = {"red": (235.0, 30.0, 25.0), "green": (40.0, 230.0, 90.0)}


@dataclasses.dataclass(frozen=True)
class Box:
    """A road user over time.

    Attributes:
      category: as in `AgentTable`.
      x, y, yaw: [N], its centre in the world.
      lwh: length, width, height.
      paint: RGB in [0, 1].
    """

    category: str
    x: np.ndarray
    y: np.ndarray
    yaw: np.ndarray
    lwh: tuple[float, float, float]
    paint: tuple[float, float, float]


@functools.cache
def _view() -> View:
    return make_view(LENS, *SIZE)


@functools.cache
def _look() -> Look:
    return make_look(3)


class PictureReader:
    """Reads the frames of a clip; one is drawn when it is asked for."""

    size = SIZE

    def __init__(
        self, poses: np.ndarray, boxes: list[Box], light: str | None, line: float, seed: int
    ):
        """Remembers what is drawn.

        Args:
          poses: [N, 3], x, y and heading of the ego.
          boxes: the others at the same times.
          light: colour of a traffic light, or None.
          line: x where it stands.
          seed: of brightness and grain.
        """
        self._poses, self._boxes, self._light, self._line = poses, boxes, light, line
        self._seed = seed

    def __call__(self, frame: int) -> np.ndarray:
        """uint8 [height, width, 3]; raises `InputError` for a frame outside the clip."""
        if not 0 <= frame < len(self._poses):
            raise InputError(
                f"camera {LENS.name!r} has frames 0 to {len(self._poses) - 1}, asked for {frame}"
            )
        view, look = _view(), _look()
        pose = tuple(float(value) for value in self._poses[frame])
        image = _road(view, look, pose)
        rows = [row for box in self._boxes for row in _solid(box, frame)]
        draw(view, look, to_ego(make_solids(rows + self._signal()), pose), pose[2], image)
        rng = np.random.default_rng([self._seed, frame])
        image = image * rng.uniform(0.96, 1.04) + rng.normal(0, 4, image.shape)
        return np.clip(np.moveaxis(image, 0, -1), 0, 255).astype(np.uint8)

    def _signal(self) -> list[tuple]:
        if self._light is None:
            return []
        place = (self._line, 0.0, 0.0)
        return [
            part(place, (0.1, 0.0, 4.2), (0.1, 1.7, 1.7), (25.0, 25.0, 25.0)),
            part(place, (0.0, 0.0, 4.2), (0.1, 1.3, 1.3), _LIGHTS[self._light], True),
        ]


def _solid(box: Box, frame: int) -> list[tuple]:
    """A body, and darker glass or a head on it."""
    length, width, height = box.lwh
    place = (float(box.x[frame]), float(box.y[frame]), float(box.yaw[frame]))
    if box.category == "PEDESTRIAN":
        return [
            part(place, (0, 0, 0.7), (length, width, 1.4), (250.0, 200.0, 20.0)),
            part(place, (0, 0, 1.6), (0.4, 0.4, 0.4), (240.0, 180.0, 140.0), False, True),
        ]
    paint = tuple(255.0 * np.asarray(box.paint))
    return [
        part(place, (0, 0, 0.35 * height), (length, width, 0.7 * height), paint),
        part(place, (0, 0, 0.85 * height), (0.7 * length, 0.9 * width, 0.3 * height), (30, 36, 44)),
    ]


def _road(view: View, look: Look, pose: tuple[float, float, float]) -> np.ndarray:
    """Sky, asphalt and lane edges: float32 [3, height, width]."""
    image = np.empty((3, view.height, view.width), np.float32)
    image[:] = look.horizon[:, None, None]
    x, y = view.ground
    across = pose[1] + np.sin(pose[2]) * x + np.cos(pose[2]) * y
    grass, asphalt, paint = (c[:, None, None] for c in (look.grass, look.asphalt, look.paint))
    ground = np.where(np.abs(across) < 3 * _LANE, asphalt, grass)
    edge = np.abs(np.abs(across) - _LANE) < 0.12 + 0.004 * view.distance
    ground = np.where(edge, paint, ground)
    image[:, view.top :] = np.where(view.is_ground, ground, image[:, view.top :])
    return image
