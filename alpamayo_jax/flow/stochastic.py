"""The flow sampler as a stochastic policy: the same marginals, a log-probability for every step.

With x_t = t x_1 + (1 - t) noise the score is (t v - x) / (1 - t), so for any sigma(t) the process

    dx = (v + sigma^2 / 2 (t v - x) / (1 - t)) dt + sigma dw

has the marginals of dx = v dt. Here sigma(t) = scale (1 - t). A step from t to t' is not Euler's of
this equation but its equivalent that keeps the share of noise exact however long the step: with the
data x_1 = x + (1 - t) v and the noise e = x - t v that the velocity predicts,

    x' = t' x_1 + sqrt((1 - t')^2 - s^2) e + s z,   s = sigma(t) sqrt(t' - t),   z standard normal.

For s = 0 it is the Euler step of the deterministic sampler, and so is the last step, t' = 1.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ConfigError
from alpamayo_jax.flow.samplers import Velocity, time_grid
from alpamayo_jax.types import Array


class Steps(NamedTuple):
    """Every step is normal with mean `of_x` x + `of_v` v and deviation `std`; float32 [S] each.

    Attributes:
      time: when the velocity is evaluated.
      of_x: factor of the state.
      of_v: factor of the velocity.
      std: 0 for the last step.
    """

    time: np.ndarray
    of_x: np.ndarray
    of_v: np.ndarray
    std: np.ndarray


def stochastic_steps(num_steps: int, scale: float) -> Steps:
    """The steps of `num_steps` equal ones.

    Args:
      num_steps: at least 2, as the last one is certain.
      scale: sigma(t) = scale (1 - t); at most sqrt(num_steps) / 2, where the longest step but one
        would add more noise than belongs there.

    Raises:
      ConfigError: either is out of range.
    """
    if num_steps < 2 or not 0 <= scale <= num_steps**0.5 / 2:
        raise ConfigError(
            f"a stochastic flow of {num_steps} steps and noise {scale} needs at least 2 steps and "
            f"noise from 0 to sqrt(steps) / 2 = {max(num_steps, 0) ** 0.5 / 2:.3f}"
        )
    grid = time_grid(num_steps).astype(np.float64)
    t, after = grid[:-1], grid[1:]
    std = scale * (1 - t) * np.sqrt(after - t)
    std[-1] = 0.0
    kept = np.sqrt(np.maximum((1 - after) ** 2 - std**2, 0.0))
    return Steps(*map(np.float32, (t, after + kept, after * (1 - t) - kept * t, std)))


def step_logprobs(states: Array, velocities: Array, steps: Steps) -> Array:
    """Log-density of every step of a chain, summed over W and A.

    Args:
      states: float32 [S + 1, ..., W, A].
      velocities: [S, ..., W, A], at all states but the last.
      steps: of the sampler.

    Returns:
      float32 [S, ...]; 0 for a step without noise.
    """
    chex.assert_shape(velocities, (len(steps.std), *states.shape[1:]))
    chex.assert_shape(states, (len(steps.std) + 1, ...))
    shape = (-1,) + (1,) * (states.ndim - 1)
    of_x, of_v, std = (jnp.reshape(a, shape) for a in (steps.of_x, steps.of_v, steps.std))
    mean = of_x * states[:-1] + of_v * velocities.astype(jnp.float32)
    safe = jnp.where(std > 0, std, 1.0)
    z = (states[1:] - mean) / safe
    density = -0.5 * jnp.square(z) - jnp.log(safe) - 0.5 * np.log(2 * np.pi)
    return jnp.where(std > 0, density, 0.0).sum((-2, -1))


def stochastic(velocity: Velocity, noise: Array, steps: Steps) -> tuple[Array, Array]:
    """Integrates the stochastic flow from noise to the end.

    Args:
      velocity: the field, see `flow.samplers`.
      noise: [S, ..., W, A]: the start, which may be scaled, then the standard normal z of each step
        but the last.
      steps: from `stochastic_steps`.

    Returns:
      States float32 [S + 1, ..., W, A] and their `step_logprobs` [S, ...].
    """
    chex.assert_shape(noise, (len(steps.std), ..., None, None))
    start = jnp.asarray(noise[0], jnp.float32)
    # The last step's deviation is 0: whatever stands here has no effect.
    draws = jnp.concatenate([noise[1:], noise[:1]])

    def step(x, inputs):
        (t, of_x, of_v, std), z = inputs
        v = velocity(x, jnp.full((*x.shape[:-2], 1, 1), t, jnp.float32)).astype(jnp.float32)
        chex.assert_equal_shape([v, x])
        x = of_x * x + of_v * v + std * z
        return x, (x, v)

    _, (states, velocities) = jax.lax.scan(step, start, (tuple(map(jnp.asarray, steps)), draws))
    states = jnp.concatenate([start[None], states])
    return states, step_logprobs(states, velocities, steps)
