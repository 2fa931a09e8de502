"""Attention with a choice of implementation."""

from typing import Sequence

import jax.numpy as jnp

from alpamayo_jax.kernels import dispatch
from alpamayo_jax.kernels.attention import KeyRange, Segment, attend_reference
from alpamayo_jax.kernels.decode_attention import decode_attention
from alpamayo_jax.kernels.dispatch import Unsupported
from alpamayo_jax.kernels.flow_attention import Keys, flow_attention
from alpamayo_jax.kernels.prefill_attention import prefill_attention
from alpamayo_jax.types import Array

__all__ = ["KeyRange", "Segment", "attend", "attend_flow_step", "is_flow_step"]


def attend(
    q: Array,
    segments: Sequence[Segment],
    *,
    scale: float,
    implementation: str | Sequence[str] = "auto",
    interpret: bool = False,
) -> Array:
    """Softmax attention of q [..., T, N, H] over all `segments` together.

    See `kernels.attention.reference` for shapes. The mask of a segment may be a `KeyRange` of its
    own tokens. There are kernels for two cases: tokens among themselves with a `KeyRange`, and new
    tokens of K samples on a shared prefix, followed by segments of their own.

    Args:
      q, segments, scale: see `kernels.attention.attend_reference`.
      implementation, interpret: see `kernels.dispatch.run`.

    Raises:
      ConfigError: no implementation of that name.
      Unsupported: the named implementation has no kernel for these segments.
    """
    return dispatch.run(
        "attention", implementation, {"xla": _plain, "pallas": _pallas}, q, segments, scale=scale,
        interpret=interpret,
    )  # fmt: skip


def is_flow_step(context: Sequence[Segment]) -> bool:
    """Whether tokens of K samples stand on a prefix shared by all and on one segment of each, of
    which they all see the same keys."""
    if [segment.k.ndim for segment in context] != [4, 5]:
        return False
    masks = [_with_samples(segment.mask) for segment in context]
    return masks[0].shape[1:3] == (1, 1) and masks[1].shape[2] == 1


def attend_flow_step(
    q: Array,
    k: Array,
    v: Array,
    norms: Sequence[Array],
    rope: tuple[Array, Array],
    context: Sequence[Segment],
    **how,
) -> Array:
    """Attention of waypoints among themselves and over `context`, from projections on.

    Args:
      q, k, v: [B, K, W, N or G, H] as projected; see `kernels.flow_attention`.
      norms: [H] of queries and of keys.
      rope: cos, sin, broadcast to [B, K, W, H].
      context: what `is_flow_step` says.
      **how: scale, eps, implementation, interpret.
    """
    batch, samples, waypoints, _, size = q.shape
    shared, own = (
        Keys(k=segment.k, v=segment.v, mask=_with_samples(segment.mask)) for segment in context
    )
    shared_mask = jnp.broadcast_to(shared.mask[:, 0, 0], (batch, shared.k.shape[-2]))
    own_mask = jnp.broadcast_to(own.mask[:, :, 0], (batch, samples, own.k.shape[-2]))
    cos, sin = (jnp.broadcast_to(table, (batch, samples, waypoints, size)) for table in rope)
    return flow_attention(
        q, k, v, *norms, cos, sin, shared.replace(mask=shared_mask), own.replace(mask=own_mask), **how
    )


def _plain(q: Array, segments: Sequence[Segment], *, scale: float) -> Array:
    segments = [
        s.replace(mask=s.mask.mask(s.k.shape[-2])) if isinstance(s.mask, KeyRange) else s
        for s in segments
    ]
    return attend_reference(q, segments, scale=scale)


def _pallas(q: Array, segments: Sequence[Segment], *, scale: float, interpret: bool) -> Array:
    how = dict(scale=scale, implementation="pallas", interpret=interpret)
    first, *rest = segments
    if not rest and isinstance(first.mask, KeyRange):
        return prefill_attention(q, first.k, first.v, first.mask, **how)
    masks = [segment.mask for segment in segments]
    if q.ndim == 5 and rest and not any(isinstance(mask, KeyRange) for mask in masks):
        if first.k.ndim == 4 and all(segment.k.ndim == 5 for segment in rest):
            shared = first.replace(mask=_with_samples(first.mask))
            return decode_attention(q, shared, _joined(rest), **how)
    raise Unsupported(
        "kernels know tokens among themselves with a KeyRange, and samples on a shared prefix"
    )


def _with_samples(mask: Array) -> Array:
    """[B, K or 1, T or 1, S], also of a mask without samples."""
    return mask if mask.ndim == 4 else jnp.expand_dims(mask, 1)


def _joined(segments: Sequence[Segment]) -> Segment:
    """One segment of several, each with samples."""
    masks = [_with_samples(segment.mask) for segment in segments]
    lead = jnp.broadcast_shapes(*(mask.shape[:-1] for mask in masks))
    masks = [
        jnp.broadcast_to(mask, (*lead, segment.k.shape[-2]))
        for mask, segment in zip(masks, segments)
    ]
    return Segment(
        k=jnp.concatenate([segment.k for segment in segments], axis=-2),
        v=jnp.concatenate([segment.v for segment in segments], axis=-2),
        mask=jnp.concatenate(masks, axis=-1),
    )
