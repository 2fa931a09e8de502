"""AlpaSim's tracking controller: a linear model-predictive controller of the vehicle.

Over 20 steps of 0.1 s, linearised once at the present state with the speed held in the tyres'
slip, it minimises

    sum_k 2 dx_k^2 + dy_k^2 + dyaw_k^2 + 0.1 accel_k^2   (k = 10 .. 20, the first second is free)
  + sum_k 5 steer_command_k^2 + accel_command_k^2        (k = 0 .. 19)

within bounds of yaw, speed, steering angle, acceleration and both commands, and applies the first
command. Where no bound is touched, a Riccati recursion is the answer. The rest is solved by a
primal-dual interior-point method whose Newton steps are that recursion again, so float32 is
enough. Only the problems that need it are given to it, a few at a time.

Matrices here have the batch last ([rows, columns, B]): small products then run along the batch.
"""


import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.sim.vehicle import STATE, VEHICLE, VehicleConfig, slip_rates
from alpamayo_jax.types import Array

STEPS = 20
DT = 0.1
_FREE = 10  # the first steps, at which the reference does not count
_STATE_COST = np.array([2.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.1], np.float32)
_COMMAND_COST = np.array([5.0, 1.0], np.float32) + 1e-6
_YAW, _VX, _STEER, _ACCEL = (STATE.index(name) for name in ("yaw", "vx", "steer", "accel"))
_BOUNDED = np.array([_YAW, _VX, _STEER, _ACCEL], np.int32)
_LOW = np.array([-np.pi / 2, 0.0, -np.pi / 4, -8.0], np.float32)
_HIGH = np.array([np.pi / 2, 35.0, np.pi / 4, 6.0], np.float32)
COMMAND_LOW = np.array([-2.0, -9.0], np.float32)
COMMAND_HIGH = np.array([2.0, 6.0], np.float32)

_HALVINGS, _TERMS = 5, 5  # of the matrix exponential
_CHUNK = 16  # problems that touch a bound are solved so many at a time
_ITERATIONS = 30
_CENTRE = 0.2  # of the complementarity is what the next step aims at
_GAP = 1e-5  # mean complementarity at which a problem counts as solved
_SOLVED = 1e-3  # and at which its commands are good enough to use
_START = 1.0  # complementarity at the start
_SLACK = 0.05
_TOUCH = 1e-4  # a bound may be passed by so much before it counts


@flax.struct.dataclass
class _Weights:
    """What the stages of a Riccati recursion cost: 1/2 z' diag(square) z + linear' z."""

    state_square: Array  # [21, 8, B]
    state_linear: Array
    command_square: Array  # [20, 2, B]
    command_linear: Array


@flax.struct.dataclass
class _Point:
    """Where the interior-point method is, or how far it goes; sides of the bounds are [2, ...].

    Slacks are kept apart from what they are distances of: a float32 difference of two numbers of
    ordinary size is too coarse near a bound. `missing` is by how much they disagree.
    """

    commands: Array  # [20, 2, B]
    states: Array  # [20, 8, B]
    slack: Array  # [2, 20, 6, B]: yaw, vx, steer, accel of the next state; steer, accel commands
    missing: Array
    dual: Array


def _product(a: Array, b: Array) -> Array:
    """[i, j, B] x [j, k, B] -> [i, k, B]."""
    return (a[:, :, None] * b[None]).sum(1)


def _apply(a: Array, x: Array) -> Array:
    """[i, j, B] x [j, B] -> [i, B]."""
    return (a * x[None]).sum(1)


def _turned(a: Array) -> Array:
    return a.swapaxes(0, 1)


def linearise(state: Array, cfg: VehicleConfig = VEHICLE) -> tuple[Array, Array]:
    """The model x' = A x + B u of one step of 0.1 s.

    Args:
      state: [..., 8] in the rig's own frame; x, y and yaw are taken as 0.
      cfg: the vehicle.

    Returns:
      A [..., 8, 8] and B [..., 8, 2].
    """
    chex.assert_shape(state, (..., len(STATE)))
    batch = state.shape[:-1]
    a, b = _linearise(state.reshape(-1, len(STATE)).T, cfg)
    a, b = jnp.moveaxis(a, -1, 0), jnp.moveaxis(b, -1, 0)
    return a.reshape(*batch, *a.shape[1:]), b.reshape(*batch, *b.shape[1:])


def _linearise(state: Array, cfg: VehicleConfig) -> tuple[Array, Array]:
    """As `linearise`, batch last: [8, B] -> [8, 8, B], [8, 2, B]."""
    _, _, _, vx, vy, rate, _, _ = state
    (vy_vy, vy_r, vy_s, r_vy, r_r, r_s), slow = slip_rates(vx, cfg)
    zero, one = jnp.zeros_like(vx), jnp.ones_like(vx)
    arm = jnp.where(slow, 0.0, cfg.rear_to_cg)
    slips = jnp.where(slow, 0.0, one)
    across = slips * vy - arm * rate
    rates = jnp.stack([
        jnp.stack([zero, zero, -across, one, zero, zero, zero, zero]),
        jnp.stack([zero, zero, vx, zero, slips, -arm, zero, zero]),
        jnp.stack([zero, zero, zero, zero, zero, one, zero, zero]),
        jnp.stack([zero, zero, zero, zero, zero, zero, zero, one]),
        jnp.stack([zero, zero, zero, zero, vy_vy, vy_r, vy_s, zero]),
        jnp.stack([zero, zero, zero, zero, r_vy, r_r, r_s, zero]),
        jnp.stack([zero, zero, zero, zero, zero, zero, zero - 1 / cfg.steer_lag, zero]),
        jnp.stack([zero, zero, zero, zero, zero, zero, zero, zero - 1 / cfg.accel_lag]),
    ])  # fmt: skip
    inputs = np.zeros((8, 2, 1), np.float32)
    inputs[_STEER, 0], inputs[_ACCEL, 1] = 1 / cfg.steer_lag, 1 / cfg.accel_lag
    step = DT / 2**_HALVINGS
    eye = jnp.eye(8, dtype=state.dtype)[:, :, None]
    # integral of exp(rates * t) over the step, then doubled: x(2h) = A (A x + B u) + B u
    series = eye
    for term in range(_TERMS, 0, -1):
        series = eye + _product(rates, series) * (step / (term + 1))
    a = eye + _product(rates, series) * step
    b = _product(series, jnp.broadcast_to(inputs, (8, 2, vx.shape[0]))) * step
    for _ in range(_HALVINGS):
        b = _product(a, b) + b
        a = _product(a, a)
    return a, b


def _riccati(a: Array, b: Array, weights: _Weights) -> tuple[Array, Array]:
    """Commands [20, 2, B] and next states [20, 8, B] from 0 that minimise the weights."""
    eye = jnp.eye(8, dtype=a.dtype)[:, :, None]
    turned_a, turned_b = _turned(a), _turned(b)

    def back(carry, stage):
        value, slope = carry
        state_square, state_linear, command_square, command_linear = stage
        value_a = _product(value, a)
        force = _product(turned_b, value_a)  # [2, 8, B]
        inner = _product(turned_b, _product(value, b))
        h00, h11 = inner[0, 0] + command_square[0], inner[1, 1] + command_square[1]
        h01 = inner[0, 1]
        determinant = h00 * h11 - h01 * h01
        inverse = jnp.stack(
            [jnp.stack([h11, -h01]), jnp.stack([-h01, h00])]
        ) / determinant
        gain = _product(inverse, force)
        push = _apply(inverse, _apply(turned_b, slope) + command_linear)
        new = eye * state_square[:, None] + _product(turned_a, value_a)
        new = new - _product(_turned(force), gain)
        new = (new + _turned(new)) / 2  # rounding must not make it lopsided
        slope = state_linear + _apply(turned_a, slope) - _apply(_turned(force), push)
        return (new, slope), (gain, push)

    last = eye * weights.state_square[-1][:, None], weights.state_linear[-1]
    stages = (
        weights.state_square[:-1], weights.state_linear[:-1],
        weights.command_square, weights.command_linear,
    )  # fmt: skip
    _, (gains, pushes) = jax.lax.scan(back, last, stages, reverse=True)

    def ahead(state, stage):
        command = -_apply(stage[0], state) - stage[1]
        state = _apply(a, state) + _apply(b, command)
        return state, (command, state)

    _, (commands, states) = jax.lax.scan(ahead, jnp.zeros_like(a[0]), (gains, pushes))
    return commands, states


def _tracking(reference: Array, coasting: Array) -> _Weights:
    """The controller's own cost of what commands add to the states [21, 8, B] without any."""
    batch, kind = reference.shape[-1], reference.dtype
    counts = np.arange(STEPS + 1) >= _FREE
    square = jnp.asarray(counts[:, None] * _STATE_COST, kind)[:, :, None]
    target = jnp.pad(reference, ((0, 0), (0, 5), (0, 0)))
    return _Weights(
        state_square=jnp.broadcast_to(square, (STEPS + 1, 8, batch)),
        state_linear=square * (coasting - target),
        command_square=jnp.broadcast_to(
            jnp.asarray(_COMMAND_COST, kind)[:, None], (STEPS, 2, batch)
        ),
        command_linear=jnp.zeros((STEPS, 2, batch), kind),
    )


def _values(commands: Array, states: Array) -> Array:
    """What is bounded, [20, 6, B]."""
    return jnp.concatenate([states[:, _BOUNDED], commands], axis=1)


def _held(a: Array, b: Array, start: Array, steer: float, accel: float) -> Array:
    """The next states [20, 8, B] under one command."""
    command = jnp.asarray([steer, accel], start.dtype)[:, None]
    force = _apply(b, jnp.broadcast_to(command, (2, start.shape[-1])))

    def step(state, _):
        state = _apply(a, state) + force
        return state, state

    return jax.lax.scan(step, start, None, length=STEPS)[1]


def _bounds(a: Array, b: Array, start: Array, rest: Array) -> Array:
    """Lower and upper bounds [2, 20, 6, B]; one that no command can keep gives way.

    It then allows whatever the actuators' going back to 0 (a speed above its bound: braking at
    half of what is allowed) leads to, so that nothing violent is done about the inevitable.
    """

    def bounded(steer: float, accel: float) -> Array:
        return _held(a, b, start, steer, accel)[:, _BOUNDED]

    rest = rest[:, _BOUNDED]
    brake = bounded(0.0, float(_LOW[3]) / 2)
    least = bounded(float(COMMAND_LOW[0]), float(_LOW[3]))
    most = bounded(float(COMMAND_HIGH[0]), float(_HIGH[3]))
    fast = np.arange(len(_BOUNDED))[:, None] == 1
    low, high = jnp.asarray(_LOW[:, None], a.dtype), jnp.asarray(_HIGH[:, None], a.dtype)
    low = jnp.where((most < low).any(0), jnp.minimum(low, rest - _SLACK), low)
    eased = jnp.where(fast, brake, rest) + _SLACK
    high = jnp.where((least > high).any(0), jnp.maximum(high, eased), high)
    shape = (2, STEPS, 2, start.shape[-1])
    commands = jnp.asarray(np.stack([COMMAND_LOW, COMMAND_HIGH]), a.dtype)[:, None, :, None]
    return jnp.concatenate([jnp.stack([low, high]), jnp.broadcast_to(commands, shape)], axis=2)


def _interior_point(
    a: Array, b: Array, weights: _Weights, bounds: Array
) -> tuple[Array, Array]:
    """First commands [2, B] within bounds [2, 20, 6, B], and bool [B]: whether they were found."""
    side = jnp.asarray([-1.0, 1.0], a.dtype)[:, None, None, None]
    span = bounds[1] - bounds[0]
    commands, states = _riccati(a, b, weights)
    room = side * (bounds - _values(commands, states))
    slack = jnp.maximum(room, 0.05 * span)
    start = _Point(commands, states, slack, room - slack, _START / slack)

    def newton(point: _Point, product: Array) -> _Point:
        """A whole step towards the complementarity `product` of every bound."""
        stiff = point.dual / point.slack
        push = product / point.slack - stiff * point.missing
        square, linear = stiff.sum(0), (side * push).sum(0)
        own = _Weights(
            state_square=weights.state_square.at[1:, _BOUNDED].add(square[:, :4]),
            state_linear=weights.state_linear.at[1:].add(weights.state_square[1:] * point.states)
            .at[1:, _BOUNDED].add(linear[:, :4]),
            command_square=weights.command_square + square[:, 4:],
            command_linear=weights.command_linear
            + weights.command_square * point.commands + linear[:, 4:],
        )  # fmt: skip
        commands, states = _riccati(a, b, own)
        slack = point.missing - side * _values(commands, states)
        dual = push - point.dual + stiff * (point.missing - slack)
        return _Point(commands, states, slack, -point.missing, dual)

    def reach(value: Array, change: Array) -> Array:
        """The longest step [B] of at most 1 that keeps values [2, 20, 6, B] above 0."""
        longest = jnp.where(change < 0, value / jnp.maximum(-change, 1e-30), jnp.inf)
        return jnp.minimum(0.95 * longest.min((0, 1, 2)), 1.0)

    def iterate(carry):
        count, point = carry
        gap = (point.slack * point.dual).mean((0, 1, 2))
        change = newton(point, jnp.broadcast_to(_CENTRE * gap, point.slack.shape))
        step = jnp.minimum(reach(point.slack, change.slack), reach(point.dual, change.dual))
        new = jax.tree.map(lambda old, change: old + step * change, point, change)
        better = (gap > _GAP) & jnp.isfinite(step)
        return count + 1, jax.tree.map(lambda new, old: jnp.where(better, new, old), new, point)

    def open_(carry):
        count, point = carry
        return (count < _ITERATIONS) & ((point.slack * point.dual).mean((0, 1, 2)) > _GAP).any()

    _, point = jax.lax.while_loop(open_, iterate, (0, start))
    gap = (point.slack * point.dual).mean((0, 1, 2))
    missed = jnp.abs(point.missing).max((0, 1, 2))
    return point.commands[0], (gap < _SOLVED) & (missed < _SOLVED)


def control(
    state: Array, reference: Array, cfg: VehicleConfig = VEHICLE
) -> tuple[Array, Array]:
    """The command that tracks a reference.

    Args:
      state: float32 [B, 8], the vehicle's, in its own rig frame: x, y and yaw are taken as 0.
      reference: float32 [B, R, 3] with R >= 21: poses x, y, yaw in the rig frame now, 0.1 s ahead
        and so on; more than 21 are not looked at.
      cfg: the vehicle.

    Returns:
      command float32 [B, 2], steering angle in radians and acceleration in m/s^2, and solved
      bool [B]. Where no solution was found the command is 0, as in AlpaSim. Where a bound cannot
      be kept by any command (a vehicle above 35 m/s, one that stands with its brakes still on),
      it is moved to what can be reached; AlpaSim's solver gives up there.
    """
    chex.assert_shape(state, (None, len(STATE)))
    chex.assert_shape(reference, (state.shape[0], None, 3))
    count = state.shape[0]
    start = state.T.at[:3].set(0.0)
    a, b = _linearise(start, cfg)
    rest = _held(a, b, start, 0.0, 0.0)
    ahead = jnp.moveaxis(reference[:, : STEPS + 1], 0, -1)
    weights = _tracking(ahead, jnp.concatenate([start[None], rest]))
    commands, states = _riccati(a, b, weights)
    # Everything from here on is what commands add to the states without any.
    bounds = _bounds(a, b, start, rest) - _values(jnp.zeros_like(commands), rest)
    values = _values(commands, states)
    free = ((values > bounds[0] - _TOUCH) & (values < bounds[1] + _TOUCH)).all((0, 1))
    problem = (a, b, weights, bounds)
    chunk = min(_CHUNK, count)

    def some(carry):
        left, first, solved = carry
        rows = jnp.nonzero(left, size=chunk, fill_value=count)[0]
        own = jax.tree.map(lambda x: jnp.take(x, rows, axis=-1, mode="clip"), problem)
        command, good = _interior_point(*own)
        first = first.at[:, rows].set(jnp.where(good, command, 0.0), mode="drop")
        solved = solved.at[rows].set(good, mode="drop")
        return left.at[rows].set(False, mode="drop"), first, solved

    carry = (~free, commands[0], jnp.ones(count, bool))
    _, first, solved = jax.lax.while_loop(lambda carry: carry[0].any(), some, carry)
    return jnp.clip(first, COMMAND_LOW[:, None], COMMAND_HIGH[:, None]).T, solved
