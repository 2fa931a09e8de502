"""Cameras of the procedural world: lenses, mounts, and what each pixel looks at.

The road is flat and the ego level, so where a pixel's ray meets the ground is the same in the ego
frame at all times: it is tabulated once per camera (`View`) and each frame only moves it.
Ego frame: x forward, y left, z up, origin on the ground below the rear axle. Metres.
"""

import dataclasses

import numpy as np

from alpamayo_jax.clip import FTheta, Pinhole
from alpamayo_jax.config import ConfigError
from alpamayo_jax.ops.camera import check_ftheta, pixel_rays

HORIZON = 600.0  # metres; ground further away is drawn at this distance
# Lens frame of a level camera that looks along x of the ego: columns are its x, y, z axes.
_EGO_FROM_LENS = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclasses.dataclass(frozen=True)
class CameraSpec:
    """One camera of the rig.

    Attributes:
      name: name in the clip.
      index: index in the release's camera map.
      hfov: horizontal field of view, degrees.
      model: "pinhole" or "ftheta".
      position: mount in the ego frame.
      yaw, pitch: degrees; yaw to the left, pitch up.
    """

    name: str
    index: int
    hfov: float
    model: str = "ftheta"
    position: tuple[float, float, float] = (1.7, 0.0, 1.5)
    yaw: float = 0.0
    pitch: float = 0.0

    def __post_init__(self):
        limit = 170.0 if self.model == "pinhole" else 200.0
        if self.model not in ("pinhole", "ftheta") or not 0.0 < self.hfov < limit:
            raise ConfigError(
                f"camera {self.name!r}: model must be 'pinhole' or 'ftheta' and hfov in degrees in "
                f"(0, {limit:.0f}), got {self.model!r}, {self.hfov}"
            )
        if self.position[2] <= 0.0:
            raise ConfigError(f"camera {self.name!r}: must be above the road, got {self.position}")


# The default: one front camera, narrower than the release's so that small images show far things.
FRONT = CameraSpec("front", 1, 76.0, "pinhole", pitch=-6.0)
# The seven places of the release's rig.
RIG = (
    CameraSpec("camera_cross_left_120fov", 0, 120.0, position=(1.9, 0.95, 1.2), yaw=55.0),
    CameraSpec("camera_front_wide_120fov", 1, 120.0),
    CameraSpec("camera_cross_right_120fov", 2, 120.0, position=(1.9, -0.95, 1.2), yaw=-55.0),
    CameraSpec("camera_rear_left_70fov", 3, 70.0, position=(1.8, 0.95, 1.1), yaw=150.0),
    CameraSpec("camera_rear_tele_30fov", 4, 30.0, position=(-0.6, 0.0, 1.4), yaw=180.0),
    CameraSpec("camera_rear_right_70fov", 5, 70.0, position=(1.8, -0.95, 1.1), yaw=-150.0),
    CameraSpec("camera_front_tele_30fov", 6, 30.0),
)

# Number of cameras -> rig: one in front, the four of the release's prompts, all around.
RIGS = {1: (FRONT,), 4: (*RIG[:3], RIG[6]), 7: RIG}


def intrinsics(spec: CameraSpec, width: int, height: int) -> Pinhole | FTheta:
    """Intrinsics in pixels for an image of this size; the optical axis is in its middle."""
    half, cx, cy = np.radians(spec.hfov) / 2, (width - 1) / 2, (height - 1) / 2
    if spec.model == "pinhole":
        focal = float(width / 2 / np.tan(half))
        return Pinhole(focal, focal, cx, cy)
    # A little compression towards the rim, as wide lenses have.
    linear = float(width / 2 / (half - 0.02 * half**3))
    poly = (0.0, linear, 0.0, -0.02 * linear, 0.0)
    corner = float(np.hypot(width, height) / 2)
    angles = np.linspace(half, 2.5, 400)
    radius = linear * (angles - 0.02 * angles**3)
    reached = np.nonzero(radius >= corner)[0]
    max_angle = float(angles[reached[0]] if len(reached) else angles[-1])
    check_ftheta(poly, max_angle)
    return FTheta(cx, cy, poly, max_angle)


def extrinsics(spec: CameraSpec) -> np.ndarray:
    """ego_from_camera, float64 [4, 4]."""
    yaw, pitch = np.radians(spec.yaw), np.radians(spec.pitch)
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    cos, sin = np.cos(pitch), np.sin(pitch)
    lift = np.array([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ lift @ _EGO_FROM_LENS
    matrix[:3, 3] = spec.position
    return matrix


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """What each pixel of a camera looks at, in the ego frame.

    Attributes:
      width, height: pixels.
      intrinsics: the lens.
      ego_from_camera: float64 [4, 4].
      origin: float32 [3], the lens.
      rays: float32 [height, width, 3], length 1.
      seen: bool [height, width]; False where the lens sees nothing.
      azimuth: float32 [height, width], radians to the left of ego x.
      top: first row with ground in it (height if none).
      ground: float32 [2, height - top, width]; x and y where the ray meets the road.
      distance: float32 [height - top, width], from lens to ground, metres, at most `HORIZON`.
      is_ground: bool [height - top, width].
    """

    width: int
    height: int
    intrinsics: Pinhole | FTheta
    ego_from_camera: np.ndarray
    origin: np.ndarray
    rays: np.ndarray
    seen: np.ndarray
    azimuth: np.ndarray
    top: int
    ground: np.ndarray
    distance: np.ndarray
    is_ground: np.ndarray


def make_view(spec: CameraSpec, width: int, height: int) -> View:
    """Tabulates a camera.

    Raises:
      ConfigError: an image smaller than 16 pixels on a side.
    """
    if min(width, height) < 16:
        raise ConfigError(
            f"camera {spec.name!r}: image must be at least 16 x 16 pixels, got {width} x {height}"
        )
    lens, pose = intrinsics(spec, width, height), extrinsics(spec)
    rays, seen = pixel_rays(width, height, lens)
    rays = rays @ pose[:3, :3].T
    down = -rays[..., 2] > 1e-4
    top = int(np.argmax(down.any(1))) if down.any() else height
    rays, down = rays.astype(np.float32), down[top:]
    below = rays[top:]
    distance = np.full(down.shape, HORIZON, np.float32)
    np.divide(np.float32(pose[2, 3]), -below[..., 2], out=distance, where=down)
    distance = np.minimum(distance, np.float32(HORIZON))
    start = pose[:2, 3].astype(np.float32)[:, None, None]
    ground = start + distance * np.moveaxis(below[..., :2], -1, 0)
    return View(
        width=width,
        height=height,
        intrinsics=lens,
        ego_from_camera=pose,
        origin=pose[:3, 3].astype(np.float32),
        rays=rays,
        seen=seen,
        azimuth=np.arctan2(rays[..., 1], rays[..., 0]),
        top=top,
        ground=np.ascontiguousarray(ground),
        distance=distance,
        is_ground=down & seen[top:],
    )
