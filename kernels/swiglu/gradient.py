"""The gradient of the gated unit's kernels: the same rule for every chip."""

import functools
from typing import Any, Callable

import jax
import jax.numpy as jnp

from alpamayo_jax.kernels.swiglu.reference import check_shapes

Array = Any


def _product(a: Array, b: Array, dimensions: tuple[int, int]) -> Array:
    """Contracts one axis of each of two matrices, in their type."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return jax.lax.dot_general(
        a, b, (((dimensions[0],), (dimensions[1],)), ((), ())), precision=precision
    )


@functools.cache
def differentiable(chip: Any) -> Callable[..., Array]:
    """`swiglu` from a chip's kernels, with a gradient for everything.

    Args:
      chip: has `forward(x, gate, up, interpret) -> out [M, F]` and
        `backward(x, gate, up, d_out, interpret) -> gradients of both products [M, F]`, x [M, D].
    """

    @functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
    def unit(x, gate, up, interpret):
        return chip.forward(x, gate, up, interpret)

    def forward(x, gate, up, interpret):
        return chip.forward(x, gate, up, interpret), (x, gate, up)

    def backward(interpret, saved, d_out):
        x, gate, up = saved
        d_gated, d_up = chip.backward(x, gate, up, d_out, interpret)
        d_x = _product(d_gated, gate, (1, 1)) + _product(d_up, up, (1, 1))
        return d_x, _product(x, d_gated, (0, 0)), _product(x, d_up, (0, 0))

    unit.defvjp(forward, backward)

    def call(x: Array, gate: Array, up: Array, *, interpret: bool = False) -> Array:
        check_shapes(x, gate, up)
        out = unit(x.reshape(-1, x.shape[-1]), gate, up, interpret)
        return out.reshape(*x.shape[:-1], gate.shape[-1])

    return call
