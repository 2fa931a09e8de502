"""Rotations of a vehicle on a plane: headings, rotation matrices, angle arithmetic.

Angles are radians, counter-clockwise seen from above (ego frame: x forward, y left, z up).
"""

import chex
import jax.numpy as jnp

from alpamayo_jax.types import Array


def yaw_from_rot(rot: Array) -> Array:
    """Heading of rotation matrices `rot` [..., 3, 3]: radians in (-pi, pi], shape [...]."""
    chex.assert_shape(rot, (..., 3, 3))
    return jnp.arctan2(rot[..., 1, 0], rot[..., 0, 0])


def rot_from_yaw(yaw: Array) -> Array:
    """Rotation about z by `yaw` [...] radians, shape [..., 3, 3]."""
    yaw = jnp.asarray(yaw)
    cos, sin = jnp.cos(yaw), jnp.sin(yaw)
    zero, one = jnp.zeros_like(cos), jnp.ones_like(cos)
    entries = jnp.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], axis=-1)
    return entries.reshape(yaw.shape + (3, 3))


def wrap_angle(angle: Array) -> Array:
    """The same angles in [-pi, pi], any shape."""
    return jnp.arctan2(jnp.sin(angle), jnp.cos(angle))


def unwrap(angles: Array, axis: int = -1) -> Array:
    """Removes jumps of whole turns along `axis`: the first angle plus the wrapped differences."""
    angles = jnp.moveaxis(jnp.asarray(angles), axis, -1)
    first = angles[..., :1]
    steps = wrap_angle(jnp.diff(angles, axis=-1))
    unwrapped = jnp.concatenate([first, first + jnp.cumsum(steps, axis=-1)], axis=-1)
    return jnp.moveaxis(unwrapped, -1, axis)
