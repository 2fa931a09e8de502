"""The products of a decoded token."""

import functools

import jax
import jax.numpy as jnp

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.kernels.cases import Case, bytes_of


def cases(config: ModelConfig, samples: tuple[int, ...] = (1, 6)) -> tuple[Case, ...]:
    """Every matrix of the language model that a token meets, for K samples, in int8 and fp8."""
    c = config.language
    width, mlp = c.hidden_size, c.intermediate_size
    matrices = {
        "q_proj": (width, c.num_heads * c.head_dim),
        "k_proj": (width, c.num_kv_heads * c.head_dim),
        "o_proj": (c.num_heads * c.head_dim, width),
        "gate_proj": (width, mlp),
        "down_proj": (mlp, width),
        "lm_head": (width, c.vocab_size),
    }
    dtype = jnp.dtype(config.precision.compute)
    return tuple(
        _case(f"{name}/{label}/{rows}", rows, *shape, kind, dtype)
        for name, shape in matrices.items()
        for label, kind in (("int8", jnp.int8), ("fp8", jnp.float8_e4m3fn))
        for rows in samples
    )


def _case(name, rows, depth, width, kind, dtype):
    make = functools.partial(_arguments, rows, depth, width, kind, dtype)
    moved = bytes_of(jax.eval_shape(make)) + rows * width * dtype.itemsize
    return Case(name, make, flops=2.0 * rows * depth * width, moved=moved)


def _arguments(rows, depth, width, kind, dtype):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (rows, depth), jnp.float32).astype(dtype)
    values = jax.random.randint(keys[1], (depth, width), -127, 128, jnp.int8)
    values = values if kind == jnp.int8 else values.astype(jnp.float32).astype(kind)
    return x, values, jax.random.uniform(keys[2], (width,), jnp.float32, 1e-4, 1e-3)
