"""The readings with which a triplane is lifted from images."""

import functools
import math

import jax
import jax.numpy as jnp

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.kernels.cases import Case, bytes_of

_ASPECT = 16 / 9


def cases(
    config: ModelConfig, images: tuple[int, ...] = (1,), tokens: int = 160
) -> tuple[Case, ...]:
    """One layer of all cells of the triplane, each reading so many images of `tokens` tokens."""
    return tuple(_case(config, count, tokens) for count in images)


def _case(config, images, tokens):
    c = config.scene.triplane
    queries, heads, points = math.prod(c.size), c.num_heads, c.num_points
    size, dtype = c.hidden_size // heads, jnp.dtype(config.precision.compute)
    make = functools.partial(_arguments, images, tokens, queries, heads, points, size, dtype)
    specs = jax.eval_shape(make)
    read = images * queries * heads * points
    return Case(
        f"{queries}_cells/{images}",
        make,
        flops=2.0 * 4 * read * size,
        moved=bytes_of(specs) + images * queries * heads * size * dtype.itemsize,
        wrt=(0, 2, 3, 4),
    )


def _arguments(images, tokens, queries, heads, points, size, dtype):
    keys = jax.random.split(jax.random.key(0), 4)
    columns = max(2, round(math.sqrt(tokens * _ASPECT)))
    rows = tokens // columns
    shape = (images, queries, heads, points)
    values = jax.random.normal(keys[0], (images, tokens, heads, size), jnp.float32).astype(dtype)
    return (
        values,
        jnp.full(images, columns, jnp.int32),
        jax.random.uniform(keys[1], shape, maxval=columns - 1.0),
        jax.random.uniform(keys[2], shape, maxval=rows - 1.0),
        jax.nn.softmax(jax.random.normal(keys[3], shape), -1),
    )
