"""Attention of new tokens of K samples on the prompt they share and on what each has written."""

from typing import Any, Sequence

from alpamayo_jax.kernels import dispatch
from alpamayo_jax.kernels.attention import Segment
from alpamayo_jax.kernels.decode_attention.reference import (
    decode_attention_reference,
    with_reference_gradient,
)

Array = Any

__all__ = ["decode_attention"]


def _gpu(*args, **kwargs):
    # Pallas takes long to import, and only who uses it should wait.
    from alpamayo_jax.kernels.decode_attention import pallas_gpu

    return with_reference_gradient(pallas_gpu.decode_attention)(*args, **kwargs)


def _tpu(*args, **kwargs):
    from alpamayo_jax.kernels.decode_attention import pallas_tpu

    return with_reference_gradient(pallas_tpu.decode_attention)(*args, **kwargs)


_CANDIDATES = {"xla": decode_attention_reference, "pallas": dispatch.pallas(gpu=_gpu, tpu=_tpu)}


def decode_attention(
    q: Array,
    shared: Segment,
    own: Segment,
    *,
    scale: float,
    implementation: str | Sequence[str] = "auto",
    interpret: bool = False,
) -> Array:
    """One softmax over the shared prefix and over each sample's own keys.

    A decoded token reads the prefix's keys and values; nothing else here is large. The kernels read
    them once for all samples, split along the keys so that the whole chip reads (Dao et al. 2023,
    Flash-Decoding), and combine the parts exactly by their logarithms of sums of exponentials.
    Gradients are those of "xla", computed anew.

    Args:
      q: [B, K, T, N, H]; T is 1, or more where drafted tokens are verified.
      shared: keys and values [B, G, S, H] in the type of q, mask [B or 1, 1, 1, S].
      own: keys and values [B, K, G, U, H] in the type of q, mask broadcast to [B, K, T, U].
      scale: multiplies the scores.
      implementation, interpret: see `dispatch.run`.

    Returns:
      [B, K, T, N, H] in the type of q. A query that sees nothing gets 0.
    """
    return dispatch.run(
        "decode_attention", implementation, _CANDIDATES, q, shared, own, scale=scale,
        interpret=interpret,
    )  # fmt: skip
