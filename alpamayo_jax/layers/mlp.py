"""Feed-forward layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from alpamayo_jax.layers.linear import USUAL_INIT, Linear
from alpamayo_jax.types import Array


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), without biases."""

    hidden_size: int
    intermediate_size: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kinds = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        gate = Linear(self.intermediate_size, name="gate_proj", **kinds)(x)
        up = Linear(self.intermediate_size, name="up_proj", **kinds)(x)
        return Linear(self.hidden_size, name="down_proj", **kinds)(jax.nn.silu(gate) * up)


class GeluMLP(nn.Module):
    """fc2(gelu(fc1(x))) with biases; `approximate` is the tanh form."""

    hidden_size: int
    intermediate_size: int
    approximate: bool = True
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = USUAL_INIT

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kinds = dict(
            use_bias=True,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=self.kernel_init,
        )
        x = Linear(self.intermediate_size, name="linear_fc1", **kinds)(x)
        x = jax.nn.gelu(x, approximate=self.approximate)
        return Linear(self.hidden_size, name="linear_fc2", **kinds)(x)
