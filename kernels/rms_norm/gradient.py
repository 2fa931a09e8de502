"""The gradient of the norm's kernels: the same rule for every chip."""

import functools
from typing import Any, Callable

import jax
import jax.numpy as jnp

from alpamayo_jax.kernels.rms_norm.reference import check_shapes

Array = Any


@functools.cache
def differentiable(chip: Any) -> Callable[..., Any]:
    """`rms_norm` from a chip's kernels, with gradients for x, scale and the residual.

    Args:
      chip: has `forward(x, residual, scale, tables, eps, interpret) -> out, sum or None` and
        `backward(sum, scale, tables, d_out, d_sum, eps, interpret) -> d_sum, d_scale`, where x is
        [rows, heads, D], tables are () or cos and sin [rows, D / 2], d_scale is float32, and a
        residual or d_sum of None stands for there being none.
    """

    @functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
    def norm(x, scale, residual, tables, eps, interpret):
        return chip.forward(x, residual, scale, tables, eps, interpret)

    def forward(x, scale, residual, tables, eps, interpret):
        out, total = chip.forward(x, residual, scale, tables, eps, interpret)
        kinds = [jnp.zeros((), a.dtype) for a in (x, scale)]
        other = None if residual is None else jnp.zeros((), residual.dtype)
        return (out, total), (x if total is None else total, scale, tables, kinds, other)

    def backward(eps, interpret, saved, cotangents):
        total, scale, tables, (x_kind, scale_kind), other = saved
        d_out, d_sum = cotangents
        d_total, d_scale = chip.backward(total, scale, tables, d_out, d_sum, eps, interpret)
        d_residual = None if other is None else d_total.astype(other.dtype)
        no_tables = tuple(jnp.zeros_like(table) for table in tables)
        return d_total.astype(x_kind.dtype), d_scale.astype(scale_kind.dtype), d_residual, no_tables

    norm.defvjp(forward, backward)

    def call(
        x: Array, scale: Array, residual: Array | None = None,
        rotary: tuple[Array, Array] | None = None, *, eps: float, interpret: bool = False,
    ) -> Any:  # fmt: skip
        check_shapes(x, scale, residual, rotary)
        width = x.shape[-1]
        heads, tables = 1, ()
        if rotary is not None:
            heads = x.shape[-2]
            tables = tuple(
                t.astype(jnp.float32).reshape(-1, width)[:, : width // 2] for t in rotary
            )
        flat = lambda a: None if a is None else a.reshape(-1, heads, width)  # noqa: E731
        out, total = norm(flat(x), scale, flat(residual), tables, eps, interpret)
        out = out.reshape(x.shape)
        return out if residual is None else (out, total.reshape(x.shape))

    return call
