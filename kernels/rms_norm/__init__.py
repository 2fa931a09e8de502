"""RMS normalisation with what stands before it (a residual) and after it (a rotation)."""

from typing import Any, Sequence

from alpamayo_jax.kernels import dispatch
from alpamayo_jax.kernels.rms_norm.gradient import differentiable
from alpamayo_jax.kernels.rms_norm.reference import rms_norm_reference

Array = Any

__all__ = ["rms_norm"]


def _gpu(*args, **kwargs):
    # Pallas takes long to import, and only who uses it should wait.
    from alpamayo_jax.kernels.rms_norm import pallas_gpu

    return differentiable(pallas_gpu)(*args, **kwargs)


def _tpu(*args, **kwargs):
    from alpamayo_jax.kernels.rms_norm import pallas_tpu

    return differentiable(pallas_tpu)(*args, **kwargs)


_CANDIDATES = {"xla": rms_norm_reference, "pallas": dispatch.pallas(gpu=_gpu, tpu=_tpu)}


def rms_norm(
    x: Array,
    scale: Array,
    residual: Array | None = None,
    rotary: tuple[Array, Array] | None = None,
    *,
    eps: float,
    implementation: str | Sequence[str] = "auto",
    interpret: bool = False,
) -> Array | tuple[Array, Array]:
    """x / rms(x), cast to the input's type, then scaled: the order of the release.

    Everything is read once and written once, where separate programs would pass over it two or three
    times.

    Args:
      x: [..., D]; with `rotary` [..., T, N, D], heads.
      scale: [D].
      residual: of the shape of x: their sum is normalised, and returned too.
      rotary: cos, sin [..., T, D], whose halves along D are alike: heads are rotated after the norm,
        in float32. Its gradient is not taken.
      eps: added to the mean square.
      implementation, interpret: see `dispatch.run`.

    Returns:
      The norm in the type of x (with a residual: of the sum); with a residual also the sum.
    """
    return dispatch.run(
        "rms_norm", implementation, _CANDIDATES, x, scale, residual, rotary, eps=eps,
        interpret=interpret,
    )  # fmt: skip
