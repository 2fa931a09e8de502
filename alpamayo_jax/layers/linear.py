"""Linear layer: [in, out] kernel, computed in the compute type, with or without an adapter."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from alpamayo_jax.types import Array

INIT_STD = 0.02  # of new kernels and embeddings, as in the backbone's family
USUAL_INIT = nn.initializers.normal(INIT_STD)
# For parts that start from nothing beside a trained backbone: outputs as large as inputs, whatever
# the width. With INIT_STD a narrow attention begins as a mean over all tokens and hardly leaves it.
FAN_IN_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


def matmul(x: Array, kernel: Array, dtype: jnp.dtype) -> Array:
    """x [..., in] times kernel [in, out] in `dtype`; float32 means full float32 on every device."""
    precision = jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None
    return jnp.dot(x.astype(dtype), kernel.astype(dtype), precision=precision)


class Linear(nn.Module):
    """y = x kernel (+ bias), and + x lora_a lora_b lora_scale where the parameters have these.

    The low-rank product never becomes a matrix as large as the kernel, forwards or backwards.
    """

    features: int
    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = USUAL_INIT

    @nn.compact
    def __call__(self, x: Array, columns: slice | None = None) -> Array:
        """x [..., in] to [..., out], or to `columns` of the outputs alone."""

        def wanted(array):
            return array if columns is None else array[..., columns]

        kernel = self.param(
            "kernel", self.kernel_init, (x.shape[-1], self.features), self.param_dtype
        )
        y = matmul(x, wanted(kernel), self.dtype)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
            y = y + wanted(bias).astype(self.dtype)
        if self.has_variable("params", "lora_a"):
            a, b, scale = (self.get_variable("params", f"lora_{n}") for n in ("a", "b", "scale"))
            low = matmul(matmul(x, a, self.dtype), wanted(b), self.dtype)
            y = y + low * scale.astype(self.dtype)
        return y
