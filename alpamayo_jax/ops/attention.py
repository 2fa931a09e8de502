"""Attention with a choice of implementation."""

from typing import Sequence

from alpamayo_jax.config import ConfigError
from alpamayo_jax.kernels.attention import Segment, attend_reference
from alpamayo_jax.types import Array

IMPLEMENTATIONS = {"reference": attend_reference}

__all__ = ["Segment", "attend", "IMPLEMENTATIONS"]


def attend(
    q: Array, segments: Sequence[Segment], *, scale: float, implementation: str = "reference"
) -> Array:
    """Softmax attention of q [..., T, N, H] over all `segments` together.

    See `kernels.attention.reference` for shapes.

    Raises:
      ConfigError: no implementation of that name.
    """
    if implementation not in IMPLEMENTATIONS:
        raise ConfigError(
            f"attention implementation {implementation!r} is unknown; "
            f"known: {', '.join(IMPLEMENTATIONS)}"
        )
    return IMPLEMENTATIONS[implementation](q, segments, scale=scale)
