"""Attention of a prompt's tokens, or of an image's patches, among themselves."""

from typing import Any, Sequence

from alpamayo_jax.kernels import dispatch
from alpamayo_jax.kernels.attention import KeyRange
from alpamayo_jax.kernels.prefill_attention.gradient import differentiable
from alpamayo_jax.kernels.prefill_attention.reference import MRope, prefill_attention_reference

Array = Any

__all__ = ["MRope", "prefill_attention"]


def _gpu(*args, **kwargs):
    # Pallas takes long to import, and only who uses it should wait.
    from alpamayo_jax.kernels.prefill_attention import pallas_gpu

    return differentiable(pallas_gpu)(*args, **kwargs)


def _tpu(*args, **kwargs):
    from alpamayo_jax.kernels.prefill_attention import pallas_tpu

    return differentiable(pallas_tpu)(*args, **kwargs)


_CANDIDATES = {"xla": prefill_attention_reference, "pallas": dispatch.pallas(gpu=_gpu, tpu=_tpu)}


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
