"""From noise to actions: Euler integration of a velocity field, and guidance.

A sampler sees only `velocity(x, t)`: x is float32 [..., W, A], t float32 [..., 1, 1], the same time
for every sequence; it returns [..., W, A]. The state stays float32 whatever the network's type.
"""

from typing import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.types import Array

Velocity = Callable[[Array, Array], Array]


def time_grid(num_steps: int) -> np.ndarray:
    """Times 0, 1/n, ..., 1: float32 [n + 1]."""
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    return np.linspace(0.0, 1.0, num_steps + 1, dtype=np.float32)


def initial_noise(rng: Array, shape: tuple[int, ...], temperature: float | Array = 1.0) -> Array:
    """Start of the flow: standard normal of `shape` times `temperature`, float32."""
    return temperature * jax.random.normal(rng, shape, jnp.float32)


def guided(unconditional: Velocity, conditional: Velocity, weight: float | Array) -> Velocity:
    """Classifier-free guidance (1 - w) v_unconditional + w v_conditional (Alpamayo 1.5).

    Weight 1 is the conditional field, 0 the unconditional one, above 1 extrapolates.
    """

    def velocity(x: Array, t: Array) -> Array:
        free, bound = unconditional(x, t), conditional(x, t)
        chex.assert_equal_shape([free, bound])
        return (1.0 - weight) * free + weight * bound

    return velocity


def euler(
    velocity: Velocity,
    noise: Array,
    num_steps: int,
    *,
    return_all: bool = False,
    unroll: bool = False,
) -> Array:
    """Integrates dx/dt = velocity(x, t) from t = 0 to 1 in equal Euler steps.

    Args:
      velocity: the field.
      noise: x at t = 0, [..., W, A].
      num_steps: steps; the field is evaluated at i / num_steps, i < num_steps.
      return_all: also return the states on the way.
      unroll: a Python loop instead of `lax.scan`, for exporters that cannot take loops.

    Returns:
      x at t = 1, [..., W, A]; with `return_all` the states x_0 ... x_n, [n + 1, ..., W, A].
    """
    grid = time_grid(num_steps)
    # Differences of the float32 grid, not 1 / n: the steps of the released integrator, to the bit.
    times = (grid[:-1], np.diff(grid))
    start = jnp.asarray(noise, jnp.float32)
    chex.assert_shape(start, (..., None, None))

    def step(x: Array, time: tuple[Array, Array]) -> tuple[Array, Array | None]:
        t, dt = time
        v = velocity(x, jnp.full((*x.shape[:-2], 1, 1), t, jnp.float32))
        chex.assert_equal_shape([v, x])
        x = x + dt * v.astype(jnp.float32)
        return x, (x if return_all else None)

    if unroll:
        states = [start]
        for t, dt in zip(*times):
            states.append(step(states[-1], (t, dt))[0])
        return jnp.stack(states) if return_all else states[-1]
    end, states = jax.lax.scan(step, start, jax.tree.map(jnp.asarray, times))
    return jnp.concatenate([start[None], states]) if return_all else end
