"""A weight-only quantised product for decoding: a few rows times a matrix of int8 or fp8."""

from typing import Any, Sequence

import chex

from alpamayo_jax.kernels import dispatch
from alpamayo_jax.kernels.quantised_matvec.reference import quantised_matvec_reference

Array = Any

__all__ = ["quantised_matvec"]


def _gpu(*args, **kwargs):
    # Pallas takes long to import, and only who uses it should wait.
    from alpamayo_jax.kernels.quantised_matvec import pallas_gpu

    return pallas_gpu.matvec(*args, **kwargs)


def _tpu(*args, **kwargs):
    from alpamayo_jax.kernels.quantised_matvec import pallas_tpu

    return pallas_tpu.matvec(*args, **kwargs)


def _triton(x: Array, values: Array, scale: Array, *, interpret: bool) -> Array:
    # Triton and jax-triton are optional, and jax-triton imports only beside JAX's CUDA plugin.
    from alpamayo_jax.kernels.quantised_matvec import triton_call

    return triton_call.matvec(x, values, scale, interpret=interpret)


_CANDIDATES = {
    "xla": quantised_matvec_reference,
    "pallas": dispatch.pallas(gpu=_gpu, tpu=_tpu),
    "triton": _triton,
}


def quantised_matvec(
    x: Array,
    values: Array,
    scale: Array,
    *,
    implementation: str | Sequence[str] = "auto",
    interpret: bool = False,
) -> Array:
    """x times (values * scale) for the few rows of a decoding step.

    The time is that of reading the values once: the kernels take at most 16 rows, which one tile of
    the matrix units holds. The kernels have no gradient; "xla" has one for x and scale.

    Args:
      x: bfloat16, float16 or float32 [..., D].
      values: int8 or float8_e4m3fn [D, F].
      scale: float32 [F], one per output channel.
      implementation, interpret: see `dispatch.run`.

    Returns:
      [..., F] in the type of x, accumulated and scaled in float32.
    """
    chex.assert_rank([values, scale], [2, 1])
    chex.assert_shape(x, (..., values.shape[0]))
    chex.assert_shape(scale, (values.shape[1],))
    return dispatch.run(
        "quantised_matvec", implementation, _CANDIDATES, x, values, scale, interpret=interpret
    )
