"""Deformable sampling: weighted sums of bilinear readings of images; forward and backward."""

from typing import Any, Sequence

import chex
import jax

from alpamayo_jax.kernels import dispatch
from alpamayo_jax.kernels.deformable_sampling.reference import hats, sample_reference

Array = Any

__all__ = ["deformable_sampling", "hats"]


def deformable_sampling(
    values: Array,
    columns: Array,
    x: Array,
    y: Array,
    weights: Array,
    *,
    implementation: str | Sequence[str] = "auto",
    interpret: bool = False,
) -> Array:
    """Reads M images at places inside of them and adds up what was read.

    Differentiable in values, places and weights.

    Args:
      values: [M, P, H, D], tokens row by row; anything finite behind an image's last token.
      columns: int32 [M], tokens in a row; at least 1.
      x: float32 [M, N, H, K], columns from the centre of the first token, 0 to columns - 1.
      y: likewise, rows.
      weights: float32 [M, N, H, K].
      implementation, interpret: see `dispatch.run`.

    Returns:
      [M, N, H, D] in the type of the values.
    """
    chex.assert_rank([values, columns, x], [4, 1, 4])
    images, _, heads, _ = values.shape
    chex.assert_shape([x, y, weights], (images, x.shape[1], heads, x.shape[3]))
    chex.assert_shape(columns, (images,))
    return dispatch.run(
        "deformable_sampling", implementation, _CANDIDATES, values, columns, x, y, weights,
        interpret=interpret,
    )  # fmt: skip


def _with_gradient(kernels: Any, arguments: tuple[Any, ...], interpret: bool) -> Array:
    """The forward kernel, with the backward one for its gradient."""

    @jax.custom_vjp
    def sample(*arguments):
        return kernels.forward(*arguments, interpret=interpret)

    def forward(*arguments):
        return sample(*arguments), arguments

    def backward(arguments, cotangent):
        slopes = kernels.backward(*arguments, cotangent, interpret=interpret)
        return slopes[0], None, *slopes[1:]

    sample.defvjp(forward, backward)
    return sample(*arguments)


def _gpu(*arguments, interpret: bool):
    # Pallas takes long to import, and only who uses it should wait.
    from alpamayo_jax.kernels.deformable_sampling import pallas_gpu

    return _with_gradient(pallas_gpu, arguments, interpret)


def _tpu(*arguments, interpret: bool):
    from alpamayo_jax.kernels.deformable_sampling import pallas_tpu

    return _with_gradient(pallas_tpu, arguments, interpret)


_CANDIDATES = {"xla": sample_reference, "pallas": dispatch.pallas(gpu=_gpu, tpu=_tpu)}
