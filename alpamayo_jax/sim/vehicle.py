"""AlpaSim's vehicle: a planar bicycle model that is kinematic when slow and dynamic when fast.

A state is [x, y, yaw, vx, vy, yaw_rate, steer, accel]: the pose of the rear axle in a fixed frame,
the velocity of the centre of gravity along and across the body, and the actuators, which follow a
command [steer, accel] as first-order lags. Metres, radians, seconds. Every function takes any
leading batch dimensions and keeps the number format of the state.
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp

from alpamayo_jax.types import Array

STATE = ("x", "y", "yaw", "vx", "vy", "yaw_rate", "steer", "accel")


@dataclasses.dataclass(frozen=True)
class VehicleConfig:
    """Constants of the vehicle, SI units; the defaults are AlpaSim's.

    Attributes:
      mass: kg.
      yaw_inertia: kg m^2.
      rear_to_cg: metres from the rear axle to the centre of gravity.
      wheelbase: metres.
      front_stiffness, rear_stiffness: N/rad of one tyre; an axle has two.
      steer_lag, accel_lag: seconds of the actuators' lags.
      slow: m/s below which the tyres do not slip.
      relaxation: 1/s with which a slow vehicle takes on the motion of its steering.
      substep: seconds of one midpoint step.
    """

    mass: float = 2014.4
    yaw_inertia: float = 3414.2
    rear_to_cg: float = 1.59
    wheelbase: float = 2.85
    front_stiffness: float = 93534.5
    rear_stiffness: float = 176162.1
    steer_lag: float = 0.1
    accel_lag: float = 0.1
    slow: float = 5.0
    relaxation: float = 10.0
    substep: float = 0.01

    @property
    def front_to_cg(self) -> float:
        """Metres from the centre of gravity to the front axle."""
        return self.wheelbase - self.rear_to_cg


VEHICLE = VehicleConfig()


def slip_rates(vx: Array, cfg: VehicleConfig = VEHICLE) -> tuple[tuple[Array, ...], Array]:
    """How (vy, yaw_rate, steer) change (vy, yaw_rate) at speed `vx` [...].

    Returns:
      The rows' entries (vy_vy, vy_r, vy_steer, r_vy, r_r, r_steer), each [...], and bool [...]:
      whether the vehicle is slow, where the tyres do not slip.
    """
    front, rear = 2.0 * cfg.front_stiffness, 2.0 * cfg.rear_stiffness
    a, b, mass, inertia = cfg.front_to_cg, cfg.rear_to_cg, cfg.mass, cfg.yaw_inertia
    slow = vx < cfg.slow
    v = jnp.maximum(vx, cfg.slow)  # the other branch never divides by a small speed
    gain, turn = cfg.relaxation, vx / cfg.wheelbase
    still = jnp.zeros_like(vx)
    kinematic = (still - gain, still, gain * b * turn, still, still - gain, gain * turn)
    dynamic = (
        -(front + rear) / (mass * v),
        -v - (front * a - rear * b) / (mass * v),
        still + front / mass,
        (rear * b - front * a) / (inertia * v),
        -(front * a**2 + rear * b**2) / (inertia * v),
        still + front * a / inertia,
    )
    return tuple(jnp.where(slow, k, d) for k, d in zip(kinematic, dynamic)), slow


def derivative(state: Array, command: Array, cfg: VehicleConfig = VEHICLE) -> Array:
    """Change of `state` [..., 8] per second under `command` [..., 2]: [..., 8]."""
    _, _, yaw, vx, vy, rate, steer, accel = jnp.moveaxis(state, -1, 0)
    (vy_vy, vy_r, vy_s, r_vy, r_r, r_s), slow = slip_rates(vx, cfg)
    across = jnp.where(slow, 0.0, vy - cfg.rear_to_cg * rate)  # of the rear axle
    cos, sin = jnp.cos(yaw), jnp.sin(yaw)
    return jnp.stack(
        [
            vx * cos - across * sin,
            vx * sin + across * cos,
            rate,
            accel,
            vy_vy * vy + vy_r * rate + vy_s * steer,
            r_vy * vy + r_r * rate + r_s * steer,
            (command[..., 0] - steer) / cfg.steer_lag,
            (command[..., 1] - accel) / cfg.accel_lag,
        ],
        axis=-1,
    )


def advance(
    state: Array, command: Array, duration: float = 0.1, cfg: VehicleConfig = VEHICLE
) -> Array:
    """The state after `duration` seconds of one command; the speed never falls below 0.

    Args:
      state: [..., 8].
      command: [..., 2], steering angle in radians and acceleration in m/s^2.
      duration: seconds, a multiple of the substep.
      cfg: the vehicle.

    Returns:
      [..., 8].
    """
    chex.assert_shape(state, (*command.shape[:-1], len(STATE)))
    chex.assert_axis_dimension(command, -1, 2)
    count = round(duration / cfg.substep)
    step = duration / count
    forward = jnp.zeros(len(STATE), bool).at[STATE.index("vx")].set(True)

    def substep(state: Array, _) -> tuple[Array, None]:
        middle = state + step / 2 * derivative(state, command, cfg)
        state = state + step * derivative(middle, command, cfg)
        return jnp.where(forward, jnp.maximum(state, 0.0), state), None

    return jax.lax.scan(substep, state, None, length=count)[0]


def initial_state(
    pose: Array, speed: Array, yaw_rate: Array, cfg: VehicleConfig = VEHICLE
) -> Array:
    """State of a vehicle that drives along without slip.

    Args:
      pose: [..., 3], x, y, yaw of the rear axle.
      speed: [...], m/s along the body.
      yaw_rate: [...], rad/s.
      cfg: the vehicle.

    Returns:
      [..., 8]; the steering angle is the one of that turn, 0 when all but standing.
    """
    chex.assert_shape(pose, (..., 3))
    moves = speed > 0.25
    turn = yaw_rate * cfg.wheelbase / jnp.where(moves, speed, 1.0)
    steer = jnp.where(moves, jnp.arctan(turn), 0.0)
    rest = jnp.stack(
        [speed, cfg.rear_to_cg * yaw_rate, yaw_rate, steer, jnp.zeros_like(speed)], axis=-1
    )
    return jnp.concatenate([pose, rest], axis=-1)
