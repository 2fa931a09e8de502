"""Narrow number formats: int8, fp8 (e4m3) and NVFP4, as values with scales.

    int8   -127 ... 127, symmetric, one float32 scale per channel or per tensor
    fp8    e4m3 without infinities, at most 448, one float32 scale per channel or per tensor
    nvfp4  e2m1 (0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives) in blocks of 16 along the contracted
           axis, each block with an e4m3 scale, and one float32 scale per matrix

A quantised array times its scales is the array again, up to rounding; nothing has a zero point.
"""

import math
from typing import Literal, get_args

import flax.struct
import jax
import jax.numpy as jnp

from alpamayo_jax.config import ConfigError
from alpamayo_jax.types import Array

Format = Literal["int8", "fp8", "nvfp4"]
FORMATS: tuple[str, ...] = get_args(Format)

BLOCK = 16  # values of NVFP4 that share a scale
_DTYPES = {"int8": jnp.int8, "fp8": jnp.float8_e4m3fn, "nvfp4": jnp.float4_e2m1fn}
_LARGEST = {"int8": 127.0, "fp8": 448.0, "nvfp4": 6.0}
_SMALLEST = float(jnp.finfo(jnp.float32).tiny)  # an all-zero channel divides by this instead of 0


@flax.struct.dataclass
class Quantised:
    """An array in a narrow format; a pytree whose leaves all have its leading (layer) axes.

    Attributes:
      values: int8, float8_e4m3fn or float4_e2m1fn, in the array's shape.
      scale: float32, broadcastable to `values`.
      block_scale: nvfp4: float8_e4m3fn, the array's shape with `axis` divided by 16; else None.
      axis: nvfp4: the axis of the blocks, counted from the end; else None.
    """

    values: Array
    scale: Array
    block_scale: Array | None = None
    axis: int | None = flax.struct.field(pytree_node=False, default=None)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def ndim(self) -> int:
        return self.values.ndim

    @property
    def format(self) -> str:
        """Name of the number format."""
        return next(name for name, dtype in _DTYPES.items() if self.values.dtype == dtype)

    @property
    def bits(self) -> int:
        """Bits that the array takes where values are packed, scales included."""
        arrays = [leaf for leaf in (self.scale, self.block_scale) if leaf is not None]
        scales = sum(8 * leaf.size * leaf.dtype.itemsize for leaf in arrays)
        return self.values.size * (4 if self.format == "nvfp4" else 8) + scales

    def columns(self, chosen: slice) -> "Quantised":
        """A slice of the last axis, with the scales that belong to it.

        Raises:
          ConfigError: nvfp4 blocks along the last axis, which a slice could cut.
        """
        if self.axis == -1:
            raise ConfigError("columns of an array with blocks along its last axis cannot be sliced")

        def cut(leaf):
            return leaf if leaf is None or leaf.shape[-1] == 1 else leaf[..., chosen]

        return Quantised(cut(self.values), cut(self.scale), cut(self.block_scale), self.axis)


def check_format(format: str) -> None:
    """Raises `ConfigError` for a name that is none of `FORMATS`."""
    if format not in FORMATS:
        raise ConfigError(f"number format {format!r} is unknown; known: {', '.join(FORMATS)}")


def quantise(w: Array, format: str, axis: int | tuple[int, ...]) -> Quantised:
    """Rounds an array to the nearest values of a format, scaled so that its largest one fits.

    Args:
      w: float [..., in, out], or of any shape; scales are exact in its type.
      format: one of `FORMATS`.
      axis: int8, fp8: what one scale covers; the contracted axis -2 of a kernel gives one per output
        channel, (-2, -1) one per matrix. nvfp4: the contracted axis, negative, on which the blocks
        lie; the float32 scale is one for the last two axes.

    Raises:
      ConfigError: an unknown format; nvfp4: an axis that is not one negative number, or whose length
        is not a multiple of 16.
    """
    check_format(format)
    dtype, w = jnp.asarray(w).dtype, jnp.asarray(w, jnp.float32)
    if format != "nvfp4":
        scale = scale_of(jnp.abs(w).max(axis=axis, keepdims=True), format, dtype)
        return Quantised(_round(w / scale, format), scale)
    if not isinstance(axis, int) or axis not in (-1, -2) or w.ndim < 2:
        raise ConfigError(f"nvfp4 needs a matrix and one axis of it, -1 or -2; got {w.shape}, {axis}")
    if w.shape[axis] % BLOCK:
        raise ConfigError(
            f"nvfp4 needs a multiple of {BLOCK} values along the contracted axis, "
            f"got {w.shape[axis]} in shape {list(w.shape)}"
        )
    largest = jnp.abs(w).max(axis=(-2, -1), keepdims=True)
    scale = scale_of(largest / _LARGEST["fp8"], "nvfp4", dtype)
    blocks = jnp.abs(_split(w, axis)).max(axis=axis)
    block_scale = _round(blocks / _LARGEST["nvfp4"] / scale, "fp8")
    # A block so small that its scale rounds to zero holds zeros.
    step = _spread(block_scale.astype(jnp.float32), axis) * scale
    values = jnp.where(step > 0, w / jnp.where(step > 0, step, 1.0), 0.0)
    return Quantised(_round(values, "nvfp4"), scale, block_scale, axis)


def dequantise(q: Quantised, dtype: jnp.dtype = jnp.float32) -> Array:
    """The array that `q` stands for; scales are applied in float32, then it is rounded to `dtype`."""
    values = q.values.astype(jnp.float32)
    if q.block_scale is not None:
        values = values * _spread(q.block_scale.astype(jnp.float32), q.axis)
    return (values * q.scale).astype(dtype)


def fake_quantise(
    x: Array, format: str, axis: int | tuple[int, ...] | None = None, scale: Array | None = None
) -> Array:
    """x rounded to what a format can hold, in its own type.

    Args:
      x: float [...].
      format: one of `FORMATS`.
      axis: as in `quantise`; None for one scale in all.
      scale: fixed scale, broadcastable to x; larger values are clipped. None takes it from x, and is
        the only choice for nvfp4.

    Raises:
      ConfigError: an unknown format, or a fixed scale with nvfp4.
    """
    check_format(format)
    if scale is None:
        axis = tuple(range(x.ndim)) if axis is None and format != "nvfp4" else axis
        return dequantise(quantise(x, format, axis), x.dtype)
    if format == "nvfp4":
        raise ConfigError("nvfp4 takes its scales from the blocks themselves, not from outside")
    scale = jnp.asarray(scale, jnp.float32)
    rounded = x.astype(jnp.float32) / scale
    if format == "int8":  # all 256 values, as devices quantise activations
        rounded = jnp.clip(jnp.round(rounded), -128, 127)
    else:
        rounded = _round(rounded, format)
    return (rounded.astype(jnp.float32) * scale).astype(x.dtype)


def scale_of(largest: Array, format: str, dtype: jnp.dtype = jnp.float32) -> Array:
    """The scale with which `largest` is the largest value of a format: float32, exact in `dtype`."""
    scale = jnp.asarray(largest, jnp.float32) / _LARGEST[format]
    return jnp.maximum(scale, _SMALLEST).astype(dtype).astype(jnp.float32)


def quantised_bytes(tree) -> int:
    """Bytes of a tree of arrays, some of them quantised, as they lie packed in memory."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, Quantised))
    return sum(
        leaf.bits // 8 if isinstance(leaf, Quantised) else math.prod(leaf.shape) * leaf.dtype.itemsize
        for leaf in leaves
    )


def _round(x: Array, format: str) -> Array:
    """To the nearest value of the format, ties to even; clipped to its range."""
    x = jnp.clip(x, -_LARGEST[format], _LARGEST[format])
    return (jnp.round(x) if format == "int8" else x).astype(_DTYPES[format])


def _split(x: Array, axis: int) -> Array:
    """[..., N, M] with axis -2 to [..., N / 16, 16, M]; with axis -1, N, M / 16, 16."""
    shape = list(x.shape)
    shape[axis : axis + 1 or None] = [shape[axis] // BLOCK, BLOCK]
    return x.reshape(shape)


def _spread(block_scale: Array, axis: int) -> Array:
    """A scale per block to a scale per value."""
    return jnp.repeat(block_scale, BLOCK, axis=axis)
