"""Deformable sampling on TPUs, which have no gather: products with the bilinear weights of all tokens.

The weights are formed in VMEM for a block of queries and never leave it.
"""

from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

Array = Any

_QUERIES = 512


def _taken(x, y, weights, centres):
    """Per point, the hats along columns and rows [Q, P], and their weighted sum over points."""
    hat = lambda where, centre: jnp.maximum(1.0 - jnp.abs(where - centre), 0.0)  # noqa: E731
    hats, total = [], 0.0
    for k in range(x.shape[1]):
        at = slice(k, k + 1)
        hats.append((hat(x[:, at], centres[:1]), hat(y[:, at], centres[1:])))
        total += weights[:, at] * hats[-1][0] * hats[-1][1]
    return hats, total


def _dot(a, b, contracted):
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return jax.lax.dot_general(
        a, b, (contracted, ((), ())), precision=precision, preferred_element_type=jnp.float32
    )


def _forward_kernel(centres_ref, values_ref, x_ref, y_ref, weights_ref, out_ref):
    _, taken = _taken(x_ref[...], y_ref[...], weights_ref[...], centres_ref[...])
    values = values_ref[...]
    out_ref[...] = _dot(taken.astype(values.dtype), values, ((1,), (0,))).astype(out_ref.dtype)


def _backward_kernel(
    centres_ref, values_ref, x_ref, y_ref, weights_ref, slope_ref,
    dvalues_ref, dx_ref, dy_ref, dweights_ref,
):  # fmt: skip
    x, y, weights, centres = x_ref[...], y_ref[...], weights_ref[...], centres_ref[...]
    hats, taken = _taken(x, y, weights, centres)
    slope, values = slope_ref[...], values_ref[...]

    @pl.when(pl.program_id(2) == 0)
    def _():
        dvalues_ref[...] = jnp.zeros_like(dvalues_ref)

    dvalues_ref[...] += _dot(taken.astype(slope.dtype), slope, ((0,), (0,)))
    along = _dot(slope, values, ((1,), (1,)))  # what each token would add, [Q, P]
    # Of the hats at distance below 1: towards the centre it rises.
    rise = lambda where, centre, hat: jnp.where(hat > 0, jnp.sign(centre - where), 0.0)  # noqa: E731
    for k, (across, down) in enumerate(hats):
        at = slice(k, k + 1)
        weight = weights[:, at]
        across_slope = rise(x[:, at], centres[:1], across)
        down_slope = rise(y[:, at], centres[1:], down)
        dx_ref[:, at] = weight * (along * across_slope * down).sum(1, keepdims=True)
        dy_ref[:, at] = weight * (along * across * down_slope).sum(1, keepdims=True)
        dweights_ref[:, at] = (along * across * down).sum(1, keepdims=True)


def _centres(columns: Array, tokens: int) -> Array:
    """Column and row of every token, float32 [M, 2, P]."""
    token = jnp.arange(tokens)
    row, column = token // columns[:, None], token % columns[:, None]
    return jnp.stack([column, row], axis=1).astype(jnp.float32)


def _by_head(array: Array, spare: int = 0) -> Array:
    """[M, N, H, D] to [M, H, N + spare, D]."""
    return jnp.pad(jnp.swapaxes(array, 1, 2), ((0, 0), (0, 0), (0, spare), (0, 0)))


def _specs(tokens, size, points):
    return (
        pl.BlockSpec((None, 2, tokens), lambda m, h, i: (m, 0, 0)),
        pl.BlockSpec((None, None, tokens, size), lambda m, h, i: (m, h, 0, 0)),
        pl.BlockSpec((None, None, _QUERIES, points), lambda m, h, i: (m, h, i, 0)),
        pl.BlockSpec((None, None, _QUERIES, size), lambda m, h, i: (m, h, i, 0)),
    )


def forward(
    values: Array, columns: Array, x: Array, y: Array, weights: Array, *, interpret: bool
) -> Array:
    """What `deformable_sampling` computes, see there."""
    images, tokens, heads, size = values.shape
    queries, points = x.shape[1], x.shape[3]
    spare = -queries % _QUERIES
    centre, token, point, query = _specs(tokens, size, points)
    read = pl.pallas_call(
        _forward_kernel,
        out_shape=jax.ShapeDtypeStruct((images, heads, queries + spare, size), values.dtype),
        grid=(images, heads, (queries + spare) // _QUERIES),
        in_specs=[centre, token, point, point, point],
        out_specs=query,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "parallel")
        ),
        interpret=interpret,
        name="deformable_sampling",
    )(_centres(columns, tokens), _by_head(values), *(_by_head(a, spare) for a in (x, y, weights)))
    return jnp.swapaxes(read[:, :, :queries], 1, 2)


def backward(
    values: Array,
    columns: Array,
    x: Array,
    y: Array,
    weights: Array,
    slope: Array,
    *,
    interpret: bool,
) -> tuple[Array, Array, Array, Array]:
    """Gradients of values, x, y and weights from that of the result, [M, N, H, D]."""
    images, tokens, heads, size = values.shape
    queries, points = x.shape[1], x.shape[3]
    spare = -queries % _QUERIES
    centre, token, point, query = _specs(tokens, size, points)
    places = jax.ShapeDtypeStruct((images, heads, queries + spare, points), jnp.float32)
    dvalues, *slopes = pl.pallas_call(
        _backward_kernel,
        out_shape=[
            jax.ShapeDtypeStruct((images, heads, tokens, size), jnp.float32),
            places,
            places,
            places,
        ],
        grid=(images, heads, (queries + spare) // _QUERIES),
        in_specs=[centre, token, point, point, point, query],
        out_specs=[token, point, point, point],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary")
        ),
        interpret=interpret,
        name="deformable_sampling_backward",
    )(
        _centres(columns, tokens),
        _by_head(values),
        *(_by_head(a, spare) for a in (x, y, weights, slope)),
    )
    slopes = (jnp.swapaxes(a[:, :, :queries], 1, 2) for a in slopes)
    return jnp.swapaxes(dvalues, 1, 2).astype(values.dtype), *slopes
