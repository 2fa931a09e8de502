"""Checksums of arrays, the same however an array is split over devices and hosts."""

import math
from typing import Mapping

import jax
import jax.numpy as jnp

_STRIDE = 2 * 1_327_217_885  # even, so that every element's factor is odd


def checksums(arrays: Mapping[str, jax.Array]) -> dict[str, int]:
    """A 32-bit checksum per array.

    The bits of every element times an odd number of its own, summed modulo 2**32: a change of any
    one element changes the sum, and of many does with all likelihood.
    """
    return {name: int(value) for name, value in jax.device_get(_checksums(dict(arrays))).items()}


@jax.jit
def _checksums(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: _checksum(array) for name, array in arrays.items()}


def _checksum(array: jax.Array) -> jax.Array:
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    width = min(array.dtype.itemsize * 8, 32)
    bits = jax.lax.bitcast_convert_type(array, jnp.dtype(f"uint{width}")).astype(jnp.uint32)
    index = jnp.zeros(bits.shape, jnp.uint32)
    for axis in range(bits.ndim):
        along = jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
        index += along * jnp.uint32(math.prod(bits.shape[axis + 1 :]) % 2**32)
    return jnp.sum(bits * (index * jnp.uint32(_STRIDE) + jnp.uint32(1)))
