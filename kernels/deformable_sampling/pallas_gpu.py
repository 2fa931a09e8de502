"""Deformable sampling on GPUs, in Pallas through Triton.

Forward, and backward to places and weights, a program reads the four tokens around each place: an
image's tokens stay in the cache. Backward to the values, adding up four tokens per place atomically
would have thousands of queries wait for each token; there a program forms the bilinear weights of
all tokens for a block of queries in registers and multiplies, which also gives the same sum each time.
"""

import functools
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt
import jax.numpy as jnp

from alpamayo_jax.kernels.tiles import product

Array = Any

_QUERIES = 64  # of a program that reads
_ADDED = 32  # of a step of a program that adds
_SHARES = 16  # programs per image and head that add
_TOKENS = 256  # whose weights for `_ADDED` queries fit the registers


def _wide(size: int, least: int = 1) -> int:
    return max(least, pl.next_power_of_2(size))


def _corners(columns, x, y):
    """Indices of the four tokens around places and the fractions between them."""
    left, top = jnp.floor(x), jnp.floor(y)
    a, b = x - left, y - top
    left, top = left.astype(jnp.int32), top.astype(jnp.int32)
    # On a token exactly there is no next one to read, which at the border would be padding.
    right = left + (a > 0).astype(jnp.int32)
    above = top * columns
    below = above + jnp.where(b > 0, columns, 0)
    return above + left, above + right, below + left, below + right, a, b


def _read(values_ref, token, width):
    """Tokens [Q] -> [Q, width] in float32; a token behind the end, under a fraction of 0, is 0."""
    count, size = values_ref.shape
    lanes = jnp.arange(width)[None, :]
    mask = (lanes < size) & (token < count)[:, None]
    return plt.load(values_ref.at[token[:, None], lanes], mask=mask, other=0.0).astype(jnp.float32)


def _point(start, count, k):
    # A masked load in the interpreter takes arrays, not numbers, as indices.
    return pl.ds(start, count), jnp.int32(k)


def _place(refs, queries, k):
    """x, y and the weight of point k of a block of queries; behind the last query, the first token."""
    start, inside = queries
    at = _point(start, inside.shape[0], k)
    return [plt.load(ref.at[at], mask=inside, other=0.0) for ref in refs]


def _forward_kernel(columns_ref, values_ref, x_ref, y_ref, weights_ref, out_ref, *, width):
    (count, points), size = x_ref.shape, values_ref.shape[-1]
    start = pl.program_id(2) * _QUERIES
    inside = start + jnp.arange(_QUERIES) < count
    columns = columns_ref[0]
    total = jnp.zeros((_QUERIES, width), jnp.float32)
    for k in range(points):
        x, y, weight = _place((x_ref, y_ref, weights_ref), (start, inside), k)
        p00, p01, p10, p11, a, b = _corners(columns, x, y)
        for token, share in (
            (p00, (1 - a) * (1 - b)),
            (p01, a * (1 - b)),
            (p10, (1 - a) * b),
            (p11, a * b),
        ):
            total += (weight * share)[:, None] * _read(values_ref, token, width)
    lanes = jnp.arange(width)
    plt.store(
        out_ref.at[pl.ds(start, _QUERIES), pl.ds(0, width)],
        total.astype(out_ref.dtype),
        mask=inside[:, None] & (lanes < size)[None, :],
    )


def _places_kernel(
    columns_ref, values_ref, x_ref, y_ref, weights_ref, slope_ref, dx_ref, dy_ref, dw_ref, *, width
):
    (count, points), size = x_ref.shape, values_ref.shape[-1]
    start = pl.program_id(2) * _QUERIES
    inside = start + jnp.arange(_QUERIES) < count
    columns = columns_ref[0]
    slope = plt.load(
        slope_ref.at[pl.ds(start, _QUERIES), pl.ds(0, width)],
        mask=inside[:, None] & (jnp.arange(width) < size)[None, :],
        other=0.0,
    ).astype(jnp.float32)
    along = lambda token: (slope * _read(values_ref, token, width)).sum(1)  # noqa: E731
    for k in range(points):
        x, y, weight = _place((x_ref, y_ref, weights_ref), (start, inside), k)
        p00, p01, p10, p11, a, b = _corners(columns, x, y)
        v00, v01, v10, v11 = along(p00), along(p01), along(p10), along(p11)
        results = (
            (dx_ref, weight * ((v01 - v00) * (1 - b) + (v11 - v10) * b)),
            (dy_ref, weight * ((v10 - v00) * (1 - a) + (v11 - v01) * a)),
            (dw_ref, (v00 * (1 - a) + v01 * a) * (1 - b) + (v10 * (1 - a) + v11 * a) * b),
        )
        for ref, value in results:
            plt.store(ref.at[_point(start, _QUERIES, k)], value, mask=inside)


def _values_kernel(
    columns_ref, x_ref, y_ref, weights_ref, slope_ref, out_ref, *, steps, block, width
):
    (count, points), (tokens, size) = x_ref.shape, out_ref.shape
    columns, blocks = columns_ref[0], pl.cdiv(tokens, block)
    start_token = pl.program_id(2) % blocks * block
    token = start_token + jnp.arange(block)
    row = (token // columns).astype(jnp.float32)[:, None]
    column = (token % columns).astype(jnp.float32)[:, None]
    first = pl.program_id(2) // blocks * (steps * _ADDED)
    lanes = jnp.arange(width)
    dtype = slope_ref.dtype

    def step(i, total):
        start = first + i * _ADDED
        inside = start + jnp.arange(_ADDED) < count
        taken = jnp.zeros((block, _ADDED), jnp.float32)
        for k in range(points):
            x, y, weight = _place((x_ref, y_ref, weights_ref), (start, inside), k)
            across = jnp.maximum(1.0 - jnp.abs(x[None, :] - column), 0.0)
            down = jnp.maximum(1.0 - jnp.abs(y[None, :] - row), 0.0)
            taken += weight[None, :] * across * down
        slope = plt.load(
            slope_ref.at[pl.ds(start, _ADDED), pl.ds(0, width)],
            mask=inside[:, None] & (lanes < size)[None, :],
            other=0.0,
        )
        return total + product(taken.astype(dtype), slope)

    total = jax.lax.fori_loop(0, steps, step, jnp.zeros((block, width), jnp.float32))
    plt.store(
        out_ref.at[pl.ds(start_token, block), pl.ds(0, width)],
        total,
        mask=(token < tokens)[:, None] & (lanes < size)[None, :],
    )


def _specs(images, tokens, queries, heads, points, size):
    """Of the number of columns, the values, what is per point, and what is per query and head."""
    return (
        pl.BlockSpec((1,), lambda m, h, i: (m,)),
        pl.BlockSpec((None, tokens, None, size), lambda m, h, i: (m, 0, h, 0)),
        pl.BlockSpec((None, queries, None, points), lambda m, h, i: (m, 0, h, 0)),
        pl.BlockSpec((None, queries, None, size), lambda m, h, i: (m, 0, h, 0)),
    )


def _params(warps):
    return plt.CompilerParams(num_warps=warps, num_stages=2)


def forward(
    values: Array, columns: Array, x: Array, y: Array, weights: Array, *, interpret: bool
) -> Array:
    """What `deformable_sampling` computes, see there."""
    images, tokens, heads, size = values.shape
    queries, points = x.shape[1], x.shape[3]
    one, token, point, query = _specs(images, tokens, queries, heads, points, size)
    return pl.pallas_call(
        functools.partial(_forward_kernel, width=_wide(size)),
        out_shape=jax.ShapeDtypeStruct((images, queries, heads, size), values.dtype),
        grid=(images, heads, pl.cdiv(queries, _QUERIES)),
        in_specs=[one, token, point, point, point],
        out_specs=query,
        compiler_params=_params(4),
        interpret=interpret,
        name="deformable_sampling",
    )(columns, values, x, y, weights)


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
    one, token, point, query = _specs(images, tokens, queries, heads, points, size)
    slopes = pl.pallas_call(
        functools.partial(_places_kernel, width=_wide(size)),
        out_shape=[jax.ShapeDtypeStruct(x.shape, jnp.float32)] * 3,
        grid=(images, heads, pl.cdiv(queries, _QUERIES)),
        in_specs=[one, token, point, point, point, query],
        out_specs=[point] * 3,
        compiler_params=_params(4),
        interpret=interpret,
        name="deformable_sampling_places",
    )(columns, values, x, y, weights, slope)
    steps, block = pl.cdiv(queries, _ADDED), min(_TOKENS, _wide(tokens, 16))
    shares, blocks = min(_SHARES, steps), pl.cdiv(tokens, block)
    added = pl.pallas_call(
        functools.partial(
            _values_kernel,
            steps=pl.cdiv(steps, shares),
            block=block,
            width=_wide(size, 16),
        ),
        out_shape=jax.ShapeDtypeStruct((images, shares, tokens, heads, size), jnp.float32),
        grid=(images, heads, shares * blocks),
        in_specs=[one, point, point, point, query],
        out_specs=pl.BlockSpec(
            (None, None, tokens, None, size), lambda m, h, i: (m, i // blocks, 0, h, 0)
        ),
        compiler_params=_params(8),
        interpret=interpret,
        name="deformable_sampling_values",
    )(columns, x, y, weights, slope)
    return added.sum(1).astype(values.dtype), *slopes
