"""Attention of one layer of the expert within a flow step, from projections to mixed values.

A flow step reads every weight of the expert once for 64 K rows, and XLA's products already do that.
What it does not do well is what stands between them: scores of 64 queries against some 3,000 keys
are written to memory and read again several times, more bytes than the keys and values themselves,
and the norms and rotations of queries and keys are programs of their own. That is fused here.
"""

from typing import Any, Sequence

from alpamayo_jax.kernels import dispatch
from alpamayo_jax.kernels.flow_attention import pallas_gpu, pallas_tpu
from alpamayo_jax.kernels.flow_attention.reference import Keys, flow_attention_reference

Array = Any

__all__ = ["Keys", "flow_attention"]

_CANDIDATES = {
    "xla": flow_attention_reference,
    "pallas": dispatch.pallas(gpu=pallas_gpu.flow_attention, tpu=pallas_tpu.flow_attention),
}


def flow_attention(
    q: Array,
    k: Array,
    v: Array,
    q_norm: Array,
    k_norm: Array,
    cos: Array,
    sin: Array,
    shared: Keys,
    own: Keys,
    *,
    scale: float,
    eps: float,
    implementation: str | Sequence[str] = "auto",
    interpret: bool = False,
) -> Array:
    """W waypoints of each sample look at each other and at everything before them.

    Queries and keys are normalised per head and rotated; then one softmax covers the prefix, which is
    read for all samples, the sample's own reasoning and the waypoints themselves, without a mask
    among them. For inference: the kernels have no gradient, "xla" has one.

    Args:
      q: [B, K, W, N, H], as projected.
      k, v: [B, K, W, G, H], as projected; N is a multiple of G.
      q_norm, k_norm: [H], weights of the heads' norms.
      cos, sin: [B, K, W, H], see `ops.rope.mrope_table`.
      shared: keys of the prompt, in the type of q, without a sample axis.
      own: keys of each sample's reasoning, in the type of q.
      scale: multiplies the scores.
      eps: of the norms.
      implementation, interpret: see `dispatch.run`.

    Returns:
      [B, K, W, N, H] in the type of q.
    """
    return dispatch.run(
        "flow_attention", implementation, _CANDIDATES, q, k, v, q_norm, k_norm, cos, sin, shared, own,
        scale=scale, eps=eps, interpret=interpret,
    )  # fmt: skip
