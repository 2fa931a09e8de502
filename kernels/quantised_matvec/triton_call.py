"""The Triton kernel within a JAX program; needs jax-triton, which needs JAX's CUDA plugin."""

from typing import Any

import jax
from jax.sharding import get_abstract_mesh
import jax.numpy as jnp

from alpamayo_jax.kernels.dispatch import Unsupported, current_platform
from alpamayo_jax.kernels.lowering import TARGETS
from alpamayo_jax.kernels.quantised_matvec.pallas_gpu import as_rows

Array = Any


def _capability() -> int | None:
    """Of the GPU being traced for, as 90, or None for the one that is there."""
    device = getattr(get_abstract_mesh(), "abstract_device", None)
    if device is None:
        return None
    for target in TARGETS.values():
        if target.device_kind == device.device_kind:
            return target.capability[0] * 10 + target.capability[1]
    raise Unsupported(f"the compute capability of {device.device_kind!r} is not known")


def matvec(x: Array, values: Array, scale: Array, *, interpret: bool) -> Array:
    """What `quantised_matvec` computes, see there.

    Raises:
      Unsupported: elsewhere than on a GPU, without jax-triton, or for what no kernel takes.
    """
    if interpret:
        raise Unsupported("Triton's interpreter is chosen by TRITON_INTERPRET=1, outside of JAX")
    if current_platform() != "gpu":
        raise Unsupported(f"Triton is for GPUs, not for {current_platform()}")
    try:
        import jax_triton

        from alpamayo_jax.kernels.quantised_matvec import triton_body
    except ImportError as error:
        raise Unsupported(f"jax-triton cannot be imported: {error}") from error
    as_rows(x, values)  # the same types and number of rows
    rows = x.reshape(-1, x.shape[-1])
    fp8 = values.dtype == jnp.float8_e4m3fn
    bits = jax.lax.bitcast_convert_type(values, jnp.uint8) if fp8 else values
    constants = triton_body.sizes(*rows.shape, values.shape[1], fp8)
    programs = triton_body.grid(constants)
    total = jax_triton.triton_call(
        rows,
        bits,
        kernel=triton_body.matvec_kernel,
        out_shape=jax.ShapeDtypeStruct((programs[1], rows.shape[0], values.shape[1]), jnp.float32),
        grid=programs,
        num_warps=4,
        num_stages=4,
        compute_capability=_capability(),
        **constants,
    )
    product = (total.sum(0) * scale).astype(x.dtype)
    return product.reshape(*x.shape[:-1], values.shape[1])
