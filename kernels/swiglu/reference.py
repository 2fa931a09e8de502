"""The gated unit in plain XLA, and its arithmetic on tiles."""

from typing import Any

import chex
import jax
import jax.numpy as jnp

Array = Any


def check_shapes(x: Array, gate: Array, up: Array) -> None:
    """Raises AssertionError (chex) where shapes or types do not belong together."""
    chex.assert_shape([gate, up], (x.shape[-1], gate.shape[-1]))
    chex.assert_type([gate, up], x.dtype)


def swiglu_reference(x: Array, gate: Array, up: Array) -> Array:
    """See `swiglu`."""
    check_shapes(x, gate, up)
    precision = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return jax.nn.silu(jnp.dot(x, gate, precision=precision)) * jnp.dot(x, up, precision=precision)


def gated(gate: Array, up: Array) -> Array:
    """silu(gate) * up of float32 tiles."""
    return gate * jax.nn.sigmoid(gate) * up


def gated_gradients(gate: Array, up: Array, d_out: Array) -> tuple[Array, Array]:
    """Gradients of gate and up."""
    share = jax.nn.sigmoid(gate)
    return d_out * up * share * (1 + gate * (1 - share)), d_out * gate * share
