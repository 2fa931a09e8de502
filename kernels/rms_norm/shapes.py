"""The norms of the 10B model: a prompt of 3072, a token of 6 samples, the expert's waypoints."""

import jax.numpy as jnp

from alpamayo_jax.kernels.cases import Case

_TYPE = jnp.bfloat16


def _case(name, rows, width, residual=False, heads=None):
    def arguments():
        if heads is None:
            x = jnp.ones((rows, width), _TYPE)
            return x, jnp.ones(width, _TYPE), (x if residual else None), None
        table = jnp.ones((rows, width), jnp.float32)
        return jnp.ones((rows, heads, width), _TYPE), jnp.ones(width, _TYPE), None, (table, table)

    values = rows * width * (heads or 1)
    moved = jnp.dtype(_TYPE).itemsize * values * (4 if residual else 2)
    moved += 0 if heads is None else 4 * rows * width  # half of two tables
    return Case(name, arguments, flops=8.0 * values, moved=moved, options={"eps": 1e-6}, wrt=(0, 1))


CASES = (
    _case("prompt_residual", 3072, 4096, residual=True),
    _case("prompt_queries", 3072, 128, heads=32),
    _case("prompt_keys", 3072, 128, heads=8),
    _case("token_residual", 6, 4096, residual=True),
    _case("expert_residual", 384, 2048, residual=True),
)
