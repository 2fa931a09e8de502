"""Softmax attention over several groups of keys, some shared between samples."""

from alpamayo_jax.kernels.attention.reference import Segment, attend_reference

__all__ = ["Segment", "attend_reference"]
