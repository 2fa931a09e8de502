"""Boxes and ellipsoids drawn by ray casting, all of a frame at once, with a depth buffer.

Each solid is tested only against the pixels of its projected bounding rectangle; the pixels of all
solids are one flat array, so the cost follows the pixels covered, not the number of solids.
"""

import dataclasses

import chex
import numpy as np

from alpamayo_jax.clip import Pinhole
from alpamayo_jax.ops.camera import camera_from_ego, project
from alpamayo_jax.sim.camera import View
from alpamayo_jax.sim.ground import Look

_NEAR = 0.1  # metres
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
_EDGES = np.array([(a, b) for a in range(8) for b in range(a) if bin(a ^ b).count("1") == 1])


@dataclasses.dataclass(frozen=True, eq=False)
class Solids:
    """N solids.

    Attributes:
      centre: float64 [N, 3].
      yaw: float64 [N].
      size: float64 [N, 3], full extents.
      colour: float32 [N, 3], 0 to 255.
      glowing: bool [N], drawn at full colour whatever the light.
      round: bool [N], an ellipsoid instead of a box.
    """

    centre: np.ndarray
    yaw: np.ndarray
    size: np.ndarray
    colour: np.ndarray
    glowing: np.ndarray
    round: np.ndarray

    def __getitem__(self, keep: np.ndarray) -> "Solids":
        return Solids(*(getattr(self, field.name)[keep] for field in dataclasses.fields(self)))


def make_solids(rows: list[tuple]) -> Solids:
    """Stacks (centre, yaw, size, colour, glowing, round) rows; an empty list gives N = 0."""
    columns = list(zip(*rows)) if rows else [[]] * 6
    shapes = ((-1, 3), (-1,), (-1, 3), (-1, 3), (-1,), (-1,))
    kinds = (np.float64, np.float64, np.float64, np.float32, bool, bool)
    return Solids(*(np.array(c, k).reshape(s) for c, k, s in zip(columns, kinds, shapes)))


def part(
    place: tuple[float, float, float],
    offset: tuple[float, float, float],
    size: tuple[float, float, float],
    colour: tuple[float, float, float],
    glowing: bool = False,
    ball: bool = False,
) -> tuple:
    """Row for `make_solids`: a solid at `offset` in the frame of an object at place (x, y, yaw)."""
    x, y, yaw = place
    cos, sin = np.cos(yaw), np.sin(yaw)
    east, north = cos * offset[0] - sin * offset[1], sin * offset[0] + cos * offset[1]
    return (x + east, y + north, offset[2]), yaw, size, colour, glowing, ball


def join(parts: list[Solids]) -> Solids:
    """Concatenates solids."""
    names = [field.name for field in dataclasses.fields(Solids)]
    return Solids(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def to_ego(solids: Solids, pose: tuple[float, float, float]) -> Solids:
    """Moves solids from the world frame to the ego frame at pose (x, y, heading)."""
    x, y, heading = pose
    centre = _turn(solids.centre - np.array([x, y, 0.0]), -heading)
    return dataclasses.replace(solids, centre=centre, yaw=solids.yaw - heading)


def _turn(points: np.ndarray, angle: np.ndarray | float) -> np.ndarray:
    """Turns points [..., 3] about z by angles [...], to the left."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = points[..., 0], points[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y, points[..., 2]], -1)


def draw(
    view: View, look: Look, solids: Solids, heading: float, image: np.ndarray, reach: float = 220.0
) -> np.ndarray:
    """Draws solids over an image.

    Args:
      view: the camera.
      look: light and haze.
      solids: in the ego frame.
      heading: of the ego, world (where the sun is).
      image: float32 [3, height, width], changed in place.
      reach: metres beyond which solids are left out.

    Returns:
      depth float32 [height, width]: metres along the ray to the nearest solid, inf where none is.
    """
    chex.assert_shape(image, (3, view.height, view.width))
    depth = np.full(view.height * view.width, np.inf, np.float32)
    solids = solids[np.linalg.norm(solids.centre[:, :2], axis=-1) < reach]
    u0, v0, u1, v1 = _rectangles(view, solids)
    keep = (u1 > u0) & (v1 > v0)
    solids, u0, v0, u1, v1 = solids[keep], u0[keep], v0[keep], u1[keep], v1[keep]
    if len(solids.yaw) == 0:
        return depth.reshape(view.height, view.width)

    width, count = u1 - u0, (u1 - u0) * (v1 - v0)
    owner = np.repeat(np.arange(len(count)), count)
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(place, width[owner])
    pixel = (row + v0[owner]) * view.width + column + u0[owner]
    rays = view.rays.reshape(-1, 3)[pixel]

    hit, distance, light = _cast(view, look, solids, owner, rays, heading)
    owner, pixel, distance, light = owner[hit], pixel[hit], distance[hit], light[hit]
    np.minimum.at(depth, pixel, distance)
    front = distance == depth[pixel]
    owner, pixel, distance, light = owner[front], pixel[front], distance[front], light[front]
    clear = np.exp(-distance / np.float32(look.haze))
    flat = image.reshape(3, -1)
    for channel in range(3):
        colour = solids.colour[owner, channel] * light
        flat[channel, pixel] = look.air[channel] + clear * (colour - look.air[channel])
    return depth.reshape(view.height, view.width)


def _cast(view, look, solids, owner, rays, heading):
    """Nearest intersection of each ray with its solid: (hit, distance, light), each [pixels]."""
    start = _turn(view.origin - solids.centre, -solids.yaw)
    sun = _turn(np.broadcast_to(look.sun, start.shape), -solids.yaw - heading)
    half = solids.size / 2
    # In units of the half extents a box is a cube and an ellipsoid a ball, both of radius 1.
    start = (start / half).astype(np.float32)
    cos, sin = (f(solids.yaw).astype(np.float32)[owner] for f in (np.cos, np.sin))
    scale = (1.0 / half).astype(np.float32)[owner]
    direction = np.stack(
        [cos * rays[:, 0] + sin * rays[:, 1], cos * rays[:, 1] - sin * rays[:, 0], rays[:, 2]], -1
    )
    direction *= scale
    light = np.empty(len(owner), np.float32)
    distance = np.empty(len(owner), np.float32)
    hit = np.empty(len(owner), bool)
    ball = solids.round[owner]

    at = owner[~ball]
    near = -np.sign(start)  # the face that looks at the lens; the lens is outside a solid
    direction_box = np.where(direction[~ball] == 0.0, np.float32(1e-9), direction[~ball])
    inverse = 1.0 / direction_box
    enter = (-np.sign(direction_box) - start[at]) * inverse
    leave = (np.sign(direction_box) - start[at]) * inverse
    axis = np.argmax(enter, -1)
    first = np.take_along_axis(enter, axis[:, None], -1)[:, 0]
    hit[~ball] = (first < leave.min(-1)) & (first > _NEAR)
    distance[~ball] = first
    faces = look.ambient + (1.25 - look.ambient) * np.maximum(-near * sun, 0.0)
    light[~ball] = faces.astype(np.float32)[at, axis]

    at = owner[ball]
    if len(at):
        along = direction[ball]
        a = (along * along).sum(-1)
        b = (along * start[at]).sum(-1)
        c = (start * start).sum(-1)[at] - 1.0
        root = b * b - a * c
        first = (-b - np.sqrt(np.maximum(root, 0.0))) / a
        normal = (start[at] + first[:, None] * along) * scale[ball]
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        facing = (normal * sun.astype(np.float32)[at]).sum(-1)
        hit[ball] = (root > 0.0) & (first > _NEAR)
        distance[ball] = first
        light[ball] = look.ambient + (1.25 - look.ambient) * np.maximum(facing, 0.0)
    return hit, distance, np.where(solids.glowing[owner], np.float32(1.0), light)


def _rectangles(view: View, solids: Solids) -> tuple[np.ndarray, ...]:
    """Pixel rectangles [u0, u1) x [v0, v1), each int [N], that hold the solids' images."""
    corners = _turn(_CORNERS * solids.size[:, None], solids.yaw[:, None]) + solids.centre[:, None]
    corners = camera_from_ego(corners.reshape(-1, 3), view.ego_from_camera).reshape(-1, 8, 3)
    a, b = corners[:, _EDGES[:, 0]], corners[:, _EDGES[:, 1]]
    if isinstance(view.intrinsics, Pinhole):
        # Cut each edge at the near plane, behind which a pinhole cannot project.
        rise = b[..., 2] - a[..., 2]
        cut = np.clip((_NEAR - a[..., 2]) / np.where(rise == 0.0, 1.0, rise), 0.0, 1.0)[..., None]
        crossing = a + cut * (b - a)
        a, b = (np.where(p[..., 2:] < _NEAR, crossing, p) for p in (a, b))
        points = np.concatenate([a, b], 1)
        behind = points[..., 2] < _NEAR - 1e-6
    else:
        points = np.concatenate([a, (a + b) / 2, b], 1)
        # Beyond the rim, what counts is where on the rim the solid would enter.
        limit = 0.999 * view.intrinsics.max_angle
        radius = np.hypot(points[..., 0], points[..., 1])
        angle = np.arctan2(radius, points[..., 2])
        behind = angle > limit + 0.7
        far = (angle > limit)[..., None]
        side = points[..., :2] / np.maximum(radius, 1e-9)[..., None] * np.sin(limit)
        rim = np.concatenate([side, np.full_like(side[..., :1], np.cos(limit))], -1)
        points = np.where(far, rim, points)
    uv, valid = project(points, view.intrinsics)
    valid = (valid & ~behind)[..., None]
    low = np.where(valid, uv, np.inf).min(1)
    high = np.where(valid, uv, -np.inf).max(1)
    # Edges are curves under f-theta: leave room for what they bulge.
    room = 1.0 if isinstance(view.intrinsics, Pinhole) else 1.0 + 0.06 * np.maximum(high - low, 0.0)
    size = np.array([view.width, view.height])
    low = np.clip(np.floor(np.nan_to_num(low - room, posinf=1e6)), 0, size).astype(np.int64)
    high = np.clip(np.ceil(np.nan_to_num(high + room + 1.0, neginf=-1e6)), 0, size).astype(np.int64)
    return low[:, 0], low[:, 1], high[:, 0], high[:, 1]
