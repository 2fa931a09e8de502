"""How a trajectory moves, and whether passengers would mind: derivatives and six comfort checks.

Definitions are the released model's. Poses are [..., W, 3] and [..., W, 3, 3] on a uniform grid, in
any frame with z up; a derivative is the forward difference with its last value repeated, so every
quantity is [..., W].
"""

import dataclasses

import chex
import flax.struct
import jax.numpy as jnp

from alpamayo_jax.types import Array


@dataclasses.dataclass(frozen=True)
class ComfortBounds:
    """Open intervals that a comfortable trajectory never leaves; SI units."""

    lon_accel: tuple[float, float] = (-4.05, 2.40)
    lat_accel: tuple[float, float] = (-4.89, 4.89)
    jerk: tuple[float, float] = (-8.37, 8.37)
    lon_jerk: tuple[float, float] = (-4.13, 4.13)
    yaw_accel: tuple[float, float] = (-1.93, 1.93)
    yaw_rate: tuple[float, float] = (-0.95, 0.95)


@flax.struct.dataclass
class Dynamics:
    """Motion on the grid, each [..., W].

    Attributes:
      speed: m/s, length of the planar velocity.
      accel: m/s^2, derivative of `speed`.
      jerk: m/s^3, derivative of `accel`.
      lon_accel: m/s^2, derivative of the velocity along the heading.
      lon_jerk: m/s^3, derivative of `lon_accel`.
      lat_accel: m/s^2, derivative of the velocity across the heading.
      yaw_rate: rad/s.
      yaw_accel: rad/s^2.
    """

    speed: Array
    accel: Array
    jerk: Array
    lon_accel: Array
    lon_jerk: Array
    lat_accel: Array
    yaw_rate: Array
    yaw_accel: Array


def heading(rot: Array) -> Array:
    """Yaw of `rot` [..., 3, 3] in radians, [...]."""
    chex.assert_shape(rot, (..., 3, 3))
    return jnp.arctan2(rot[..., 1, 0], rot[..., 0, 0])


def heading_steps(yaw: Array) -> Array:
    """Differences of successive yaws [..., W], each the short way round: [..., W - 1]."""
    step = jnp.diff(yaw, axis=-1)
    return jnp.arctan2(jnp.sin(step), jnp.cos(step))


def derivative(values: Array, dt: float = 0.1) -> Array:
    """Forward difference of `values` [..., W] per second, the last one repeated: [..., W]."""
    return _per_second(jnp.diff(values, axis=-1), dt)


def _per_second(steps: Array, dt: float) -> Array:
    return jnp.concatenate([steps, steps[..., -1:]], axis=-1) * (1.0 / dt)


def dynamics(xyz: Array, rot: Array, dt: float = 0.1) -> Dynamics:
    """Derivatives of a trajectory of at least two poses.

    Args:
      xyz: positions in metres, [..., W, 3]; the height is not used.
      rot: orientations, [..., W, 3, 3].
      dt: seconds between poses.
    """
    chex.assert_shape(xyz, (..., 3))
    chex.assert_shape(rot, (*xyz.shape, 3))
    yaw = heading(rot)
    vx, vy = derivative(xyz[..., 0], dt), derivative(xyz[..., 1], dt)
    cos, sin = jnp.cos(yaw), jnp.sin(yaw)
    speed = jnp.sqrt(vx**2 + vy**2)
    accel = derivative(speed, dt)
    lon_accel = derivative(vx * cos + vy * sin, dt)
    yaw_rate = _per_second(heading_steps(yaw), dt)
    return Dynamics(
        speed=speed,
        accel=accel,
        jerk=derivative(accel, dt),
        lon_accel=lon_accel,
        lon_jerk=derivative(lon_accel, dt),
        lat_accel=derivative(vy * cos - vx * sin, dt),
        yaw_rate=yaw_rate,
        yaw_accel=derivative(yaw_rate, dt),
    )


def comfort_checks(
    xyz: Array, rot: Array, bounds: ComfortBounds = ComfortBounds(), dt: float = 0.1
) -> dict[str, Array]:
    """Whether each quantity stays strictly inside its bounds at all times.

    Returns:
      Name of the check -> bool [...], in the order of `ComfortBounds`.
    """
    motion = dynamics(xyz, rot, dt)
    checks = {}
    for field in dataclasses.fields(bounds):
        low, high = getattr(bounds, field.name)
        value = getattr(motion, field.name)
        checks[field.name] = jnp.all((value > low) & (value < high), axis=-1)
    return checks


def comfort(
    xyz: Array, rot: Array, bounds: ComfortBounds = ComfortBounds(), dt: float = 0.1
) -> Array:
    """Fraction of the six checks that a trajectory passes: float32 [...] in [0, 1]."""
    checks = comfort_checks(xyz, rot, bounds, dt).values()
    return jnp.mean(jnp.stack(list(checks), axis=-1).astype(jnp.float32), axis=-1)
