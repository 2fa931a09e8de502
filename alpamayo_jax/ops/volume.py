"""Volume rendering: what a ray sees of density and colour along it (the usual quadrature)."""

import chex
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.types import Array

NEAR = 1.0  # metres; nearer there is the car itself


def sample_plane(plane: Array, at: Array) -> Array:
    """Bilinear samples of a plane.

    Args:
      plane: [X, Y, D].
      at: [N, 2] in cells; the centre of cell (i, j) is at (i + 0.5, j + 0.5). Beyond the outermost
        centres their value counts.

    Returns:
      [N, D].
    """
    chex.assert_rank([plane, at], [3, 2])
    size = jnp.asarray(plane.shape[:2])
    at = jnp.clip(at - 0.5, 0.0, size - 1.0)
    low = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, size - 1)
    high = jnp.minimum(low + 1, size - 1)
    part = (at - low).astype(plane.dtype)
    mixed = 0.0
    for i, wi in ((low[:, 0], 1 - part[:, 0]), (high[:, 0], part[:, 0])):
        for j, wj in ((low[:, 1], 1 - part[:, 1]), (high[:, 1], part[:, 1])):
            mixed = mixed + plane[i, j] * (wi * wj)[:, None]
    return mixed


def ray_distances(count: int, far: float, near: float = NEAR) -> np.ndarray:
    """Edges of `count` intervals along a ray, metres, each longer than the one before: [count + 1]."""
    return np.geomspace(near, far, count + 1).astype(np.float32)


def composite(density: Array, colour: Array, edges: Array) -> tuple[Array, Array, Array]:
    """Colour and depth of rays.

    The last interval is opaque: something is always seen.

    Args:
      density: [..., S] per metre, in the S intervals of a ray.
      colour: [..., S, 3].
      edges: [S + 1] metres.

    Returns:
      Colour [..., 3], depth [...] in metres (of the middles of intervals), weights [..., S] that
      sum to 1.
    """
    chex.assert_shape(colour, (*density.shape, 3))
    chex.assert_shape(edges, (density.shape[-1] + 1,))
    optical = density * jnp.diff(jnp.asarray(edges))
    passed = jnp.exp(-(jnp.cumsum(optical, -1) - optical))  # light that reaches the interval
    stopped = jnp.concatenate([-jnp.expm1(-optical[..., :-1]), jnp.ones_like(optical[..., :1])], -1)
    weights = passed * stopped
    middle = (edges[1:] + edges[:-1]) / 2
    return (weights[..., None] * colour).sum(-2), (weights * middle).sum(-1), weights
