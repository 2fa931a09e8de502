"""Whether rectangles in the plane overlap, by separating axes.

A box is (x, y, yaw, length, width): its centre in metres, radians counter-clockwise, the length
along the yaw. Works on NumPy and JAX arrays alike.
"""

import chex
import jax
import numpy as np

from alpamayo_jax.types import Array


def overlap(first: Array, second: Array) -> Array:
    """Whether boxes overlap; boxes that only touch do not.

    Two convex shapes are apart exactly where a line along one of their sides lies between them.

    Args:
      first: float [..., 5].
      second: float [..., 5]; leading dimensions broadcast.

    Returns:
      bool [...].
    """
    chex.assert_shape((first, second), (..., 5))
    xp = jax.numpy if isinstance(first, jax.Array) or isinstance(second, jax.Array) else np
    dx = second[..., 0] - first[..., 0]
    dy = second[..., 1] - first[..., 1]
    turn = second[..., 2] - first[..., 2]
    cos, sin = xp.abs(xp.cos(turn)), xp.abs(xp.sin(turn))
    meets = True
    for one, other in ((first, second), (second, first)):
        c, s = xp.cos(one[..., 2]), xp.sin(one[..., 2])
        along, across = xp.abs(dx * c + dy * s), xp.abs(dy * c - dx * s)
        length, width = other[..., 3], other[..., 4]
        meets = meets & (2 * along < one[..., 3] + length * cos + width * sin)
        meets = meets & (2 * across < one[..., 4] + length * sin + width * cos)
    return meets
