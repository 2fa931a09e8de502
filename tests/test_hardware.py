"""Chips and peaks."""

import jax
import pytest

from alpamayo_jax import hardware
from alpamayo_jax.config import ConfigError


class _Device:
    def __init__(self, kind):
        self.device_kind = kind


@pytest.mark.parametrize("kind, name", [
    ("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA H200", "H200"),
    ("NVIDIA A100-SXM4-80GB", "A100-80"),
    ("NVIDIA A100-SXM4-40GB", "A100"), ("TPU v5 lite", "v5e"), ("TPU v5", "v5p"),
    ("TPU v5p", "v5p"), ("TPU v6 lite", "v6e"), ("NVIDIA GeForce RTX 4090", "RTX4090"),
])  # fmt: skip
def test_chip_of(kind, name):
    assert hardware.chip_of(_Device(kind)) is hardware.CHIPS[name]
    assert hardware.peak_flops(_Device(kind)) == hardware.CHIPS[name].peak_flops


def test_by_name():
    assert hardware.chip("h100").memory_bytes == 80e9
    with pytest.raises(ConfigError, match="device 'H99' is unknown; known: .*H100"):
        hardware.chip("H99")


def test_a_cpu_is_measured():
    device = jax.devices("cpu")[0]
    assert hardware.chip_of(device) is None
    rate = hardware.measured_flops(device, size=128)
    assert 1e8 < rate < 1e14
    assert hardware.measured_flops(device, size=128) == rate  # measured once
