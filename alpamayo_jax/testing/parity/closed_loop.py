"""Parity of the closed loop: AlpaSim's vehicle, tracking controller and rounded boxes."""

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.ops import boxes
from alpamayo_jax.sim import tracking, vehicle
from alpamayo_jax.testing.parity.base import Check, Reference, compare

REQUIRES = ("closed_loop/vehicle_mpc_boxes.npz",)

_VEHICLE = 1e-9  # in float64
_STEER, _ACCEL = 0.02, 0.01  # rad, m/s^2
_LINEAR = 1e-5
_DISTANCE = 1e-4
_ARC = np.pi / 64  # half the angle of one edge of a recorded corner


def checks(reference: Reference) -> list[Check]:
    """Compares with closed_loop/vehicle_mpc_boxes.npz."""
    want = reference.arrays(REQUIRES[0])
    return _vehicle(want) + _controller(want) + _boxes(want)


def _vehicle(want) -> list[Check]:
    def hold(state, command):
        state = vehicle.advance(state, command)
        return state, state

    with jax.enable_x64(True):
        commands = jnp.asarray(want["vm_u"]).swapaxes(0, 1)
        states = jax.lax.scan(hold, jnp.asarray(want["vm_x0"]), commands)[1]
        states = np.asarray(states).swapaxes(0, 1)
    return [compare("closed_loop", "vm_x (float64)", states, want["vm_x"], _VEHICLE)]


def _controller(want) -> list[Check]:
    state = jnp.asarray(want["mpc_x0"], jnp.float32)
    a, b = tracking.linearise(state)
    command, solved = jax.jit(lambda *args: tracking.control(*args))(
        state, jnp.asarray(want["mpc_ref"], jnp.float32)
    )
    # Where the recorded solver gave up, its zero command is no solution to compare with.
    good = want["mpc_u"][:, 2] == 1
    command, recorded = np.asarray(command)[good], want["mpc_u"][good]
    return [
        compare("closed_loop", "mpc_A", a, want["mpc_A"], _LINEAR, relative=True),
        compare("closed_loop", "mpc_B", b, want["mpc_B"], _LINEAR, relative=True),
        compare("closed_loop", "mpc_u steer", command[:, 0], recorded[:, 0], _STEER),
        compare("closed_loop", "mpc_u accel", command[:, 1], recorded[:, 1], _ACCEL),
        compare("closed_loop", "mpc_u solved", np.asarray(solved)[good], recorded[:, 2], 0),
    ]


def _boxes(want) -> list[Check]:
    ego, other = (
        boxes.box(jnp.asarray(rows[:, :3]), jnp.asarray(rows[:, 3]), jnp.asarray(rows[:, 4]))
        for rows in (want["box_ego"], want["box_other"])
    )
    label = want["box_label"]
    where, distance = np.asarray(boxes.contact(ego, other)), np.asarray(boxes.distance(ego, other))
    # Recorded corners are polygons within the true arcs, so recorded boxes are farther apart.
    slack = np.asarray(ego.radius + other.radius) * (1 - np.cos(_ARC))
    more = np.where(distance > 0, label[:, 1] - distance, label[:, 1])
    beyond = np.where(more < 0, -more, np.maximum(more - slack, 0.0))
    return [
        compare("closed_loop", "box_label hit", where > 0, label[:, 0] > 0, 0),
        compare("closed_loop", "box_label contact", where, label[:, 2], 0),
        compare("closed_loop", "box_label distance beyond the arcs'", beyond, 0 * beyond,
                _DISTANCE),
    ]
