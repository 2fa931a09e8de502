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
    precision = jax.lax.Precision.HIGHEST if q.dtype == jnp.float32 else None

    scores, visible = [], False
    for segment in segments:
        score = jnp.einsum(
            _equation("{q}tgrh,{k}gsh->{q}grts", q, segment.k),
            q,
            segment.k,
            precision=precision,
            preferred_element_type=jnp.float32,
        )
        mask = segment.mask
        # A sample axis the mask lacks is broadcast; then the axes for G and R go before [T, S].
        if mask.ndim < len(lead) + 2:
            mask = jnp.expand_dims(mask, 1)
        mask = mask[..., None, None, :, :]
        visible = visible | mask.any(-1)
        scores.append(jnp.where(mask, score * scale, jnp.finfo(jnp.float32).min))
    weights = jax.nn.softmax(jnp.concatenate(scores, axis=-1), axis=-1).astype(q.dtype)

    out = 0.0
    start = 0
    for segment in segments:
        size = segment.k.shape[-2]
        part = jax.lax.slice_in_dim(weights, start, start + size, axis=-1)
        equation = _equation("{q}grts,{k}gsh->{q}tgrh", q, segment.k)
        out = out + _mix(equation, part, segment.v, precision)
        start += size
    # visible is [..., 1, 1, T]; its T goes before the heads.
    out = jnp.where(jnp.moveaxis(visible, -1, -3)[..., None], out, 0.0)
    return out.astype(q.dtype).reshape(*lead, num_queries, num_heads, head_dim)


def _mix(equation: str, weights: Array, values: Array, precision: Any) -> Array:
    """The product in float32 of operands of any float type."""

    def product(a, b):
        return jnp.einsum(equation, a, b, precision=precision, preferred_element_type=jnp.float32)

    if weights.dtype == jnp.float32:
        return product(weights, values)
    # XLA for CPUs has no product of narrow operands in this layout with a float32 result.
    return jax.lax.platform_dependent(
        weights,
        values,
        cpu=lambda a, b: product(a.astype(jnp.float32), b.astype(jnp.float32)),
        default=product,
    )


def _equation(pattern: str, q: Array, k: Array) -> str:
    """Fills in the leading axes: "b" where samples are absent, "bk" where they are present."""
    return pattern.format(q="bk"[: q.ndim - 4], k="bk"[: k.ndim - 3])
