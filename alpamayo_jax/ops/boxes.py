"""Vehicles as rectangles with rounded corners: distances, contacts and where they are hit.

A box is shrunk a little and its corners are rounded, as in AlpaSim; a rounded rectangle is a
smaller one grown by a radius, so distances are those of the smaller rectangles less both radii.
Metres and radians; every function takes any leading batch dimensions, which broadcast.
"""

import enum

import chex
import flax.struct
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.types import Array

SHRINK = 0.02  # of length and width
ROUNDNESS = 0.5  # of half the shorter side
_ARC = 16  # edges of a quarter circle of a bumper


class Contact(enum.IntEnum):
    """Where a box is touched."""

    NONE = 0
    FRONT = 1
    REAR = 2
    LATERAL = 3


@flax.struct.dataclass
class Box:
    """A rounded rectangle.

    Attributes:
      centre: [..., 2].
      yaw: [...].
      half: [..., 2], half length and width of the rectangle without its rim.
      radius: [...], of the rim and the corners.
    """

    centre: Array
    yaw: Array
    half: Array
    radius: Array


def box(pose: Array, length: Array, width: Array) -> Box:
    """The rounded box of an actor.

    Args:
      pose: [..., 3], x, y of its centre and yaw.
      length: [...], metres along the yaw, before it is shrunk.
      width: [...].
    """
    chex.assert_shape(pose, (..., 3))
    batch = jnp.broadcast_shapes(pose.shape[:-1], jnp.shape(length), jnp.shape(width))
    sides = jnp.stack([jnp.broadcast_to(side, batch) for side in (length, width)], axis=-1)
    sides = sides * (1.0 - SHRINK)
    radius = ROUNDNESS * sides.min(-1) / 2
    return Box(pose[..., :2], pose[..., 2], sides / 2 - radius[..., None], radius)


def centre_pose(pose: Array, rear: Array, length: Array) -> Array:
    """Pose [..., 3] of the centre of a box whose rear face is at x = `rear` of frame `pose`."""
    chex.assert_shape(pose, (..., 3))
    ahead = (rear + length / 2)[..., None]
    direction = jnp.stack([jnp.cos(pose[..., 2]), jnp.sin(pose[..., 2])], axis=-1)
    return jnp.concatenate([pose[..., :2] + ahead * direction, pose[..., 2:]], axis=-1)


def into(frame: Box, points: Array) -> Array:
    """`points` [..., P, 2] seen from the centre of the box along its axes."""
    delta = points - frame.centre[..., None, :]
    cos, sin = jnp.cos(frame.yaw)[..., None], jnp.sin(frame.yaw)[..., None]
    return jnp.stack(
        [cos * delta[..., 0] + sin * delta[..., 1], cos * delta[..., 1] - sin * delta[..., 0]], -1
    )


def out_of(frame: Box, points: Array) -> Array:
    """The inverse of `into`."""
    cos, sin = jnp.cos(frame.yaw)[..., None], jnp.sin(frame.yaw)[..., None]
    x, y = points[..., 0], points[..., 1]
    turned = jnp.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
    return turned + frame.centre[..., None, :]


def corners(of: Box) -> Array:
    """Corners [..., 4, 2] of the rectangle without its rim, counter-clockwise from front left."""
    signs = jnp.asarray([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    return out_of(of, signs * of.half[..., None, :])


def outline(of: Box, per_corner: int = 4) -> Array:
    """Points [..., 4 * per_corner, 2] on the rounded edge, counter-clockwise."""
    angle = np.linspace(0.0, np.pi / 2, per_corner)
    points = []
    for i, sign in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        around = np.stack([np.cos(angle + i * np.pi / 2), np.sin(angle + i * np.pi / 2)], axis=-1)
        corner = of.half[..., None, :] * jnp.asarray(sign, jnp.float32)
        points.append(corner + of.radius[..., None, None] * jnp.asarray(around, jnp.float32))
    return out_of(of, jnp.concatenate(points, axis=-2))


def _outside(points: Array, half: Array) -> Array:
    """Distances [..., P] of points in a rectangle's own frame from the rectangle; 0 inside."""
    beyond = jnp.maximum(jnp.abs(points) - half[..., None, :], 0.0)
    return jnp.sqrt((beyond**2).sum(-1))


def _apart(points: Array, half: Array) -> Array:
    """Whether an axis of a rectangle separates it from the hull of `points`, in its frame."""
    return ((points.min(-2) > half) | (points.max(-2) < -half)).any(-1)


def distance(a: Box, b: Box) -> Array:
    """Metres [...] between two rounded boxes, 0 where they touch or overlap."""
    b_in_a, a_in_b = into(a, corners(b)), into(b, corners(a))
    between = jnp.minimum(_outside(b_in_a, a.half).min(-1), _outside(a_in_b, b.half).min(-1))
    apart = _apart(b_in_a, a.half) | _apart(a_in_b, b.half)
    return jnp.maximum(jnp.where(apart, between, 0.0) - a.radius - b.radius, 0.0)


def segment_distance(of: Box, begin: Array, end: Array) -> Array:
    """Metres [..., P] between a rounded box and segments, 0 where they meet.

    Args:
      of: boxes [...].
      begin: [..., P, 2].
      end: [..., P, 2].
    """
    begin, end = into(of, begin), into(of, end)
    half = of.half[..., None, :]
    along = end - begin
    # A segment meets the rectangle where its stretches within both slabs overlap.
    still = jnp.abs(along) < 1e-9
    safe = jnp.where(still, 1.0, along)
    one, two = (-half - begin) / safe, (half - begin) / safe
    within = jnp.abs(begin) <= half
    enter = jnp.where(still, jnp.where(within, 0.0, 2.0), jnp.minimum(one, two)).max(-1)
    leave = jnp.where(still, 1.0, jnp.maximum(one, two)).min(-1)
    meets = (jnp.maximum(enter, 0.0) <= jnp.minimum(leave, 1.0))
    ends = jnp.minimum(_outside(begin, of.half), _outside(end, of.half))
    signs = jnp.asarray([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    corner = signs * half[..., None, :]  # [..., 1, 4, 2]
    delta = corner - begin[..., None, :]
    squared = jnp.maximum((along**2).sum(-1), 1e-12)[..., None]
    at = jnp.clip((delta * along[..., None, :]).sum(-1) / squared, 0.0, 1.0)
    miss = delta - at[..., None] * along[..., None, :]
    nearest = jnp.minimum(ends, jnp.sqrt((miss**2).sum(-1)).min(-1))
    return jnp.maximum(jnp.where(meets, 0.0, nearest) - of.radius[..., None], 0.0)


def _bumper(of: Box, front: bool) -> Array:
    """Polygon [..., 34, 2] of the part of a box within its radius of its front (or rear) face."""
    angle = np.linspace(0.0, np.pi / 2, _ARC + 1)
    rim = jnp.asarray(np.stack([np.cos(angle), np.sin(angle)], -1), jnp.float32)
    left = of.half[..., None, :] + of.radius[..., None, None] * rim
    right = left[..., ::-1, :] * jnp.asarray([1.0, -1.0])
    points = jnp.concatenate([right, left], axis=-2)
    return out_of(of, points if front else -points)


def _polygon_distance(polygon: Array, of: Box) -> Array:
    """Metres [...] between a convex counter-clockwise polygon [..., V, 2] and a rounded box."""
    own = into(of, polygon)
    following = jnp.roll(own, -1, axis=-2)
    edge = following - own
    signs = jnp.asarray([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    corner = (signs * of.half[..., None, :])[..., None, :, :]  # [..., 1, 4, 2]
    delta = corner - own[..., None, :]  # [..., V, 4, 2]
    squared = (edge**2).sum(-1)
    at = (delta * edge[..., None, :]).sum(-1) / jnp.maximum(squared, 1e-12)[..., None]
    miss = delta - jnp.clip(at, 0.0, 1.0)[..., None] * edge[..., None, :]
    between = jnp.minimum(
        _outside(own, of.half).min(-1), jnp.sqrt((miss**2).sum(-1)).min((-2, -1))
    )
    side = edge[..., 1:2] * delta[..., 0] - edge[..., 0:1] * delta[..., 1]  # above 0: outside
    separating = (side.min(-1) > 0) & (squared > 1e-12)
    apart = separating.any(-1) | _apart(own, of.half)
    return jnp.maximum(jnp.where(apart, between, 0.0) - of.radius, 0.0)


def contact(ego: Box, other: Box) -> Array:
    """`Contact` int32 [...]: front bumper first, then rear bumper, then any other overlap."""
    hit = distance(ego, other) <= 0
    front = _polygon_distance(_bumper(ego, True), other) <= 0
    rear = _polygon_distance(_bumper(ego, False), other) <= 0
    where = jnp.where(front, Contact.FRONT, jnp.where(rear, Contact.REAR, Contact.LATERAL))
    return jnp.where(hit, where, Contact.NONE).astype(jnp.int32)
