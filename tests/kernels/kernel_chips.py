"""Chips to lower and compile for: one of a kind in the default suite, the others in the slow one."""

import pytest

from alpamayo_jax.kernels import lowering

CHIPS = [
    chip if chip in ("h100", "v5e") else pytest.param(chip, marks=pytest.mark.slow)
    for chip in lowering.TARGETS
]
GPUS = [
    chip if chip == "h100" else pytest.param(chip, marks=pytest.mark.slow) for chip in lowering.GPUS
]
