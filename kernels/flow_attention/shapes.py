"""The expert's attention at the length of a prompt."""

import functools

import jax
import jax.numpy as jnp

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.kernels.cases import Case, bytes_of
from alpamayo_jax.kernels.flow_attention.reference import Keys


def cases(
    config: ModelConfig, samples: tuple[int, ...] = (1, 6), prompt: int = 3006, tokens: int = 40
) -> tuple[Case, ...]:
    """One layer of one flow step, for K samples behind a prompt and their reasoning."""
    return tuple(_case(config, count, prompt, tokens) for count in samples)


def _case(config, samples, prompt, tokens):
    c = config.language
    shape = (samples, config.action.n_waypoints, config.expert.num_heads, c.head_dim)
    dtype = jnp.dtype(config.precision.compute)
    make = functools.partial(_arguments, shape, c.num_kv_heads, prompt, tokens, dtype)
    specs = jax.eval_shape(make)
    _, waypoints, heads, size = shape
    seen = prompt + tokens + waypoints
    return Case(
        f"{prompt}_keys/{samples}",
        make,
        flops=4.0 * samples * waypoints * heads * size * seen,
        moved=bytes_of(specs, specs[0]),
        options={"scale": size**-0.5, "eps": c.rms_norm_eps},
    )


def _arguments(shape, groups, prompt, tokens, dtype):
    samples, waypoints, heads, size = shape
    keys = iter(jax.random.split(jax.random.key(0), 12))
    draw = lambda *shape: jax.random.normal(next(keys), shape, jnp.float32).astype(dtype)  # noqa: E731
    angle = jax.random.uniform(next(keys), (1, samples, waypoints, size // 2), maxval=6.0)
    angle = jnp.concatenate([angle, angle], -1)
    own = jnp.arange(tokens) < tokens - jnp.arange(samples)[:, None]  # of different lengths
    return (
        draw(1, samples, waypoints, heads, size),
        draw(1, samples, waypoints, groups, size),
        draw(1, samples, waypoints, groups, size),
        draw(size),
        draw(size),
        jnp.cos(angle),
        jnp.sin(angle),
        Keys(draw(1, groups, prompt, size), draw(1, groups, prompt, size), jnp.ones((1, prompt), bool)),
        Keys(
            draw(1, samples, groups, tokens, size),
            draw(1, samples, groups, tokens, size),
            own[None],
        ),
    )
