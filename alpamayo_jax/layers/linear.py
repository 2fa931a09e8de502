"""Linear layer: [in, out] kernel, computed in the compute type, with or without an adapter.

A kernel may be quantised, see `alpamayo_jax.quantise`; with an `input_scale` beside it the inputs are
rounded to its format too.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from alpamayo_jax.ops.number_formats import Quantised, dequantise, fake_quantise
from alpamayo_jax.types import Array

INIT_STD = 0.02  # of new kernels and embeddings, as in the backbone's family
USUAL_INIT = nn.initializers.normal(INIT_STD)
# For parts that start from nothing beside a trained backbone: outputs as large as inputs, whatever
# the width. With INIT_STD a narrow attention begins as a mean over all tokens and hardly leaves it.
FAN_IN_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


def matmul(x: Array, kernel: Array | Quantised, dtype: jnp.dtype) -> Array:
    """x [..., in] times kernel [in, out] in `dtype`; float32 means full float32 on every device."""
    if isinstance(kernel, Quantised):
        if kernel.block_scale is None:
            # Pallas takes long to import, and only quantised policies need it.
            from alpamayo_jax.kernels.quantised_matvec import quantised_matvec

            scale = jnp.broadcast_to(kernel.scale, (1, kernel.shape[-1]))[0]
            return quantised_matvec(x.astype(dtype), kernel.values, scale)
        kernel = dequantise(kernel, dtype)
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
            if columns is None:
                return array
            return array.columns(columns) if isinstance(array, Quantised) else array[..., columns]

        kernel = self.param(
            "kernel", self.kernel_init, (x.shape[-1], self.features), self.param_dtype
        )
        rounded = x
        if self.has_variable("params", "input_scale"):
            scale = self.get_variable("params", "input_scale")
            rounded = fake_quantise(x.astype(self.dtype), kernel.format, scale=scale)
        y = matmul(rounded, wanted(kernel), self.dtype)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
            y = y + wanted(bias).astype(self.dtype)
        if self.has_variable("params", "lora_a"):
            a, b, scale = (self.get_variable("params", f"lora_{n}") for n in ("a", "b", "scale"))
            low = matmul(matmul(x, a, self.dtype), wanted(b), self.dtype)
            y = y + low * scale.astype(self.dtype)
        return y
