"""Attention over segments of keys and values, in plain XLA.

Letters: B batch, K samples, T queries, S keys, G key-value heads, R query heads per key-value head,
N = G R query heads, H head size. The leading "..." is (B,) or (B, K).
"""

from typing import Any, Sequence

import flax.struct
import jax
import jax.numpy as jnp

Array = Any


@flax.struct.dataclass
class Segment:
    """Keys and values that one softmax covers together with other segments.

    Attributes:
      k: [..., G, S, H]; without the K axis of the queries when all samples share it.
      v: as k.
      mask: bool, [..., T, S] after broadcasting (axes of size 1 allowed); True where a query may look.
    """

    k: Array
    v: Array
    mask: Array


def attend_reference(q: Array, segments: Sequence[Segment], *, scale: float) -> Array:
    """Softmax attention of each query over all segments at once.

    One softmax over the concatenated scores is exact whatever the split, so the prefix of an
    observation is read once for all samples drawn from it.

    Args:
      q: [..., T, N, H].
      segments: keys and values in the dtype of q.
      scale: multiplies the scores.

    Returns:
      [..., T, N, H] in the dtype of q; softmax is float32. A query that may look nowhere gets 0.
    """
    *lead, num_queries, num_heads, head_dim = q.shape
    num_kv_heads = segments[0].k.shape[-3]
    q = q.reshape(*lead, num_queries, num_kv_heads, num_heads // num_kv_heads, head_dim)
    q = jnp.moveaxis(q, -4, -2)  # [..., G, R, T, H]

    scores, visible, highest = [], False, None
    for segment in segments:
        mask = segment.mask
        # A sample axis the mask lacks is broadcast; then the axes for G and R go before [T, S].
        if mask.ndim < len(lead) + 2:
            mask = jnp.expand_dims(mask, 1)
        mask = mask[..., None, None, :, :]
        visible = visible | mask.any(-1, keepdims=True)
        score = _product(q, segment.k, -1) * scale
        scores.append(jnp.where(mask, score, jnp.finfo(jnp.float32).min))
        top = scores[-1].max(axis=-1, keepdims=True)
        highest = top if highest is None else jnp.maximum(highest, top)
    highest = jax.lax.stop_gradient(highest)

    # One softmax over all segments. Joining them into one array, and dividing every weight instead
    # of the few sums, would read and write the scores several times more.
    out, total = 0.0, 0.0
    for segment, score in zip(segments, scores):
        weights = jnp.exp(score - highest)
        total = total + weights.sum(axis=-1, keepdims=True)
        out = out + _mix(weights.astype(q.dtype), segment.v)
    out = jnp.where(visible, out / total, 0.0).astype(q.dtype)
    return jnp.moveaxis(out, -2, -4).reshape(*lead, num_queries, num_heads, head_dim)


def _product(rows: Array, keys: Array, axis: int) -> Array:
    """float32 product of rows [..., G, R, T, X] and keys [..., G, S, H], over `axis` of the keys.

    Rows on the same keys stand together in one product, and no operand has to be transposed: for
    that, compilers for CPUs pass over the scores once more.
    """
    shared = rows.ndim - keys.ndim == 2  # keys lack the samples' axis, which goes among the rows
    rows = jnp.moveaxis(rows, 1, 2) if shared else rows
    joined = rows.reshape(*keys.shape[:-2], -1, rows.shape[-1])
    batch = tuple(range(keys.ndim - 2))
    out = jax.lax.dot_general(
        joined,
        keys,
        (((joined.ndim - 1,), (keys.ndim + axis,)), (batch, batch)),
        precision=jax.lax.Precision.HIGHEST if rows.dtype == jnp.float32 else None,
        preferred_element_type=jnp.float32,
    )
    out = out.reshape(*rows.shape[:-1], out.shape[-1])
    return jnp.moveaxis(out, 2, 1) if shared else out


def _mix(weights: Array, values: Array) -> Array:
    """float32 product of weights [..., G, R, T, S] and values [..., G, S, H] of any float type."""
    if weights.dtype == jnp.float32:
        return _product(weights, values, -2)
    # XLA for CPUs has no product of narrow operands in this layout with a float32 result.
    wide = lambda a, b: _product(a.astype(jnp.float32), b.astype(jnp.float32), -2)  # noqa: E731
    return jax.lax.platform_dependent(
        weights, values, cpu=wide, default=lambda a, b: _product(a, b, -2)
    )
