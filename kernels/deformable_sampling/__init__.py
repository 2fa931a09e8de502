"""Deformable sampling: weighted sums of bilinear readings of images; forward and backward."""

import functools
from typing import Any, Sequence

import chex
import jax

from alpamayo_jax.kernels import dispatch
from alpamayo_jax.kernels.deformable_sampling import pallas_gpu, pallas_tpu
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
      values: [M, P, H, D], tokens row by row; what is behind an image's last token is not read.
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


def _with_gradient(forward, backward):
    """A kernel whose gradient is another kernel."""

    @functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
    def sample(values, columns, x, y, weights, interpret):
        return forward(values, columns, x, y, weights, interpret=interpret)

    def run_forward(values, columns, x, y, weights, interpret):
        arguments = values, columns, x, y, weights
        return forward(*arguments, interpret=interpret), arguments

    def run_backward(interpret, arguments, cotangent):
        slopes = backward(*arguments, cotangent, interpret=interpret)
        return slopes[0], None, *slopes[1:]

    sample.defvjp(run_forward, run_backward)
    return lambda *arguments, interpret: sample(*arguments, interpret)


_CANDIDATES = {
    "xla": sample_reference,
    "pallas": dispatch.pallas(
        gpu=_with_gradient(pallas_gpu.forward, pallas_gpu.backward),
        tpu=_with_gradient(pallas_tpu.forward, pallas_tpu.backward),
    ),
}
