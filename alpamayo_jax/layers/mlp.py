"""Feed-forward layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from alpamayo_jax.config import KernelConfig
from alpamayo_jax.kernels.swiglu import swiglu
from alpamayo_jax.layers.linear import USUAL_INIT, Linear
from alpamayo_jax.ops.number_formats import Quantised
from alpamayo_jax.types import Array


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), without biases."""

    hidden_size: int
    intermediate_size: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    kernels: KernelConfig = KernelConfig()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kinds = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        names = ("gate_proj", "up_proj")
        if self.kernels.wanted and all(map(self._is_plain, names)):
            weights = (
                self.get_variable("params", name)["kernel"].astype(self.dtype) for name in names
            )
            inner = swiglu(
                x.astype(self.dtype), *weights, implementation=self.kernels.order,
                interpret=self.kernels.interpret,
            )  # fmt: skip
        else:
            gate, up = (Linear(self.intermediate_size, name=name, **kinds)(x) for name in names)
            inner = jax.nn.silu(gate) * up
        return Linear(self.hidden_size, name="down_proj", **kinds)(inner)

    def _is_plain(self, name: str) -> bool:
        """Whether a projection is nothing but a matrix: no adapter, not quantised."""
        params = self.get_variable("params", name) or {}
        return set(params) == {"kernel"} and not isinstance(params["kernel"], Quantised)


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
