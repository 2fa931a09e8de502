"""The gated units of the 10B model: a prompt of 3072, a token of 6 samples, the expert's waypoints."""

import jax.numpy as jnp

from alpamayo_jax.kernels.cases import Case

_TYPE = jnp.bfloat16


def _case(name, rows, width, features):
    def arguments():
        weight = jnp.ones((width, features), _TYPE)
        return jnp.ones((rows, width), _TYPE), weight, weight

    values = rows * width + 2 * width * features + rows * features
    return Case(
        name,
        arguments,
        flops=4.0 * rows * width * features,
        moved=float(values * jnp.dtype(_TYPE).itemsize),
        wrt=(0, 1, 2),
    )


CASES = (
    _case("prompt", 3072, 4096, 12_288),
    _case("token_of_6_samples", 6, 4096, 12_288),
    _case("expert_of_6_samples", 384, 2048, 8256),
)
