"""Points, polylines and polygons of a plane.

A polyline or polygon is padded by repeating its last point; the edges of no length that this makes
do not matter to any function here. Every function is about one point and one line; `jax.vmap` does
the rest.
"""

import chex
import jax.numpy as jnp

from alpamayo_jax.types import Array


def _feet(point: Array, line: Array) -> tuple[Array, Array, Array]:
    """(squared distance [P - 1], place on the edge in [0, 1], edge [P - 1, 2]) of every edge."""
    edge = line[1:] - line[:-1]
    delta = point - line[:-1]
    squared = jnp.maximum((edge**2).sum(-1), 1e-12)
    at = jnp.clip((delta * edge).sum(-1) / squared, 0.0, 1.0)
    miss = delta - at[:, None] * edge
    return (miss**2).sum(-1), at, edge


def line_distance(point: Array, line: Array) -> Array:
    """Metres [] from `point` [2] to `line` [P, 2]."""
    chex.assert_shape(point, (2,))
    chex.assert_shape(line, (None, 2))
    return jnp.sqrt(_feet(point, line)[0].min())


def lengths(line: Array) -> Array:
    """Length from the start of `line` [P, 2] to each of its points: [P]."""
    steps = jnp.sqrt(((line[1:] - line[:-1]) ** 2).sum(-1))
    return jnp.concatenate([jnp.zeros_like(steps[:1]), jnp.cumsum(steps)])


def project(point: Array, line: Array) -> tuple[Array, Array, Array]:
    """The place on `line` [P, 2] nearest to `point` [2], the first of several.

    Returns:
      (metres along the line, metres off it to the left, heading of the line there), each [].
    """
    chex.assert_shape(point, (2,))
    chex.assert_shape(line, (None, 2))
    squared, at, edge = _feet(point, line)
    length = jnp.sqrt((edge**2).sum(-1))
    # Edges of no length have no heading; their ends belong to other edges.
    squared = jnp.where(length > 1e-6, squared, jnp.inf)
    i = jnp.argmin(squared)
    delta = point - line[i]
    left = edge[i, 0] * delta[1] - edge[i, 1] * delta[0]
    off = jnp.where(left < 0, -1.0, 1.0) * jnp.sqrt(_feet(point, line)[0][i])
    heading = jnp.arctan2(edge[i, 1], edge[i, 0])
    return (jnp.cumsum(length) - length)[i] + at[i] * length[i], off, heading


def interpolate(line: Array, along: Array) -> tuple[Array, Array]:
    """Points [..., 2] and headings [...] `along` [...] metres from the start of `line` [P, 2].

    Beyond an end the first or last edge goes straight on.
    """
    chex.assert_shape(line, (None, 2))
    edge = line[1:] - line[:-1]
    length = jnp.sqrt((edge**2).sum(-1))
    end = jnp.cumsum(length)
    real = length > 1e-6
    last = jnp.where(real, jnp.arange(len(length)), 0).max()
    i = jnp.minimum(jnp.searchsorted(end, along, side="right"), last)
    unit = edge / jnp.maximum(length, 1e-9)[:, None]
    rest = along - (end - length)[i]
    return line[i] + rest[..., None] * unit[i], jnp.arctan2(unit[i, 1], unit[i, 0])


def inside(point: Array, polygon: Array) -> Array:
    """Whether `point` [2] is inside `polygon` [P, 2], closed or not: bool []."""
    chex.assert_shape(point, (2,))
    chex.assert_shape(polygon, (None, 2))
    a, b = polygon, jnp.roll(polygon, -1, axis=0)
    crosses = (a[:, 1] > point[1]) != (b[:, 1] > point[1])
    rise = jnp.where(crosses, b[:, 1] - a[:, 1], 1.0)
    at = a[:, 0] + (point[1] - a[:, 1]) / rise * (b[:, 0] - a[:, 0])
    return (crosses & (point[0] < at)).sum() % 2 == 1
