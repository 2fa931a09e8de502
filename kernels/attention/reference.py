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

    scores, visible, highest = [], False, None
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
        top = scores[-1].max(axis=-1, keepdims=True)
        highest = top if highest is None else jnp.maximum(highest, top)
    highest = jax.lax.stop_gradient(highest)

    # One softmax over all segments. Joining them into one array, and dividing every weight instead
    # of the few sums, would read and write the scores several times more.
    out, total = 0.0, 0.0
    for segment, score in zip(segments, scores):
        weights = jnp.exp(score - highest)
        total = total + weights.sum(axis=-1)
        equation = _equation("{q}grts,{k}gsh->{q}tgrh", q, segment.k)
        out = out + _mix(equation, weights.astype(q.dtype), segment.v, precision)
    out = out / jnp.moveaxis(total, -1, -3)[..., None]
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
