"""Prompts of the 10B model (3072 tokens of text and images) and the patches of its 16 images."""

import jax.numpy as jnp

from alpamayo_jax.kernels.attention import causal_range, prefix_range
from alpamayo_jax.kernels.cases import Case
from alpamayo_jax.kernels.prefill_attention.reference import MRope

_TYPE = jnp.bfloat16


def _case(name, batch, tokens, heads, kv_heads, size, causal, rope=False):
    def arguments():
        q = jnp.ones((batch, tokens, heads, size), _TYPE)
        k = jnp.ones((batch, kv_heads, tokens, size), _TYPE)
        if causal:
            keys = causal_range(jnp.ones((batch, tokens), bool))
        else:
            keys = prefix_range(jnp.full(batch, tokens), tokens)
        positions = jnp.zeros((3, batch, tokens), jnp.int32)
        table = MRope(positions, section=(24, 20, 20), theta=5e6) if rope else None
        return q, k, k, keys, table

    pairs = batch * tokens * (tokens + 1) / 2 if causal else batch * tokens**2
    values = batch * tokens * size * (2 * heads + 2 * kv_heads)
    return Case(
        name,
        arguments,
        flops=4.0 * pairs * heads * size,
        moved=float(values * jnp.dtype(_TYPE).itemsize),
        options={"scale": size**-0.5},
        wrt=(0, 1, 2),
    )


CASES = (
    _case("prompt", 1, 3072, 32, 8, 128, causal=True),
    _case("prompt_with_positions", 1, 3072, 32, 8, 128, causal=True, rope=True),
    _case("vision", 16, 720, 16, 16, 72, causal=False),
)
