"""Rotary position tables: interleaved multimodal (language, expert) and two-dimensional (vision)."""

import jax.numpy as jnp
import numpy as np

from alpamayo_jax.types import Array


def mrope_axes(head_dim: int, section: tuple[int, int, int]) -> np.ndarray:
    """Which position axis (0 time, 1 height, 2 width) each of the head_dim / 2 frequencies reads.

    Height and width are interleaved with time from the lowest index on: frequency i reads height
    if i mod 3 = 1 and i < 3 section[1], width if i mod 3 = 2 and i < 3 section[2], else time.
    """
    i = np.arange(head_dim // 2)
    height = (i % 3 == 1) & (i < 3 * section[1])
    width = (i % 3 == 2) & (i < 3 * section[2])
    return np.where(height, 1, np.where(width, 2, 0))


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
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / head_dim
    inv_freq = jnp.asarray(1.0 / np.float32(theta) ** exponents)
    per_frequency = jnp.take(
        jnp.moveaxis(position_ids, 0, -1), mrope_axes(head_dim, section), axis=-1
    )
    angle = per_frequency.astype(jnp.float32) * inv_freq
    angle = jnp.concatenate([angle, angle], axis=-1)
    return jnp.cos(angle), jnp.sin(angle)


def vision_rope_angles(row: Array, col: Array, head_dim: int, theta: float) -> Array:
    """Angles of the vision tower's rotary embedding, before duplication.

    Args:
      row: int [..., P] patch rows.
      col: int [..., P] patch columns.
      head_dim: H; H / 4 frequencies for each of the two axes.
      theta: base.

    Returns:
      float32 [..., P, H / 2].
    """
    half = head_dim // 2
    inv_freq = jnp.asarray(
        1.0 / np.float32(theta) ** (np.arange(0, half, 2, dtype=np.float32) / half)
    )
    return jnp.concatenate(
        [row[..., None].astype(jnp.float32) * inv_freq, col[..., None].astype(jnp.float32) * inv_freq],
        axis=-1,
    )


def vision_rope_table(
    row: Array, col: Array, head_dim: int, theta: float
) -> tuple[Array, Array]:
    """Cosine and sine, float32 [..., P, H]."""
    angle = vision_rope_angles(row, col, head_dim, theta)
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
    return x * cos + jnp.where(jnp.isnan(sin), 0, turned)
