"""The systems between trajectories and actions."""

import functools

import jax
import jax.numpy as jnp

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.kernels.cases import Case, bytes_of

_WIDTHS = (3, 4)  # penalties on second and third differences: accelerations, speeds


def cases(config: ModelConfig, systems: tuple[int, ...] = (1, 1024)) -> tuple[Case, ...]:
    """Smoothed speeds and accelerations of so many trajectories."""
    n = config.action.n_waypoints
    return tuple(_case(n, width, count) for width in _WIDTHS for count in systems)


def _case(n, width, count):
    make = functools.partial(_arguments, n, width, count)
    flops = count * n * (width * width + 4.0 * width)
    specs = jax.eval_shape(make)
    return Case(
        f"{n}x{width}/{count}", make, flops=flops, moved=bytes_of(specs, specs[1]), wrt=(0, 1)
    )


def _arguments(n, width, count):
    band, rhs = jax.random.split(jax.random.key(0))
    band = jax.random.normal(band, (count, n, width))
    band = band.at[..., 0].set(jnp.abs(band[..., 0]) + 4.0 * width)  # diagonally dominant
    return band, jax.random.normal(rhs, (count, n))
