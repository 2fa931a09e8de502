"""Flow matching: the path from noise to data, when to train on it, and the loss.

Time runs from t = 0 (noise) to t = 1 (data); paper equations 6 to 8. Actions are [..., W, A], a
time has shape [..., 1, 1], one per action sequence, so that it multiplies them as it is.
"""

import chex
import flax.struct
import jax
import jax.numpy as jnp

from alpamayo_jax.config import FlowConfig
from alpamayo_jax.types import Array


@flax.struct.dataclass
class FlowPair:
    """One training example of the velocity field.

    Attributes:
      x_t: float32 [..., W, A], the point on the path.
      t: float32 [..., 1, 1].
      target: float32 [..., W, A], the velocity there.
    """

    x_t: Array
    t: Array
    target: Array


def interpolate(x: Array, noise: Array, t: Array) -> Array:
    """Point t x + (1 - t) noise on the straight path (equation 6).

    Args:
      x: data, [..., W, A].
      noise: standard normal, [..., W, A].
      t: [..., 1, 1] in [0, 1].
    """
    chex.assert_equal_shape([x, noise])
    chex.assert_shape(t, (*x.shape[:-2], 1, 1))
    return t * x + (1.0 - t) * noise


def target(x: Array, noise: Array) -> Array:
    """Velocity of the straight path, x - noise, [..., W, A]."""
    chex.assert_equal_shape([x, noise])
    return x - noise


def sample_time(rng: Array, shape: tuple[int, ...], cfg: FlowConfig) -> Array:
    """Times to train at, float32 of `shape`.

    "beta": t = scale (1 - B) with B ~ Beta(a, b), which prefers the noisy end as in the released
    model (mean 0.4 with its settings). "uniform": t ~ U(0, 1).
    """
    u = jax.random.uniform(rng, shape, jnp.float32)
    if cfg.train_time == "uniform":
        return u
    if cfg.beta_b == 1.0:  # invertible in closed form; the general sampler is a rejection loop
        b = u ** (1.0 / cfg.beta_a)
    else:
        b = jax.random.beta(rng, cfg.beta_a, cfg.beta_b, shape, jnp.float32)
    return cfg.beta_scale * (1.0 - b)


def sample_pair(rng: Array, x: Array, cfg: FlowConfig) -> FlowPair:
    """Draws noise and a time for each sequence of `x` [..., W, A] and goes there."""
    noise_rng, time_rng = jax.random.split(rng)
    x = jnp.asarray(x, jnp.float32)
    noise = jax.random.normal(noise_rng, x.shape, jnp.float32)
    t = sample_time(time_rng, (*x.shape[:-2], 1, 1), cfg)
    return FlowPair(x_t=interpolate(x, noise, t), t=t, target=target(x, noise))


def loss(velocity: Array, wanted: Array, weights: Array | None = None) -> Array:
    """Mean square error of the velocity in float32, a scalar (equation 8; mean over all elements).

    Args:
      velocity: predicted, [..., W, A], any float type.
      wanted: `target`, [..., W, A].
      weights: [..., W] or None; a bool mask or non-negative weights per waypoint. The result is the
        weighted mean, and 0 where all weights are 0.
    """
    chex.assert_equal_shape([velocity, wanted])
    error = jnp.square(velocity.astype(jnp.float32) - wanted.astype(jnp.float32))
    if weights is None:
        return jnp.mean(error)
    chex.assert_shape(weights, error.shape[:-1])
    weights = weights.astype(jnp.float32)
    total = jnp.sum(weights * jnp.mean(error, axis=-1))
    return total / jnp.maximum(jnp.sum(weights), jnp.finfo(jnp.float32).tiny)
