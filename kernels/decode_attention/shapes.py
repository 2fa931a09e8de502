"""A token of the 10B model after a prompt of 3072: for 1, 6 and 16 samples, and a drafted block."""

import jax.numpy as jnp

from alpamayo_jax.kernels.attention import Segment
from alpamayo_jax.kernels.cases import Case

_TYPE = jnp.bfloat16
_HEADS, _KV_HEADS, _SIZE, _PROMPT, _OWN = 32, 8, 128, 3072, 64


def _case(name, samples, queries):
    def arguments():
        shared = jnp.ones((1, _KV_HEADS, _PROMPT, _SIZE), _TYPE)
        own = jnp.ones((1, samples, _KV_HEADS, _OWN, _SIZE), _TYPE)
        return (
            jnp.ones((1, samples, queries, _HEADS, _SIZE), _TYPE),
            Segment(k=shared, v=shared, mask=jnp.ones((1, 1, 1, _PROMPT), bool)),
            Segment(k=own, v=own, mask=jnp.ones((1, samples, queries, _OWN), bool)),
        )

    keys = _PROMPT + samples * _OWN
    rows = samples * queries * _HEADS
    return Case(
        name,
        arguments,
        flops=4.0 * rows * (_PROMPT + _OWN) * _SIZE,
        moved=2.0 * (2 * keys * _KV_HEADS * _SIZE + 2 * rows * _SIZE),
        options={"scale": _SIZE**-0.5},
    )


CASES = (_case("1_sample", 1, 1), _case("6_samples", 6, 1), _case("16_samples", 16, 1),
         _case("draft_of_16", 1, 16))  # fmt: skip
