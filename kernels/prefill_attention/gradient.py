"""The gradient of the attention kernels: the same rule for every chip."""

import functools
from typing import Any, Callable

import jax
import jax.numpy as jnp

from alpamayo_jax.kernels.attention import KeyRange
from alpamayo_jax.kernels.prefill_attention.reference import MRope, check_shapes

Array = Any


@functools.cache
def differentiable(chip: Any) -> Callable[..., Array]:
    """`prefill_attention` from a chip's kernels, with a gradient for q, k and v.

    Args:
      chip: has `forward(q, k, v, keys, rope, scale, interpret) -> out, lse` and
        `backward(q, k, v, keys, rope, lse, delta, d_out, scale, interpret) -> dq, dk, dv`; lse is
        the logarithm of the sum of exponentials, float32 [B, N, T], delta the sum of out * d_out.
    """

    @functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
    def attention(q, k, v, keys, rope, scale, interpret):
        return chip.forward(q, k, v, keys, rope, scale, interpret)[0]

    def forward(q, k, v, keys, rope, scale, interpret):
        out, lse = chip.forward(q, k, v, keys, rope, scale, interpret)
        return out, (q, k, v, keys, rope, out, lse)

    def backward(scale, interpret, saved, d_out):
        q, k, v, keys, rope, out, lse = saved
        delta = jnp.sum(out.astype(jnp.float32) * d_out.astype(jnp.float32), axis=-1)
        delta = jnp.swapaxes(delta, 1, 2)
        grads = chip.backward(q, k, v, keys, rope, lse, delta, d_out, scale, interpret)
        return *grads, None, None

    attention.defvjp(forward, backward)

    def call(
        q: Array, k: Array, v: Array, keys: KeyRange, rope: MRope | None = None, *, scale: float,
        interpret: bool = False,
    ) -> Array:  # fmt: skip
        check_shapes(q, k, v, keys, rope)
        return attention(q, k, v, keys, rope, scale, interpret)

    return call


def block_bounds(keys: KeyRange, block_q: int, block_k: int) -> tuple[Array, Array, Array, Array]:
    """Which blocks of keys the queries of a block see, and which blocks of queries see a block.

    Args:
      keys: of [B, T].
      block_q, block_k: sizes; the last blocks may be cut short.

    Returns:
      int32 [B, blocks of q] first and end, [B, blocks of k] first and end; both 0 for none. Blocks
      between that are not seen are included: they cost time and change nothing.
    """
    size = keys.first.shape[1]
    num_q, num_k = -(-size // block_q), -(-size // block_k)
    empty = keys.first >= keys.end
    pad = ((0, 0), (0, num_q * block_q - size))
    first = jnp.pad(jnp.where(empty, size, keys.first), pad, constant_values=size)
    end = jnp.pad(jnp.where(empty, 0, keys.end), pad)
    first = first.reshape(-1, num_q, block_q).min(-1) // block_k
    end = -(-end.reshape(-1, num_q, block_q).max(-1) // block_k)
    seen = (first[..., None] <= jnp.arange(num_k)) & (jnp.arange(num_k) < end[..., None])
    index = jnp.arange(num_q)[:, None]
    by_first = jnp.where(seen, index, num_q).min(1)
    by_end = jnp.where(seen, index + 1, 0).max(1)

    def tidy(first, end):
        none = first >= end
        return jnp.where(none, 0, first).astype(jnp.int32), jnp.where(none, 0, end).astype(jnp.int32)

    return *tidy(first, end), *tidy(by_first, by_end)
