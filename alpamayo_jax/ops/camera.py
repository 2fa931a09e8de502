"""Camera geometry: points to pixels and back, for pinhole and f-theta lenses.

Pure functions on NumPy or JAX arrays alike: the result is a JAX array where an input is one, so the
same code draws pictures, renders cameras and runs under `jit` and `grad`.

Camera frame: x right, y down, z forward, metres. Pixels: u to the right, v down; whole numbers are
the centres of pixels, so an image covers -0.5 to width - 0.5. The f-theta lens of the released
model's cameras puts a ray at `angle` radians from the optical axis at the image radius
sum_i forward_poly[i] * angle**i pixels from (cx, cy).
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

Array = Any  # jax.Array or np.ndarray

NEAR = 1e-3  # metres; a pinhole sees nothing nearer than this plane
_NEWTON_STEPS = 24
_AXIS = 1e-6  # sine of the angle below which a ray counts as the optical axis


def project_pinhole(
    points_cam: Array, fx: float, fy: float, cx: float, cy: float, near: float = NEAR
) -> tuple[Array, Array]:
    """Projects points through a pinhole.

    Args:
      points_cam: [..., 3] metres, camera frame.
      fx, fy: focal lengths, pixels.
      cx, cy: principal point, pixels.
      near: depth in metres at or below which a point is not seen.

    Returns:
      (uv [..., 2] pixels, valid bool [...]). A point may be valid and outside the image. Where
      `valid` is False, uv is finite, has no meaning and carries no gradient.
    """
    xp, (points,) = _arrays(points_cam)
    chex.assert_axis_dimension(points, -1, 3)
    valid = (points[..., 2] > near) & xp.isfinite(points).all(-1)
    z = xp.where(valid, points[..., 2], 1.0)
    x, y = (xp.where(valid, points[..., i], 0.0) for i in (0, 1))
    return xp.stack([fx * x / z + cx, fy * y / z + cy], -1), valid


def unproject_pinhole(uv: Array, fx: float, fy: float, cx: float, cy: float) -> tuple[Array, Array]:
    """Rays through pixels of a pinhole: the inverse of `project_pinhole` up to the distance.

    Args:
      uv: [..., 2] pixels.
      fx, fy, cx, cy: as in `project_pinhole`.

    Returns:
      (rays [..., 3] of length 1, camera frame; valid bool [...], True everywhere).
    """
    xp, (uv,) = _arrays(uv)
    chex.assert_axis_dimension(uv, -1, 2)
    x, y = (uv[..., 0] - cx) / fx, (uv[..., 1] - cy) / fy
    rays = xp.stack([x, y, xp.ones_like(x)], -1)
    rays = rays / xp.sqrt((rays**2).sum(-1, keepdims=True))
    return rays, xp.ones(x.shape, bool)


def project_ftheta(
    points_cam: Array, cx: float, cy: float, fw_poly: Array, max_angle: float
) -> tuple[Array, Array]:
    """Projects points through an f-theta lens.

    Args:
      points_cam: [..., 3] metres, camera frame; points behind the lens plane are seen too where
        `max_angle` is beyond pi / 2.
      cx, cy: optical centre, pixels.
      fw_poly: [n] coefficients of the radius in pixels, constant term first.
      max_angle: radians; a ray further from the axis is not seen.

    Returns:
      (uv [..., 2] pixels, valid bool [...]), as `project_pinhole`. The optical axis itself, where
      the direction in the image is not defined, projects to (cx, cy).
    """
    xp, (points, poly) = _arrays(points_cam, fw_poly)
    chex.assert_axis_dimension(points, -1, 3)
    chex.assert_rank(poly, 1)
    poly = poly.astype(points.dtype)
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    rho2 = x * x + y * y
    off_axis = rho2 > _AXIS**2 * z * z
    rho = xp.sqrt(xp.where(off_axis, rho2, 1.0))
    angle = xp.arctan2(rho, xp.where(off_axis, z, 1.0))
    valid = xp.where(off_axis, angle <= max_angle, z > 0) & xp.isfinite(points).all(-1)
    # On the axis r(angle) / rho tends to r'(0) / z, with a gradient that atan2 cannot give.
    on_axis_scale = _derivative_at_zero(poly, xp) / xp.where(off_axis | (z <= 0), 1.0, z)
    scale = xp.where(off_axis, _polynomial(poly, angle) / rho, on_axis_scale)
    scale, x, y = (xp.where(valid, value, 0.0) for value in (scale, x, y))
    return xp.stack([scale * x + cx, scale * y + cy], -1), valid


def unproject_ftheta(
    uv: Array, cx: float, cy: float, fw_poly: Array, max_angle: float
) -> tuple[Array, Array]:
    """Rays through pixels of an f-theta lens: the inverse of `project_ftheta` up to the distance.

    The radius must rise with the angle from 0 to `max_angle` (`check_ftheta`). The angle is found
    by Newton steps kept inside a shrinking bracket; its gradient is that of the implicit function.

    Args:
      uv: [..., 2] pixels.
      cx, cy, fw_poly, max_angle: as in `project_ftheta`.

    Returns:
      (rays [..., 3] of length 1, camera frame; valid bool [...], False for a pixel further out than
      the radius at `max_angle`, where the ray is the one at `max_angle`).
    """
    xp, (uv, poly) = _arrays(uv, fw_poly)
    chex.assert_axis_dimension(uv, -1, 2)
    chex.assert_rank(poly, 1)
    poly = poly.astype(uv.dtype)
    x, y = uv[..., 0] - cx, uv[..., 1] - cy
    radius2 = x * x + y * y
    off_axis = radius2 > 1e-12
    radius = xp.sqrt(xp.where(off_axis, radius2, 1.0))
    limit = _polynomial(poly, xp.full_like(radius, max_angle))
    valid = ~off_axis | (radius <= limit)
    angle = _invert_polynomial(poly, xp.where(valid, radius, limit), max_angle, xp)
    sine = xp.where(off_axis, xp.sin(angle) / radius, 1.0 / _derivative_at_zero(poly, xp))
    cosine = xp.where(off_axis, xp.cos(angle), 1.0)
    return xp.stack([sine * x, sine * y, cosine], -1), valid


def check_ftheta(fw_poly: Array, max_angle: float) -> None:
    """Raises `ValueError` unless the image radius rises strictly from angle 0 to `max_angle`."""
    poly = np.asarray(fw_poly, np.float64)
    angle = np.linspace(0.0, max_angle, 1001)
    slope = np.polynomial.polynomial.polyval(angle, np.polynomial.polynomial.polyder(poly))
    if not (max_angle > 0 and np.isfinite(poly).all() and (slope > 0).all()):
        first = angle[int(np.argmax(~(slope > 0)))]
        raise ValueError(
            f"f-theta lens: the radius must rise from angle 0 to max_angle {max_angle}, but "
            f"forward_poly {poly.tolist()} does not at {first:.4f} rad; lower max_angle"
        )


def project(points_cam: Array, intrinsics: Any) -> tuple[Array, Array]:
    """`project_pinhole` or `project_ftheta`, by the fields of `intrinsics` (of `clip.Camera`)."""
    if hasattr(intrinsics, "forward_poly"):
        i = intrinsics
        return project_ftheta(points_cam, i.cx, i.cy, np.asarray(i.forward_poly), i.max_angle)
    return project_pinhole(points_cam, intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy)


def unproject(uv: Array, intrinsics: Any) -> tuple[Array, Array]:
    """`unproject_pinhole` or `unproject_ftheta`, by the fields of `intrinsics`."""
    if hasattr(intrinsics, "forward_poly"):
        i = intrinsics
        return unproject_ftheta(uv, i.cx, i.cy, np.asarray(i.forward_poly), i.max_angle)
    return unproject_pinhole(uv, intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy)


def pixel_rays(width: int, height: int, intrinsics: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rays through the centres of all pixels: float64 [height, width, 3], valid [height, width]."""
    u, v = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    return unproject(np.stack([u, v], -1), intrinsics)


def transform(a_from_b: Array, points_b: Array) -> Array:
    """Moves points from frame b to frame a.

    Args:
      a_from_b: [4, 4], or [..., 4, 4] with the leading axes of `points_b`.
      points_b: [..., N, 3], or [3] with one [4, 4].

    Returns:
      [..., N, 3], frame a.
    """
    xp, (matrix, points) = _arrays(a_from_b, points_b)
    chex.assert_axis_dimension(points, -1, 3)
    if matrix.ndim == 2:
        chex.assert_shape(matrix, (4, 4))
    else:
        chex.assert_shape(matrix, (*points.shape[:-2], 4, 4))
    if points.ndim == 1:
        return matrix[:3, :3] @ points + matrix[:3, 3]
    return points @ xp.swapaxes(matrix[..., :3, :3], -1, -2) + matrix[..., None, :3, 3]


def invert_rigid(a_from_b: Array) -> Array:
    """[..., 4, 4] rotation and translation -> its inverse b_from_a."""
    xp, (matrix,) = _arrays(a_from_b)
    chex.assert_axis_dimension(matrix, -1, 4)
    chex.assert_axis_dimension(matrix, -2, 4)
    rotation = xp.swapaxes(matrix[..., :3, :3], -1, -2)
    top = xp.concatenate([rotation, -rotation @ matrix[..., :3, 3:]], -1)
    return xp.concatenate([top, matrix[..., 3:, :]], -2)


def camera_from_ego(points_ego: Array, ego_from_camera: Array) -> Array:
    """Points [..., N, 3] in the ego frame -> the camera frame; shapes as in `transform`."""
    return transform(invert_rigid(ego_from_camera), points_ego)


def _arrays(*values: Array) -> tuple[Any, tuple[Array, ...]]:
    xp = jnp if any(isinstance(value, jax.Array) for value in values) else np
    arrays = tuple(xp.asarray(value) for value in values)
    return xp, tuple(
        a if xp.issubdtype(a.dtype, xp.floating) else a.astype(xp.zeros(0, float).dtype)
        for a in arrays
    )


def _polynomial(poly: Array, angle: Array) -> Array:
    value = poly[-1]
    for i in range(poly.shape[0] - 2, -1, -1):
        value = value * angle + poly[i]
    return value


def _derivative(poly: Array, angle: Array) -> Array:
    value = (poly.shape[0] - 1) * poly[-1]
    for i in range(poly.shape[0] - 2, 0, -1):
        value = value * angle + i * poly[i]
    return value


def _derivative_at_zero(poly: Array, xp: Any) -> Array:
    return poly[1] if poly.shape[0] > 1 else xp.ones((), poly.dtype)


def _invert_polynomial(poly: Array, radius: Array, max_angle: float, xp: Any) -> Array:
    """Angle in [0, max_angle] with _polynomial(angle) = radius."""
    if xp is jnp:
        target, fixed = jax.lax.stop_gradient(radius), jax.lax.stop_gradient(poly)
    else:
        target, fixed = radius, poly
    low, high = xp.zeros_like(target), xp.full_like(target, max_angle)
    angle = xp.clip(target / _derivative_at_zero(fixed, xp), low, high)
    for _ in range(_NEWTON_STEPS):
        error = _polynomial(fixed, angle) - target
        high, low = xp.where(error > 0, angle, high), xp.where(error > 0, low, angle)
        step = angle - error / _derivative(fixed, angle)
        inside = (step >= low) & (step <= high)
        angle = xp.where(inside, step, 0.5 * (low + high))
    if xp is np:
        return angle
    # One more step from a constant has the value of the root and the implicit gradient.
    return angle - (_polynomial(poly, angle) - radius) / _derivative(fixed, angle)
