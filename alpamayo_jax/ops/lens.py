"""Cameras as arrays, so that one program serves any mixture of pinhole and f-theta lenses.

A lens is a vector of `LENS_SIZE` numbers (`pack_lens`). Image positions are fractions: (0, 0) is the
upper left corner of the image and (1, 1) the lower right one, whatever size it is resized to.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.ops import camera
from alpamayo_jax.types import Array, InputError

MAX_POLY = 6
LENS_SIZE = 8 + MAX_POLY
# Places in the vector; the polynomial follows.
_FTHETA, _WIDTH, _HEIGHT, _CX, _CY, _FX, _FY, _MAX_ANGLE = range(8)


def pack_lens(intrinsics: Any, width: int, height: int) -> np.ndarray:
    """Intrinsics of an image of `width` x `height` pixels as float32 [LENS_SIZE].

    Args:
      intrinsics: has fx, fy, cx, cy, or cx, cy, forward_poly, max_angle (`clip.Pinhole`,
        `clip.FTheta`).
      width, height: pixels.

    Raises:
      InputError: a polynomial of more than `MAX_POLY` coefficients.
    """
    i, lens = intrinsics, np.zeros(LENS_SIZE, np.float32)
    lens[[_WIDTH, _HEIGHT, _CX, _CY]] = width, height, i.cx, i.cy
    if not hasattr(i, "forward_poly"):
        # A polynomial that rises keeps the branch that is not taken finite.
        lens[[_FX, _FY, _MAX_ANGLE, _MAX_ANGLE + 2]] = i.fx, i.fy, 1.0, 1.0
        return lens
    count = len(i.forward_poly)
    if count > MAX_POLY:
        raise InputError(f"f-theta lens has {count} coefficients, at most {MAX_POLY} are read")
    lens[[_FTHETA, _FX, _FY, _MAX_ANGLE]] = 1.0, 1.0, 1.0, i.max_angle
    lens[_MAX_ANGLE + 1 : _MAX_ANGLE + 1 + count] = i.forward_poly
    return lens


def project_lens(points_cam: Array, lens: Array) -> tuple[Array, Array]:
    """Where points appear in the image.

    Args:
      points_cam: [..., N, 3] metres, camera frame.
      lens: [..., LENS_SIZE], the same leading axes.

    Returns:
      (uv [..., N, 2] fractions of width and height, visible bool [..., N]): visible points are in
      front of the lens and inside the image. Elsewhere uv is finite and has no meaning.
    """
    lead = _lead(points_cam, lens, 3)

    def one(points, lens):
        pinhole = camera.project_pinhole(points, lens[_FX], lens[_FY], lens[_CX], lens[_CY])
        ftheta = camera.project_ftheta(
            points, lens[_CX], lens[_CY], lens[_MAX_ANGLE + 1 :], lens[_MAX_ANGLE]
        )
        (uv, valid) = (jnp.where(lens[_FTHETA] > 0, f, p) for f, p in zip(ftheta, pinhole))
        # The centre of pixel 0 is at half a pixel.
        uv = (uv + 0.5) / lens[_WIDTH : _HEIGHT + 1]
        return uv, valid & ((uv >= 0) & (uv <= 1)).all(-1)

    uv, visible = jax.vmap(one)(points_cam.reshape(-1, *points_cam.shape[-2:]), _rows(lens))
    return uv.reshape(*lead, *uv.shape[1:]), visible.reshape(*lead, *visible.shape[1:])


def unproject_lens(uv: Array, lens: Array) -> tuple[Array, Array]:
    """Rays through places in the image: the inverse of `project_lens` up to the distance.

    Args:
      uv: [..., N, 2] fractions of width and height.
      lens: [..., LENS_SIZE].

    Returns:
      (rays [..., N, 3] of length 1, camera frame; valid bool [..., N], False beyond the lens).
    """
    lead = _lead(uv, lens, 2)

    def one(uv, lens):
        pixels = uv * lens[_WIDTH : _HEIGHT + 1] - 0.5
        pinhole = camera.unproject_pinhole(pixels, lens[_FX], lens[_FY], lens[_CX], lens[_CY])
        ftheta = camera.unproject_ftheta(
            pixels, lens[_CX], lens[_CY], lens[_MAX_ANGLE + 1 :], lens[_MAX_ANGLE]
        )
        return tuple(jnp.where(lens[_FTHETA] > 0, f, p) for f, p in zip(ftheta, pinhole))

    rays, valid = jax.vmap(one)(uv.reshape(-1, *uv.shape[-2:]), _rows(lens))
    return rays.reshape(*lead, *rays.shape[1:]), valid.reshape(*lead, *valid.shape[1:])


def absent_lens() -> np.ndarray:
    """A lens for images that are not there: finite everywhere."""
    lens = np.zeros(LENS_SIZE, np.float32)
    lens[[_WIDTH, _HEIGHT, _FX, _FY, _MAX_ANGLE, _MAX_ANGLE + 2]] = 1.0
    return lens


def _lead(values: Array, lens: Array, size: int) -> tuple[int, ...]:
    chex.assert_axis_dimension(values, -1, size)
    chex.assert_shape(lens, (*values.shape[:-2], LENS_SIZE))
    return values.shape[:-2]


def _rows(lens: Array) -> Array:
    return jnp.asarray(lens).reshape(-1, LENS_SIZE)
