"""The narrow product on GPUs, in Pallas through Triton.

A program owns a block of output columns and a share of the contraction, so that also a narrow matrix
keeps every multiprocessor reading; the shares are added afterwards.
"""

import functools
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt
import jax.numpy as jnp

from alpamayo_jax.kernels.dispatch import Unsupported
from alpamayo_jax.kernels.tiles import product

Array = Any

ROWS = 16  # of the smallest tile of the matrix units
_COLUMNS = 128  # a memory line of one-byte values
_DEPTH = 64
_PROGRAMS = 512  # a few for each multiprocessor of a large GPU
_FP8_IN_FP16 = 256.0  # 2 ** (15 - 7), the exponents' biases


def as_rows(x: Array, values: Array) -> Array:
    """x as a matrix of `ROWS` rows, the last ones zero.

    Raises:
      Unsupported: more rows, or types that the kernels do not know.
    """
    x = x.reshape(-1, x.shape[-1])
    if x.shape[0] > ROWS:
        raise Unsupported(f"{x.shape[0]} rows are more than the {ROWS} of a decoding step")
    if x.dtype not in (jnp.bfloat16, jnp.float16, jnp.float32):
        raise Unsupported(f"rows of {x.dtype}")
    if values.dtype not in (jnp.int8, jnp.float8_e4m3fn):
        raise Unsupported(f"values of {values.dtype}, not int8 or float8_e4m3fn")
    return jnp.pad(x, ((0, ROWS - x.shape[0]), (0, 0)))


def widen(bits: Array, fp8: bool, dtype: jnp.dtype) -> Array:
    """Stored values as `dtype`: int8 as it is, fp8 from its bits, shifted to where float16 has them.

    GPUs before Hopper cannot convert fp8; a shift and a product are exact on all, and as fast.
    """
    if not fp8:
        return bits.astype(jnp.float32).astype(dtype)
    wide = bits.astype(jnp.int32)
    half = ((wide & 0x80) << 8) | ((wide & 0x7F) << 7)
    half = jax.lax.bitcast_convert_type(half.astype(jnp.int16), jnp.float16)
    return (half * jnp.float16(_FP8_IN_FP16)).astype(dtype)


def _kernel(x_ref, values_ref, out_ref, *, steps: int, fp8: bool):
    depth, width = values_ref.shape
    dtype = x_ref.dtype
    start = pl.program_id(1) * (steps * _DEPTH)
    first = pl.program_id(0) * _COLUMNS
    columns_in = first + jnp.arange(_COLUMNS) < width

    def step(i, total):
        at = start + i * _DEPTH
        inside = at + jnp.arange(_DEPTH) < depth
        rows = plt.load(x_ref.at[:, pl.ds(at, _DEPTH)], mask=inside[None, :], other=0.0)
        # Each value is read once: it need not stay in the cache.
        bits = plt.load(
            values_ref.at[pl.ds(at, _DEPTH), pl.ds(first, _COLUMNS)],
            mask=inside[:, None] & columns_in[None, :],
            other=0,
            eviction_policy="evict_first",
        )
        return total + product(rows, widen(bits, fp8, dtype))

    total = jax.lax.fori_loop(0, steps, step, jnp.zeros((ROWS, _COLUMNS), jnp.float32))
    plt.store(out_ref.at[:, pl.ds(first, _COLUMNS)], total, mask=columns_in[None, :])


def matvec(x: Array, values: Array, scale: Array, *, interpret: bool) -> Array:
    """What `quantised_matvec` computes, see there."""
    rows = as_rows(x, values)
    depth, width = values.shape
    fp8 = values.dtype == jnp.float8_e4m3fn
    bits = jax.lax.bitcast_convert_type(values, jnp.uint8) if fp8 else values
    blocks, tiles = pl.cdiv(width, _COLUMNS), pl.cdiv(depth, _DEPTH)
    # At least four tiles for each share: the first ones only fill the pipeline.
    shares = max(1, min(pl.cdiv(_PROGRAMS, blocks), tiles // 4))
    steps = pl.cdiv(tiles, shares)
    total = pl.pallas_call(
        functools.partial(_kernel, steps=steps, fp8=fp8),
        out_shape=jax.ShapeDtypeStruct((shares, ROWS, width), jnp.float32),
        grid=(blocks, shares),
        in_specs=[
            pl.BlockSpec(rows.shape, lambda i, j: (0, 0)),
            pl.BlockSpec(bits.shape, lambda i, j: (0, 0)),
        ],
        out_specs=pl.BlockSpec((None, ROWS, width), lambda i, j: (j, 0, 0)),
        compiler_params=plt.CompilerParams(num_warps=4, num_stages=4),
        interpret=interpret,
        name="quantised_matvec",
    )(rows, bits)
    scaled = (total.sum(0) * scale).astype(x.dtype)
    return scaled[: x.size // depth].reshape(*x.shape[:-1], width)
