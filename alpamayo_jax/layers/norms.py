"""Normalisation layers, computed in float32 and returned in the type of their input."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from alpamayo_jax.config import KernelConfig
from alpamayo_jax.kernels.rms_norm import rms_norm
from alpamayo_jax.types import Array


class RMSNorm(nn.Module):
    """x / rms(x), cast to the input's type, then scaled: the order of the release."""

    eps: float = 1e-6
    param_dtype: jnp.dtype = jnp.float32
    kernels: KernelConfig = KernelConfig()

    @nn.compact
    def __call__(
        self, x: Array, residual: Array | None = None, rotary: tuple[Array, Array] | None = None
    ) -> Array | tuple[Array, Array]:
        """See `kernels.rms_norm`: with a residual, the norm of the sum and the sum."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), self.param_dtype)
        return rms_norm(
            x, scale, residual, rotary, eps=self.eps, implementation=self.kernels.order,
            interpret=self.kernels.interpret,
        )  # fmt: skip


class LayerNorm(nn.Module):
    """Mean and variance normalisation with scale and bias."""

    eps: float = 1e-6
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), self.param_dtype)
        wide = x.astype(jnp.float32)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
        wide = centred * jax.lax.rsqrt(variance + self.eps)
        return (wide * scale.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)
