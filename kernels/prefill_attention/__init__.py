"""Attention of a prompt's tokens, or of an image's patches, among themselves."""

from typing import Any, Sequence

from alpamayo_jax.kernels import dispatch
from alpamayo_jax.kernels.prefill_attention import pallas_gpu, pallas_tpu
from alpamayo_jax.kernels.prefill_attention.gradient import differentiable
from alpamayo_jax.kernels.prefill_attention.reference import (
    KeyRange,
    MRope,
    causal_range,
    prefill_attention_reference,
    prefix_range,
    segment_range,
)

Array = Any

__all__ = [
    "KeyRange", "MRope", "causal_range", "prefill_attention", "prefix_range", "segment_range",
]  # fmt: skip

_CANDIDATES = {
    "xla": prefill_attention_reference,
    "pallas": dispatch.pallas(gpu=differentiable(pallas_gpu), tpu=differentiable(pallas_tpu)),
}


def prefill_attention(
    q: Array,
    k: Array,
    v: Array,
    keys: KeyRange,
    rope: MRope | None = None,
    *,
    scale: float,
    implementation: str | Sequence[str] = "auto",
    interpret: bool = False,
) -> Array:
    """Softmax attention of every token over its run of keys; no score leaves the chip.

    The kernels keep a running maximum and sum (Dao et al. 2022, FlashAttention), skip blocks of keys
    that nobody sees, and recompute the weights on the way back.

    Args:
      q: [B, T, N, H].
      k, v: [B, G, T, H] in the type of q; N is a multiple of G.
      keys: which keys each token sees.
      rope: rotates q and k in float32 first (the results have their type again), or None.
      scale: multiplies the scores.
      implementation, interpret: see `dispatch.run`.

    Returns:
      [B, T, N, H] in the type of q; softmax is float32. A token that sees no key gets 0.
    """
    return dispatch.run(
        "prefill_attention", implementation, _CANDIDATES, q, k, v, keys, rope, scale=scale,
        interpret=interpret,
    )  # fmt: skip
