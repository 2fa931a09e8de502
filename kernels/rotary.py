"""Interleaved multimodal rotary positions: tables, and the rotation that kernels repeat."""

from typing import Any

import jax.numpy as jnp
import numpy as np

Array = Any


def mrope_axes(head_dim: int, section: tuple[int, int, int]) -> np.ndarray:
    """Which position axis (0 time, 1 height, 2 width) each of the head_dim / 2 frequencies reads.

    Height and width are interleaved with time from the lowest index on: frequency i reads height
    if i mod 3 = 1 and i < 3 section[1], width if i mod 3 = 2 and i < 3 section[2], else time.
    """
    i = np.arange(head_dim // 2)
    height = (i % 3 == 1) & (i < 3 * section[1])
    width = (i % 3 == 2) & (i < 3 * section[2])
    return np.where(height, 1, np.where(width, 2, 0))


def inverse_frequencies(head_dim: int, theta: float) -> np.ndarray:
    """theta^(-2 i / H), float32 [H / 2]."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / head_dim
    return 1.0 / np.float32(theta) ** exponents


def mrope_table(
    position_ids: Array, head_dim: int, section: tuple[int, int, int], theta: float
) -> tuple[Array, Array]:
    """Cosine and sine of the interleaved multimodal rotary embedding.

    Args:
      position_ids: int [3, ..., T].
      head_dim: H.
      section: frequencies per axis.
      theta: base.

    Returns:
      cos, sin: float32 [..., T, H].
    """
    inv_freq = jnp.asarray(inverse_frequencies(head_dim, theta))
    per_frequency = jnp.take(
        jnp.moveaxis(position_ids, 0, -1), mrope_axes(head_dim, section), axis=-1
    )
    angle = per_frequency.astype(jnp.float32) * inv_freq
    angle = jnp.concatenate([angle, angle], axis=-1)
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Rotates x [..., T, N, H] by tables [..., T, H]; the first half of H pairs with the second."""
    cos, sin = cos[..., None, :], sin[..., None, :]
    first, second = jnp.split(x, 2, axis=-1)
    turned = jnp.concatenate([-second, first], axis=-1) * sin
    # Of two products in a sum a compiler may fuse either one into a multiply-add, and its choice
    # changes the last bit between a scan over layers and its unrolled twin. The selection (which
    # never selects) leaves it only one.
    return x * cos + jnp.where(jnp.isnan(sin), turned.dtype.type(0), turned)
