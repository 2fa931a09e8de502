"""The tracking controller on hard cases, against a general solver in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from alpamayo_jax.sim import tracking

TIMES = np.arange(65) * 0.1
KINDS = ("stop", "tight", "sprint", "standing", "overspeed")


def problem(kind, rng):
    """(state [8], reference [65, 3]) of one kind."""
    state, yaw = np.zeros(8), np.zeros(65)
    speed = rng.uniform(4, 25)
    state[3], state[6], state[7] = speed, rng.uniform(-0.05, 0.05), rng.uniform(-2, 1)
    if kind == "stop":
        way = np.minimum(speed * TIMES, speed * rng.uniform(0.1, 0.8))
    elif kind == "tight":
        state[3] = speed = min(speed, 10.0)
        way = speed * TIMES
        yaw = way / rng.uniform(4, 12) * rng.choice([-1, 1])
    elif kind == "sprint":
        way = speed * TIMES + 0.5 * rng.uniform(7, 12) * TIMES**2
    elif kind == "standing":
        state[3], state[7], way = rng.uniform(0, 0.2), rng.uniform(-6, 0), 0 * TIMES
    else:
        state[3] = rng.uniform(35.5, 42)
        way = state[3] * TIMES + 2 * TIMES**2
    step = np.diff(way, prepend=0.0)
    path = np.stack([np.cumsum(step * np.cos(yaw)), np.cumsum(step * np.sin(yaw)), yaw], -1)
    return state, path


@pytest.fixture(scope="module")
def solved():
    rng = np.random.default_rng(1)
    made = [problem(KINDS[i % len(KINDS)], rng) for i in range(60)]
    states, paths = (np.stack(rows) for rows in zip(*made))
    control = jax.jit(lambda s, r: tracking.control(s, r))
    command, good = control(jnp.asarray(states, jnp.float32), jnp.asarray(paths, jnp.float32))
    return states, paths, np.asarray(command), np.asarray(good), control


def matrices(state):
    with jax.enable_x64(True):
        return tuple(np.asarray(m) for m in tracking.linearise(jnp.asarray(state)))


def best(state, path):
    """The exact problem, condensed, for a general solver: commands [20, 2]."""
    a, b = matrices(state)
    powers = [np.eye(8)]
    for _ in range(20):
        powers.append(a @ powers[-1])
    reach = np.zeros((21, 8, 40))
    for k in range(1, 21):
        for j in range(k):
            reach[k][:, 2 * j : 2 * j + 2] = powers[k - 1 - j] @ b
    rest = np.stack([power @ state for power in powers])
    cost = np.diag([2, 1, 1, 0, 0, 0, 0, 0.1])
    h, g = np.kron(np.eye(20), np.diag([5.0, 1.0])) + 1e-6 * np.eye(40), np.zeros(40)
    for k in range(10, 21):
        want = np.zeros(8)
        want[:3] = path[k]
        h += reach[k].T @ cost @ reach[k]
        g += reach[k].T @ cost @ (rest[k] - want)
    rows = np.concatenate([reach[1:, i] for i in (2, 3, 6, 7)])
    base = np.concatenate([rest[1:, i] for i in (2, 3, 6, 7)])
    low = np.repeat([-np.pi / 2, 0.0, -np.pi / 4, -8.0], 20) - base
    high = np.repeat([np.pi / 2, 35.0, np.pi / 4, 6.0], 20) - base
    found = scipy.optimize.minimize(
        lambda u: 0.5 * u @ h @ u + g @ u, np.zeros(40), jac=lambda u: h @ u + g, method="SLSQP",
        bounds=[(-2, 2), (-9, 6)] * 20, options={"maxiter": 500, "ftol": 1e-12},
        constraints=[
            {"type": "ineq", "fun": lambda u: rows @ u - low, "jac": lambda u: rows},
            {"type": "ineq", "fun": lambda u: high - rows @ u, "jac": lambda u: -rows},
        ],
    )  # fmt: skip
    return found.x.reshape(20, 2), found.success


def test_every_hard_case_is_solved_in_float32(solved):
    _, _, command, good, _ = solved
    assert good.all() and np.isfinite(command).all()
    assert (command >= tracking.COMMAND_LOW).all() and (command <= tracking.COMMAND_HIGH).all()


def test_the_commands_are_those_of_a_general_solver(solved):
    states, paths, command, _, _ = solved
    compared = 0
    for i in range(16):
        if KINDS[i % len(KINDS)] in ("stop", "tight", "sprint"):
            want, success = best(states[i], paths[i])
            if success:
                compared += 1
                assert abs(command[i, 0] - want[0, 0]) < 0.02, KINDS[i % len(KINDS)]
                assert abs(command[i, 1] - want[0, 1]) < 0.01, KINDS[i % len(KINDS)]
    assert compared >= 6


def test_float64_agrees(solved):
    states, paths, command, _, _ = solved
    with jax.enable_x64(True):
        control = jax.jit(lambda s, r: tracking.control(s, r))
        exact, good = control(jnp.asarray(states), jnp.asarray(paths))
    assert np.asarray(good).all()
    assert np.abs(np.asarray(exact) - command).max(0)[0] < 0.02
    assert np.abs(np.asarray(exact) - command).max(0)[1] < 0.01


def test_too_fast_brakes_and_standing_brakes_are_let_go(solved):
    states, _, command, _, _ = solved
    kinds = np.array([KINDS[i % len(KINDS)] for i in range(len(states))])
    assert (command[kinds == "overspeed", 1] < 0).all()
    assert (np.abs(command[kinds == "standing", 0]) < 0.1).all()


def test_a_row_does_not_depend_on_its_neighbours(solved):
    states, paths, command, _, control = solved
    order = np.random.default_rng(0).permutation(len(states))
    again, _ = control(
        jnp.asarray(states[order], jnp.float32), jnp.asarray(paths[order], jnp.float32)
    )
    np.testing.assert_allclose(again, command[order], atol=2e-3)


def test_where_the_ego_is_does_not_matter_and_a_mirrored_plan_is_steered_the_other_way(solved):
    states, paths, command, _, control = solved
    moved, mirrored = states.copy(), paths * np.array([1.0, -1.0, -1.0])
    moved[:, :3] = [5.0, 6.0, 1.0]
    moved[:, 6] *= -1
    other, _ = control(jnp.asarray(moved, jnp.float32), jnp.asarray(mirrored, jnp.float32))
    np.testing.assert_allclose(other, command * np.array([-1.0, 1.0]), atol=2e-3)


def test_a_plan_that_is_not_finite_gives_no_command(solved):
    states, paths, _, _, control = solved
    bad = paths.copy()
    bad[0] = np.nan
    command, good = control(jnp.asarray(states, jnp.float32), jnp.asarray(bad, jnp.float32))
    assert not good[0] and np.asarray(command)[0].tolist() == [0.0, 0.0]
    assert np.asarray(good)[1:].all()


def test_the_linear_model_is_the_vehicles(solved):
    from alpamayo_jax.sim import vehicle

    with jax.enable_x64(True):
        for speed in (2.0, 12.0):
            state = jnp.array([0, 0, 0, speed, 0.01, 0.02, 0.01, 0.1])
            a, b = tracking.linearise(state)
            command = jnp.array([0.012, 0.2])
            got, want = a @ state + b @ command, vehicle.advance(state, command)
            np.testing.assert_allclose(got, want, atol=2e-3)
