"""Unicycle action space: 64 (acceleration, curvature) controls <-> a trajectory, both ways.

Equation 5 of the paper: heading and speed integrate curvature and acceleration, positions follow
by the trapezoid rule. The inverse is the released model's chain of regularised least squares:
heading, speed, acceleration, curvature. Every system is a band matrix (the trapezoid rows give a
tridiagonal one, the penalties on second and third differences bandwidths 2 and 3).

Actions are normalised, [..., W, 2]; poses are in the ego frame at t0 (x forward, y left, z up;
metres, radians), the history ends at its origin. M + 1 history poses, W waypoints, all 0.1 s apart.
"""

import chex
import flax.struct
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ActionSpaceConfig
from alpamayo_jax.ops import banded, so3
from alpamayo_jax.types import Array, Trajectory


@flax.struct.dataclass
class UnicycleStates:
    """What the controls of a trajectory were derived from; nothing here is normalised.

    Attributes:
      v: [..., W + 1] speed in m/s, at t0 and at every waypoint; negative in reverse.
      theta: [..., W + 1] smoothed heading in radians, 0 at t0.
      accel: [..., W] acceleration in m/s^2.
      kappa: [..., W] curvature in 1/m, after the low-speed guard if it is on.
    """

    v: Array
    theta: Array
    accel: Array
    kappa: Array


def constants(cfg: ActionSpaceConfig, bf16: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of (acceleration, curvature), float32 [2] each.

    Args:
      cfg: action space.
      bf16: rounded to bfloat16, as the release computes once its model is cast to that type.
    """
    dtype = np.dtype(jnp.bfloat16 if bf16 else jnp.float32)
    mean = np.asarray([cfg.accel_mean, cfg.curvature_mean], dtype)
    std = np.asarray([cfg.accel_std, cfg.curvature_std], dtype)
    return mean.astype(np.float32), std.astype(np.float32)


def _check_poses(xyz: Array, rot: Array, shape: tuple) -> None:
    chex.assert_shape(xyz, (*shape, 3))
    chex.assert_shape(rot, (*xyz.shape[:-1], 3, 3))


def _smoothness(n: int, order: int, weight: float, cfg: ActionSpaceConfig) -> Array:
    """Penalty on the derivative of `order`, as a band for n samples."""
    penalty = banded.difference_penalty(n, order, weight / cfg.dt ** (2 * order))
    return jnp.asarray(penalty, jnp.float32)


def _speed_system(
    xy: Array, theta: Array, base: Array, cfg: ActionSpaceConfig
) -> tuple[Array, Array]:
    """Normal equations for n speeds, as deviations from a `base` speed [...] common to all.

    The rows are cos(theta_t) v_t + cos(theta_t+1) v_t+1 = 2 dx_t / dt and the same with sin and y.
    Their products sum to 1 on the diagonal for each of a speed's one or two rows, and to
    cos(theta_t+1 - theta_t) beside it. The penalty on jerk does not see the base, the ridge does.
    Deviations are small, which keeps float32 from losing the digits that accelerations live in.
    """
    n, edge = theta.shape[-1], [(0, 0)] * (theta.ndim - 1)
    heading = jnp.stack([jnp.cos(theta), jnp.sin(theta)], axis=-1)
    step = jnp.diff(xy, axis=-2) * (2 / cfg.dt)
    step -= base[..., None, None] * (heading[..., :-1, :] + heading[..., 1:, :])
    step = jnp.pad(step, [*edge, (1, 1), (0, 0)])
    around = step[..., :-1, :] + step[..., 1:, :]  # the steps that end and begin at each speed
    rhs = (heading * around).sum(axis=-1) - cfg.v_ridge * base[..., None]
    rows = np.full(n, 2.0, np.float32)
    rows[[0, -1]] = 1.0
    beside = jnp.pad(jnp.cos(jnp.diff(theta)), [*edge, (1, 0)])
    normal = jnp.stack([jnp.broadcast_to(rows, theta.shape), beside], axis=-1)
    band = banded.add(normal, _smoothness(n, 3, cfg.v_lambda, cfg))
    return banded.add_ridge(band, cfg.v_ridge), rhs


def history_speed(
    history_xyz: Array, history_rot: Array, cfg: ActionSpaceConfig, *, unroll: bool = False
) -> Array:
    """Smoothed speed at every history pose.

    Args:
      history_xyz: float32 [..., M + 1, 3] metres.
      history_rot: float32 [..., M + 1, 3, 3].
      cfg: action space.
      unroll: no loop over poses in the program, for exporters that take none.

    Returns:
      float32 [..., M + 1] m/s, negative in reverse; the last one is the speed at t0.
    """
    _check_poses(history_xyz, history_rot, (..., None))
    theta = so3.unwrap(so3.yaw_from_rot(history_rot))
    xy = history_xyz[..., :2]
    heading = jnp.stack([jnp.cos(theta), jnp.sin(theta)], axis=-1)
    base = (jnp.diff(xy, axis=-2) * heading[..., 1:, :]).sum(axis=-1).mean(axis=-1) / cfg.dt
    system = _speed_system(xy, theta, base, cfg)
    return base[..., None] + banded.solve(*system, unroll=unroll)


def estimate_v0(
    history_xyz: Array, history_rot: Array, cfg: ActionSpaceConfig, *, unroll: bool = False
) -> Array:
    """Speed at t0 in m/s, [...], from a history as in `history_speed`."""
    return history_speed(history_xyz, history_rot, cfg, unroll=unroll)[..., -1]


def trajectory_to_states(
    history_xyz: Array,
    history_rot: Array,
    future_xyz: Array,
    future_rot: Array,
    cfg: ActionSpaceConfig,
    v0: Array | None = None,
) -> UnicycleStates:
    """Speeds, headings and controls, not normalised, that explain a future trajectory.

    Args:
      history_xyz: float32 [..., M + 1, 3] metres, ending at t0.
      history_rot: float32 [..., M + 1, 3, 3].
      future_xyz: float32 [..., W, 3] metres.
      future_rot: float32 [..., W, 3, 3].
      cfg: action space; `low_speed_guard` clamps the curvature to its bounds and zeroes it where
        the speed before or after the step is below `low_speed`, where it is not observable.
      v0: speed at t0 in m/s, [...]; estimated from the history when absent.
    """
    batch, n, dt = history_xyz.shape[:-2], cfg.n_waypoints, cfg.dt
    _check_poses(history_xyz, history_rot, (*batch, None))
    _check_poses(future_xyz, future_rot, (*batch, n))
    if v0 is None:
        v0 = estimate_v0(history_xyz, history_rot, cfg)
    chex.assert_shape(v0, batch)

    # Heading and speed at t0 are known, and zero in their unknowns (deviations from v0 for the
    # speed): their row and column drop out of the systems.
    known = jnp.zeros_like(v0)[..., None]
    measured = so3.unwrap(so3.yaw_from_rot(future_rot))
    band = banded.add_ridge(_smoothness(n + 1, 3, cfg.theta_lambda, cfg), 1.0 + cfg.theta_ridge)
    theta = jnp.concatenate([known, banded.solve(band[1:], measured)], axis=-1)

    xy = jnp.concatenate([history_xyz[..., -1:, :2], future_xyz[..., :2]], axis=-2)
    band, rhs = _speed_system(xy, theta, v0, cfg)
    gain = jnp.concatenate([known, banded.solve(band[..., 1:, :], rhs[..., 1:])], axis=-1)
    v = v0[..., None] + gain

    # Positive definite whatever the motion, so its ridge never has to grow.
    band = banded.add_ridge(_smoothness(n, 2, cfg.a_lambda, cfg), 1.0 + cfg.a_ridge)
    accel = banded.solve(band, jnp.diff(gain) / dt)

    distance = dt * v[..., :-1] + dt**2 / 2 * accel
    band = banded.add(distance[..., None] ** 2, _smoothness(n, 2, cfg.kappa_lambda, cfg))
    kappa = banded.solve_ridge(band, distance * jnp.diff(theta), cfg.kappa_ridge)
    if cfg.low_speed_guard:
        moving = jnp.abs(v) >= cfg.low_speed
        observable = moving[..., :-1] & moving[..., 1:]
        kappa = jnp.where(observable, jnp.clip(kappa, *cfg.curvature_bounds), 0.0)
    return UnicycleStates(v=v, theta=theta, accel=accel, kappa=kappa)


def trajectory_to_action(
    history_xyz: Array,
    history_rot: Array,
    future_xyz: Array,
    future_rot: Array,
    cfg: ActionSpaceConfig,
    v0: Array | None = None,
    *,
    bf16_constants: bool = False,
    return_states: bool = False,
) -> Array | tuple[Array, UnicycleStates]:
    """Normalised controls [..., W, 2] that drive a future trajectory.

    Args:
      history_xyz, history_rot, future_xyz, future_rot, cfg, v0: as in `trajectory_to_states`.
      bf16_constants: normalise with constants rounded to bfloat16.
      return_states: also return the `UnicycleStates`.
    """
    states = trajectory_to_states(history_xyz, history_rot, future_xyz, future_rot, cfg, v0)
    actions = states_to_action(states, cfg, bf16_constants=bf16_constants)
    return (actions, states) if return_states else actions


def states_to_action(
    states: UnicycleStates, cfg: ActionSpaceConfig, *, bf16_constants: bool = False
) -> Array:
    """Normalised controls [..., W, 2] of `states`; `bf16_constants` as above."""
    mean, std = constants(cfg, bf16_constants)
    return (jnp.stack([states.accel, states.kappa], axis=-1) - mean) / std


def _controls(actions: Array, cfg: ActionSpaceConfig, bf16_constants: bool) -> tuple[Array, Array]:
    chex.assert_shape(actions, (..., cfg.n_waypoints, 2))
    mean, std = constants(cfg, bf16_constants)
    controls = actions * std + mean
    return controls[..., 0], controls[..., 1]


def action_to_trajectory(
    actions: Array,
    history_xyz: Array,
    history_rot: Array,
    cfg: ActionSpaceConfig,
    v0: Array | None = None,
    *,
    bf16_constants: bool = False,
) -> Trajectory:
    """Drives normalised controls from the origin of the ego frame, heading along x.

    Differentiable in every array.

    Args:
      actions: float32 [..., W, 2].
      history_xyz: float32 [..., M + 1, 3] metres; gives the speed at t0, and its last z is the
        height of the whole trajectory.
      history_rot: float32 [..., M + 1, 3, 3].
      cfg: action space; controls are not clipped to its bounds.
      v0: speed at t0 in m/s, [...]; estimated from the history when absent.
      bf16_constants: denormalise with constants rounded to bfloat16.

    Returns:
      Waypoints [..., W, 3] and rotations about z [..., W, 3, 3].
    """
    accel, kappa = _controls(actions, cfg, bf16_constants)
    batch, dt = actions.shape[:-2], cfg.dt
    _check_poses(history_xyz, history_rot, (*batch, None))
    if v0 is None:
        v0 = estimate_v0(history_xyz, history_rot, cfg)
    chex.assert_shape(v0, batch)

    start = v0[..., None]
    v = jnp.concatenate([start, start + jnp.cumsum(accel * dt, axis=-1)], axis=-1)
    turn = kappa * (v[..., :-1] * dt + accel * (dt**2 / 2))
    theta = jnp.concatenate([jnp.zeros_like(start), jnp.cumsum(turn, axis=-1)], axis=-1)
    velocity = v[..., None] * jnp.stack([jnp.cos(theta), jnp.sin(theta)], axis=-1)
    xy = jnp.cumsum((velocity[..., :-1, :] + velocity[..., 1:, :]) * (dt / 2), axis=-2)
    z = jnp.broadcast_to(history_xyz[..., -1:, 2:], (*batch, cfg.n_waypoints, 1))
    return Trajectory(
        xyz=jnp.concatenate([xy, z], axis=-1), rot=so3.rot_from_yaw(theta[..., 1:])
    )


def is_within_bounds(
    actions: Array, cfg: ActionSpaceConfig, *, bf16_constants: bool = False
) -> Array:
    """Whether all controls of `actions` [..., W, 2] lie within the bounds of `cfg`: bool [...]."""
    accel, kappa = _controls(actions, cfg, bf16_constants)
    inside = (accel >= cfg.accel_bounds[0]) & (accel <= cfg.accel_bounds[1])
    inside &= (kappa >= cfg.curvature_bounds[0]) & (kappa <= cfg.curvature_bounds[1])
    return inside.all(axis=-1)
