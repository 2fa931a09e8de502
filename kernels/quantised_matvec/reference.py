"""A few rows times a matrix of narrow values, in plain XLA."""

from typing import Any

import jax
import jax.numpy as jnp

Array = Any


def quantised_matvec_reference(x: Array, values: Array, scale: Array) -> Array:
    """x times (values * scale), with the scale applied to the product.

    One scale per output channel commutes with the contraction, so the values go to the product as
    they are: both formats fit bfloat16, float16 and float32 exactly.

    Args:
      x: float [..., D].
      values: int8 or float8_e4m3fn [D, F].
      scale: float32 [F].

    Returns:
      [..., F] in the type of x, accumulated and scaled in float32.
    """
    precision = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    product = jnp.dot(
        x, values.astype(x.dtype), precision=precision, preferred_element_type=jnp.float32
    )
    return (product * scale).astype(x.dtype)
