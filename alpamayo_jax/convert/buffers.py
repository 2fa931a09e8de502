"""Constants that the release stores beside its parameters.

Alpamayo 1 saves its normalisation constants and Fourier frequencies as tensors, Alpamayo 1.5 makes
them anew. We always make them from the configuration; where a checkpoint has them they must agree.
"""

import math

import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ModelConfig

_CONSTANTS = ("accel_mean", "accel_std", "curvature_mean", "curvature_std")
_FREQUENCIES = (
    "action_in_proj.sinus.0.freqs",
    "action_in_proj.sinus.1.freqs",
    "action_in_proj.timestep_fourier_encoder.freqs",
)


def fourier_frequencies(max_freq: float, count: int) -> np.ndarray:
    """`count` frequencies from 1 to max_freq, evenly spaced in the logarithm, float32 [count].

    Bit-equal to PyTorch's float32 `logspace`: the last exponent is rounded to float32, the rest of
    the work is float64.
    """
    last = float(np.float32(math.log10(max_freq)))
    return (10.0 ** (np.arange(count) * (last / max(count - 1, 1)))).astype(np.float32)


def buffer_values(config: ModelConfig) -> dict[str, np.ndarray]:
    """Released name -> value of every buffer, float32, from the configuration.

    Normalisation constants are scalars, frequencies [1, num_fourier_feats / 2].
    """
    values = {
        f"action_space.{name}": np.asarray(getattr(config.action, name), np.float32)
        for name in _CONSTANTS
    }
    proj = config.action_proj
    freqs = fourier_frequencies(proj.max_freq, proj.num_fourier_feats // 2)[None]
    return values | {name: freqs for name in _FREQUENCIES}


def stored_values(config: ModelConfig, dtype: np.dtype) -> dict[str, np.ndarray]:
    """`buffer_values` as a checkpoint of `config` holds them in `dtype`.

    With `precision.bf16_buffers` they are rounded to bfloat16 first, as the release's are.
    """
    values = buffer_values(config)
    if config.precision.bf16_buffers:
        values = {k: v.astype(jnp.bfloat16).astype(np.float32) for k, v in values.items()}
    return {name: value.astype(dtype) for name, value in values.items()}


def agrees(config: ModelConfig, name: str, stored: np.ndarray) -> bool:
    """Whether a stored buffer has the value that the configuration gives it."""
    exact = buffer_values(config)[name]
    rtol = 1e-5 if stored.dtype == np.float32 else 1e-2  # 16 bits: one rounding either way
    wanted = [exact, exact.astype(jnp.bfloat16)] if config.precision.bf16_buffers else [exact]
    stored = stored.astype(np.float32)
    return any(np.allclose(stored, w.astype(np.float32), rtol=rtol, atol=0) for w in wanted)
