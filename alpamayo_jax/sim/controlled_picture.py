"""Pictures of the controlled drives: one cause on a bare road, large enough for 64 x 64 pixels.

A few boxes in one small image: NumPy in any process draws them sooner than the renderer of the
procedural worlds would be compiled there.
"""

import dataclasses
import functools

import numpy as np

from alpamayo_jax.sim.camera import CameraSpec, View, make_view
from alpamayo_jax.sim.looks import Look, make_look
from alpamayo_jax.sim.parts import CENTRE, COLOUR, GLOW, SIZE, YAW, part, placed, table
from alpamayo_jax.types import InputError

LENS = CameraSpec("front", 1, 20.0, "pinhole", pitch=1.5)
_LANE = 1.75  # metres from the middle of the lane to its edges
_LIGHTS = {"red": (235.0, 30.0, 25.0), "green": (40.0, 230.0, 90.0)}
_SHADE = np.array([0.8, 0.65, 1.0], np.float32)  # of faces across x, y and z


@dataclasses.dataclass(frozen=True)
class Box:
    """A road user over time.

    Attributes:
      category: as in `AgentTable`.
      x, y, yaw: [N], its centre in the world.
      lwh: length, width, height.
      paint: RGB, 0 to 255.
      lamps: RGB of what is lit at its rear, or with `front_lit` at its front; None: nothing.
      front_lit: see `lamps`.
    """

    category: str
    x: np.ndarray
    y: np.ndarray
    yaw: np.ndarray
    lwh: tuple[float, float, float]
    paint: tuple[float, float, float]
    lamps: tuple[float, float, float] | None = None
    front_lit: bool = False


@functools.cache
def _view(spec: CameraSpec) -> View:
    return make_view(spec, *PictureReader.size)


@functools.cache
def _look() -> Look:
    return make_look(3, "clear")


class PictureReader:
    """Reads the frames of one camera of a clip; one is drawn when it is asked for."""

    size = (64, 64)

    def __init__(
        self,
        poses: np.ndarray,
        boxes: list[Box],
        light: str | None,
        line: float,
        seed: int,
        spec: CameraSpec = LENS,
    ):
        """Remembers what is drawn.

        Args:
          poses: [N, 3], x, y and heading of the ego.
          boxes: the others at the same times.
          light: colour of a traffic light, or None.
          line: x where it stands.
          seed: of brightness and grain.
          spec: the camera.
        """
        self._poses, self._boxes, self._light, self._line = poses, boxes, light, line
        self._seed, self._spec = seed, spec

    def __call__(self, frame: int) -> np.ndarray:
        """uint8 [height, width, 3]; raises `InputError` for a frame outside the clip."""
        if not 0 <= frame < len(self._poses):
            raise InputError(
                f"camera {self._spec.name!r} has frames 0 to {len(self._poses) - 1}, asked for {frame}"
            )
        pose, view = self._poses[frame], _view(self._spec)
        image = _road(view, pose)
        bodies = [_body(box, frame) for box in self._boxes] + [self._signal()]
        _draw(np.concatenate(bodies), view, pose, image)
        # Each camera has a grain of its own; that of the front camera is that of a clip without others.
        rng = np.random.default_rng([self._seed, frame, (self._spec.index - LENS.index) % 7])
        image = image * rng.uniform(0.96, 1.04) + rng.normal(0, 4, image.shape)
        return np.clip(image, 0, 255).astype(np.uint8)

    def _signal(self) -> np.ndarray:
        if self._light is None:
            return table([])
        rows = [
            part((0.1, 0.0, 4.2), (0.1, 1.7, 1.7), (25.0, 25.0, 25.0)),
            part((0.0, 0.0, 4.2), (0.1, 1.3, 1.3), _LIGHTS[self._light], glow=True),
        ]
        return placed(table(rows), (self._line, 0.0, 0.0))


def _body(box: Box, frame: int) -> np.ndarray:
    """A body with a head, or with darker glass and what is lit."""
    length, width, height = box.lwh
    if box.category == "PEDESTRIAN":
        rows = [
            part((0, 0, 0.7), (length, width, 1.4), box.paint),
            part((0, 0, 1.6), (0.4, 0.4, 0.4), (240.0, 180.0, 140.0)),
        ]
    else:
        rows = [
            part((0, 0, 0.35 * height), (length, width, 0.7 * height), box.paint),
            part((0, 0, 0.85 * height), (0.7 * length, 0.9 * width, 0.3 * height), (30, 36, 44)),
        ]
        if box.lamps is not None:
            end = (0.5 * length if box.front_lit else -0.5 * length, 0, 0.45 * height)
            rows.append(part(end, (0.1, 0.9 * width, 0.5), box.lamps, glow=True))
    place = float(box.x[frame]), float(box.y[frame]), float(box.yaw[frame])
    return placed(table(rows), place)


def _road(view: View, pose: np.ndarray) -> np.ndarray:
    """Sky, asphalt and lane edges: float32 [height, width, 3]."""
    look = _look()
    image = np.broadcast_to(look.horizon, (view.height, view.width, 3)).copy()
    x, y = view.ground
    across = pose[1] + np.sin(pose[2]) * x + np.cos(pose[2]) * y
    edge = np.abs(np.abs(across) - _LANE) < 0.12 + 0.004 * view.distance
    white, asphalt = (look.surfaces[name][:3] for name in ("white", "asphalt"))
    ground = np.where((np.abs(across) < 3 * _LANE)[..., None], asphalt, look.grass)
    ground = np.where(edge[..., None], white, ground)
    image[view.top :] = np.where(view.is_ground[..., None], ground, image[view.top :])
    return image


def _draw(rows: np.ndarray, view: View, pose: np.ndarray, image: np.ndarray):
    """Draws solids of the world over an image, the nearest in front."""
    depth = np.inf
    eye = np.array([*pose[:2], 0.0]) + _turned(view.origin, pose[2])
    rays = _turned(view.rays, pose[2])
    for row in rows:
        start = _turned(eye - row[CENTRE], -row[YAW]) / (row[SIZE] / 2)
        step = _turned(rays, -row[YAW]) / (row[SIZE] / 2)
        # The box is the cube from -1 to 1: a ray is in it between its last entry and first exit.
        step = np.where(np.abs(step) < 1e-9, 1e-9, step)
        enter, leave = np.sort([(-1 - start) / step, (1 - start) / step], axis=0)
        first, face = enter.max(-1), enter.argmax(-1)
        hit = (first < leave.min(-1)) & (first > 0) & (first < depth)
        depth = np.where(hit, first, depth)
        shade = np.maximum(_SHADE, row[GLOW])[face][..., None]
        image[:] = np.where(hit[..., None], shade * row[COLOUR], image)


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Points [..., 3] turned about z, to the left."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([cos * x - sin * y, sin * x + cos * y, z], -1)
