"""Constants beside the parameters."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import PrecisionConfig
from alpamayo_jax.convert import buffers
from alpamayo_jax.convert.checkpoint_files import tensor_entries
from alpamayo_jax.convert.config_json import read_config
from alpamayo_jax.presets import preset


def test_frequencies_of_the_release():
    exact = [1, 1.66810, 2.78256, 4.64159, 7.74264, 12.9155, 21.5443, 35.9381, 59.9484, 100]
    np.testing.assert_allclose(buffers.fourier_frequencies(100.0, 10), exact, rtol=1e-5)
    rounded = [1, 1.671875, 2.78125, 4.65625, 7.75, 12.9375, 21.5, 36, 60, 100]
    stored = buffers.stored_values(preset("r1_10b"), np.dtype(np.float32))
    np.testing.assert_array_equal(stored["action_in_proj.sinus.0.freqs"], [rounded])
    assert stored["action_space.accel_std"] == 0.6796875
    assert stored["action_space.curvature_mean"] == 0.0002689361572265625


@pytest.mark.torch
@pytest.mark.parametrize("max_freq", [3.3, 37.5, 64.0, 100.0, 1000.0])
def test_frequencies_are_bit_equal_to_torch(max_freq):
    torch = pytest.importorskip("torch")
    for count in range(1, 40):
        wanted = torch.logspace(0, math.log10(max_freq), steps=count).numpy()
        np.testing.assert_array_equal(buffers.fourier_frequencies(max_freq, count), wanted)


def test_recorded_buffers_are_bit_equal(reference_dir):
    directory = reference_dir / "tiny_checkpoint"
    config, _ = read_config(directory)
    entries = tensor_entries(directory)
    present = [name for name in buffers.buffer_values(config) if name in entries]
    for name in present:
        stored = np.array(entries[name].map())
        wanted = buffers.stored_values(config, stored.dtype)[name]
        assert stored.tobytes() == wanted.tobytes(), name
        assert stored.shape == wanted.shape, name


@pytest.mark.parametrize("bf16_buffers", [False, True])
def test_agreement(bf16_buffers):
    precision = PrecisionConfig(bf16_buffers=bf16_buffers)
    config = dataclasses.replace(preset("tiny"), precision=precision)
    for name, exact in buffers.buffer_values(config).items():
        rounded = exact.astype(jnp.bfloat16)
        assert buffers.agrees(config, name, exact)
        assert buffers.agrees(config, name, rounded)
        exactly_representable = np.array_equal(rounded.astype(np.float32), exact)
        in_float32 = buffers.agrees(config, name, rounded.astype(np.float32))
        assert in_float32 == (bf16_buffers or exactly_representable), name
        assert not buffers.agrees(config, name, exact * np.float32(1.05)), name
        assert not buffers.agrees(config, name, exact * np.float32(np.nan)), name
