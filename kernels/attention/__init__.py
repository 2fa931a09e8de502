"""Softmax attention over several groups of keys, some shared between samples."""

from alpamayo_jax.kernels.attention.ranges import (
    KeyRange,
    causal_range,
    prefix_range,
    segment_range,
)
from alpamayo_jax.kernels.attention.reference import Segment, attend_reference

__all__ = [
    "KeyRange", "Segment", "attend_reference", "causal_range", "prefix_range", "segment_range",
]  # fmt: skip
