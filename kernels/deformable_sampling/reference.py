"""Reading images at places between their tokens, in plain XLA.

Letters: M images, P tokens of an image, N queries, H heads, K points per head, D width of a head.
"""

from typing import Any

import jax
import jax.numpy as jnp

Array = Any


def hats(columns: Array, x: Array, y: Array, num_tokens: int) -> Array:
    """Bilinear weights of every token of an image at places in it.

    Args:
      columns: int [], tokens of a row; at least 1.
      x, y: float [...], columns and rows from the centre of the first token, inside the image.
      num_tokens: P.

    Returns:
      float [..., P].
    """
    token = jnp.arange(num_tokens)
    row, column = token // columns, token % columns
    hat = lambda where, centre: jnp.maximum(1.0 - jnp.abs(where[..., None] - centre), 0.0)  # noqa: E731
    return hat(x, column) * hat(y, row)


def sample_reference(values: Array, columns: Array, x: Array, y: Array, weights: Array) -> Array:
    """What `deformable_sampling` computes, as a product with the bilinear weights of all tokens.

    An image has few tokens, and a product has a fast gradient on every device.
    """
    precision = jax.lax.Precision.HIGHEST if values.dtype == jnp.float32 else None

    def one(values, columns, x, y, weights):
        taken = jnp.einsum("nhk,nhkp->nhp", weights, hats(columns, x, y, values.shape[0]))
        return jnp.einsum("nhp,phd->nhd", taken.astype(values.dtype), values, precision=precision)

    return jax.vmap(one)(values, columns, x, y, weights)
