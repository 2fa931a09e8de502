"""RMS normalisation in plain XLA, and its arithmetic on tiles, which every kernel repeats."""

from typing import Any, Sequence

import chex
import jax
import jax.numpy as jnp

from alpamayo_jax.kernels.rotary import rotate

Array = Any


def check_shapes(
    x: Array, scale: Array, residual: Array | None, rotary: tuple[Array, Array] | None
) -> None:
    """Raises AssertionError (chex) where shapes do not belong together."""
    chex.assert_shape(scale, x.shape[-1:])
    if residual is not None:
        chex.assert_shape(residual, x.shape)
    if rotary is not None:
        chex.assert_shape(rotary, (*x.shape[:-2], x.shape[-1]))


def rms_norm_reference(
    x: Array,
    scale: Array,
    residual: Array | None = None,
    rotary: tuple[Array, Array] | None = None,
    *,
    eps: float,
) -> Array | tuple[Array, Array]:
    """See `rms_norm`."""
    check_shapes(x, scale, residual, rotary)
    total = x if residual is None else x + residual
    wide = total.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    out = wide.astype(total.dtype) * scale.astype(total.dtype)
    if rotary is not None:
        cos, sin = rotary
        out = rotate(out.astype(jnp.float32), cos, sin).astype(total.dtype)
    return out if residual is None else (out, total)


def normed_tile(
    parts: Sequence[Array], scales: Sequence[Array], tables: Sequence[Array], eps: float, width: int,
    dtype: Any,
) -> list[Array]:  # fmt: skip
    """The operation on rows cut into parts.

    Args:
      parts: float32 [rows, columns], together `width` columns and zeros.
      scales: [columns] of each part, already rounded to `dtype`.
      tables: cos and sin [rows, columns] of either of two parts, or ().
      eps, width: of the mean square.
      dtype: of the result.
    """
    inverse = jax.lax.rsqrt(sum((x * x).sum(axis=1, keepdims=True) for x in parts) / width + eps)
    rounded = ((x * inverse).astype(dtype).astype(jnp.float32) for x in parts)
    out = [
        (x * scale.astype(jnp.float32)[None, :]).astype(dtype) for x, scale in zip(rounded, scales)
    ]
    if tables:
        (first, second), (cos, sin) = (x.astype(jnp.float32) for x in out), tables
        out = [(first * cos - second * sin).astype(dtype), (second * cos + first * sin).astype(dtype)]
    return out


def gradient_tile(
    parts: Sequence[Array], scales: Sequence[Array], tables: Sequence[Array],
    d_out: Sequence[Array], eps: float, width: int,
) -> tuple[list[Array], list[Array]]:  # fmt: skip
    """Gradients of the input [rows, columns] and, row by row, of the scale; all float32."""
    if tables:
        (first, second), (cos, sin) = d_out, tables
        d_out = [first * cos + second * sin, second * cos - first * sin]
    inverse = jax.lax.rsqrt(sum((x * x).sum(axis=1, keepdims=True) for x in parts) / width + eps)
    unit = [x * inverse for x in parts]
    scaled = [d * scale.astype(jnp.float32)[None, :] for d, scale in zip(d_out, scales)]
    along = sum((d * x).sum(axis=1, keepdims=True) for d, x in zip(scaled, unit)) / width
    d_x = [inverse * (d - x * along) for d, x in zip(scaled, unit)]
    return d_x, [d * x for d, x in zip(d_out, unit)]
