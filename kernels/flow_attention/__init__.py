"""Attention of one layer of the expert within a flow step, from projections to mixed values.

A flow step reads every weight of the expert once for 64 K rows, and XLA's products already do that.
What it does not do well is what stands between them: scores of 64 queries against some 3,000 keys
are written to memory and read again several times, more bytes than the keys and values themselves,
and the norms and rotations of queries and keys are programs of their own. That is fused here.
"""

import functools
from typing import Any, Callable, Sequence

import jax

from alpamayo_jax.kernels import dispatch
from alpamayo_jax.kernels.flow_attention.reference import Keys, flow_attention_reference

Array = Any

__all__ = ["Keys", "flow_attention"]


def _with_reference_gradient(
    kernel: Callable[..., Array], arguments: tuple[Any, ...], options: dict[str, Any]
) -> Array:
    """kernel(*arguments, **options) with the gradient of the reference."""
    reference = functools.partial(
        flow_attention_reference, scale=options["scale"], eps=options["eps"]
    )

    @jax.custom_vjp
    def attention(*arguments):
        return kernel(*arguments, **options)

    def forward(*arguments):
        return attention(*arguments), arguments

    def backward(arguments, cotangent):
        return jax.vjp(reference, *arguments)[1](cotangent)

    attention.defvjp(forward, backward)
    return attention(*arguments)


def _gpu(*arguments, **options):
    # Pallas takes long to import, and only who uses it should wait.
    from alpamayo_jax.kernels.flow_attention import pallas_gpu

    return _with_reference_gradient(pallas_gpu.flow_attention, arguments, options)


def _tpu(*arguments, **options):
    from alpamayo_jax.kernels.flow_attention import pallas_tpu

    return _with_reference_gradient(pallas_tpu.flow_attention, arguments, options)


_CANDIDATES = {"xla": flow_attention_reference, "pallas": dispatch.pallas(gpu=_gpu, tpu=_tpu)}


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
    among them. Gradients are those of "xla", computed anew.

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
