"""Two predictors that look at nothing but the past motion: what any policy has to beat.

Both read the 10 Hz pose history and move on the plane z = last height, from the last pose. Single
steps of a recorded history are noisy (localisation jitter of centimetres is tenths of a metre per
second), so speed is a mean over the last 0.3 s, and acceleration and yaw rate are least-squares
slopes over the whole history.
"""

import chex
import flax.struct
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ActionSpaceConfig
from alpamayo_jax.metrics.dynamics import heading, heading_steps
from alpamayo_jax.types import Array, Trajectory

SPEED_STEPS = 3


@flax.struct.dataclass
class MotionState:
    """Motion at the end of a history, each [...].

    Attributes:
      speed: m/s along the heading, negative in reverse.
      accel: m/s^2.
      yaw_rate: rad/s.
    """

    speed: Array
    accel: Array
    yaw_rate: Array


def _slope(values: Array, dt: float) -> Array:
    """Least-squares slope of `values` [..., n] over time."""
    time = (np.arange(values.shape[-1]) - (values.shape[-1] - 1) / 2) * dt
    return jnp.sum(values * jnp.asarray(time / np.sum(time**2), jnp.float32), axis=-1)


def estimate_motion(history_xyz: Array, history_rot: Array, dt: float = 0.1) -> MotionState:
    """Speed, acceleration and yaw rate of a history of at least four poses.

    Args:
      history_xyz: metres, [..., H, 3], oldest first.
      history_rot: [..., H, 3, 3], same frame.
      dt: seconds between poses.
    """
    chex.assert_shape(history_xyz, (..., 3))
    chex.assert_shape(history_rot, (*history_xyz.shape, 3))
    if history_xyz.shape[-2] <= SPEED_STEPS:
        raise ValueError(f"{history_xyz.shape[-2]} history poses; need at least {SPEED_STEPS + 1}")
    yaw = heading(history_rot)
    turns = heading_steps(yaw)
    unwrapped = jnp.concatenate(
        [yaw[..., :1], yaw[..., :1] + jnp.cumsum(turns, axis=-1)], axis=-1
    )
    middle = unwrapped[..., :-1] + turns / 2
    step = jnp.diff(history_xyz[..., :2], axis=-2)
    speeds = (step[..., 0] * jnp.cos(middle) + step[..., 1] * jnp.sin(middle)) / dt
    return MotionState(
        speed=jnp.mean(speeds[..., -SPEED_STEPS:], axis=-1),
        accel=_slope(speeds, dt),
        yaw_rate=_slope(unwrapped, dt),
    )


def constant_velocity(
    history_xyz: Array, history_rot: Array, cfg: ActionSpaceConfig
) -> Trajectory:
    """Straight on at the present speed.

    Args:
      history_xyz: [..., H, 3], ego frame at t0, ends at its origin.
      history_rot: [..., H, 3, 3].
      cfg: number of waypoints and their spacing.

    Returns:
      xyz [..., W, 3] and rot [..., W, 3, 3], ego frame at t0.
    """
    state = estimate_motion(history_xyz, history_rot, cfg.dt)
    still = jnp.zeros_like(state.speed)
    return _drive(history_xyz, history_rot, state.speed, still, still, cfg)


def constant_turn_rate_and_acceleration(
    history_xyz: Array, history_rot: Array, cfg: ActionSpaceConfig
) -> Trajectory:
    """On with the present acceleration and yaw rate; braking ends at a standstill.

    A speed that would fall below zero stays there, and the vehicle then no longer turns; one that
    is below zero already does not fall further. Arguments and result: as `constant_velocity`.
    """
    state = estimate_motion(history_xyz, history_rot, cfg.dt)
    # A vehicle that has just stopped shows a strong deceleration and, by jitter, a speed below 0.
    accel = jnp.where(state.speed > 0, state.accel, jnp.maximum(state.accel, 0.0))
    return _drive(history_xyz, history_rot, state.speed, accel, state.yaw_rate, cfg)


def _drive(
    history_xyz: Array,
    history_rot: Array,
    speed: Array,
    accel: Array,
    yaw_rate: Array,
    cfg: ActionSpaceConfig,
) -> Trajectory:
    """An arc of constant acceleration and yaw rate from the last pose; speed > 0 if accel < 0."""
    stop = jnp.where(accel < 0, -speed / jnp.where(accel < 0, accel, 1.0), jnp.inf)
    grid = jnp.arange(cfg.n_waypoints + 1, dtype=jnp.float32) * cfg.dt
    time = jnp.minimum(grid, stop[..., None])  # the clock stands still once the vehicle does
    begin, end = time[..., :-1], time[..., 1:]

    def velocity(t: Array) -> Array:
        yaw = heading(history_rot[..., -1, :, :])[..., None] + yaw_rate[..., None] * t
        along = speed[..., None] + accel[..., None] * t
        return along[..., None] * jnp.stack([jnp.cos(yaw), jnp.sin(yaw)], axis=-1)

    # Simpson's rule: exact on straight roads, far below a millimetre on any drivable arc.
    mean = (velocity(begin) + 4 * velocity((begin + end) / 2) + velocity(end)) / 6
    xy = history_xyz[..., -1:, :2] + jnp.cumsum(mean * (end - begin)[..., None], axis=-2)
    z = jnp.broadcast_to(history_xyz[..., -1:, 2:], (*xy.shape[:-1], 1))
    turned = yaw_rate[..., None] * end
    cos, sin = jnp.cos(turned), jnp.sin(turned)
    zero, one = jnp.zeros_like(cos), jnp.ones_like(cos)
    about_z = jnp.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], axis=-1)
    about_z = about_z.reshape(*turned.shape, 3, 3)
    return Trajectory(
        xyz=jnp.concatenate([xy, z], axis=-1), rot=about_z @ history_rot[..., -1:, :, :]
    )
