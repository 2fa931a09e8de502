"""Rotary position tables: interleaved multimodal (language, expert) and two-dimensional (vision)."""

import jax.numpy as jnp
import numpy as np

from alpamayo_jax.kernels.rotary import mrope_axes, mrope_table, rotate
from alpamayo_jax.types import Array

__all__ = ["mrope_axes", "mrope_table", "rotate", "vision_rope_angles", "vision_rope_table"]


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
