"""Tiles of arrays in GPU kernels, where every size is a power of two and a product needs 16."""

import dataclasses
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt
import jax.numpy as jnp

Array = Any
SMALLEST = 16  # of any side of a matrix product

LOG2_E = 1.4426950408889634
LOWEST = -1e30  # of a score; finite, so that a row without any key stays free of NaN


@dataclasses.dataclass(frozen=True)
class Columns:
    """Neighbouring columns that one tile holds: `width` real ones, then padding to `size`."""

    start: int
    width: int
    size: int


def power_of_two(size: int) -> int:
    """The least power of two that is not below `size` and SMALLEST."""
    return max(SMALLEST, 1 << (size - 1).bit_length())


def columns_of(width: int) -> tuple[Columns, ...]:
    """Splits columns so that little is padding: 72 become 64 and 8 (in a tile of 16)."""
    parts, start = [], 0
    while start < width:
        left = width - start
        take = min(left, 1 << (left.bit_length() - 1)) if left >= SMALLEST else left
        parts.append(Columns(start, take, max(SMALLEST, take)))
        start += take
    return tuple(parts)


def halves_of(width: int) -> tuple[Columns, Columns]:
    """The two halves that a rotation pairs."""
    half = width // 2
    return Columns(0, half, power_of_two(half)), Columns(half, half, power_of_two(half))


def load_rows(
    ref: Any, start: Array, rows: int, end: int, columns: Columns, middle: tuple[Any, ...] = ()
) -> Array:
    """Tile [rows, columns.size] of ref[:, *middle, :] from row `start` on; zeros outside.

    Args:
      ref: [end, ..., width].
      start: first row, no constant.
      rows: a power of two.
      end: rows from here on read as zeros.
      columns: which ones.
      middle: indices of the axes between rows and columns.
    """
    at = _at(ref, start, rows, columns, middle)
    return plt.load(at, mask=_inside(start, rows, end, columns), other=0)


def store_rows(
    ref: Any, start: Array, rows: int, end: int, columns: Columns, tile: Array,
    middle: tuple[Any, ...] = (),
) -> None:  # fmt: skip
    """Writes what `load_rows` reads; what is outside of ref stays untouched."""
    at = _at(ref, start, rows, columns, middle)
    plt.store(at, tile.astype(ref.dtype), mask=_inside(start, rows, end, columns))


def load_vector(ref: Any, start: Array, size: int, end: int, lead: tuple[Any, ...] = ()) -> Array:
    """Values [size] of ref[*lead] from `start` on; zeros from `end` on."""
    mask = start + jnp.arange(size) < end
    return plt.load(ref.at[(*lead, pl.ds(start, size))], mask=mask, other=0)


def store_vector(ref: Any, start: Array, size: int, end: int, values: Array) -> None:
    """Writes values [size] into ref [end], those past the end nowhere."""
    plt.store(ref.at[pl.ds(start, size)], values, mask=start + jnp.arange(size) < end)


def product(a: Array, b: Array, *, trans_a: bool = False, trans_b: bool = False) -> Array:
    """Matrix product with a float32 result; float32 operands are multiplied as such."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return plt.dot(a, b, trans_a=trans_a, trans_b=trans_b, precision=precision)


def _at(ref: Any, start: Array, rows: int, columns: Columns, middle: tuple[Any, ...]) -> Any:
    # No constant: Pallas refuses constant slices that end outside, masked or not.
    first = columns.start + 0 * start
    return ref.at[(pl.ds(start, rows), *middle, pl.ds(first, columns.size))]


def _inside(start: Array, rows: int, end: int, columns: Columns) -> Array:
    row = (start + jnp.arange(rows) < end)[:, None]
    return row & (jnp.arange(columns.size) < columns.width)[None, :]
