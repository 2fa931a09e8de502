"""Projections between normalised actions and the expert's width (released model, section 5.1 of the
paper)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from alpamayo_jax.config import ActionProjConfig
from alpamayo_jax.convert.buffers import fourier_frequencies
from alpamayo_jax.layers.linear import Linear
from alpamayo_jax.layers.norms import LayerNorm, RMSNorm
from alpamayo_jax.types import Array


def fourier_features(u: Array, freqs: np.ndarray) -> Array:
    """sqrt(2) [sin(2 pi f u), cos(2 pi f u)] of u [...], float32 [..., 2 x len(freqs)]."""
    angle = u[..., None].astype(jnp.float32) * freqs * (2 * np.pi)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1) * np.float32(2**0.5)


class ActionEncoder(nn.Module):
    """(Linear, SiLU, RMSNorm) repeated, then Linear; names count the release's trunk entries."""

    config: ActionProjConfig
    features: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = self.config
        kinds = dict(use_bias=True, dtype=self.dtype, param_dtype=self.param_dtype)
        for i in range(c.num_enc_layers):
            x = jax.nn.silu(Linear(c.hidden_size, name=f"trunk_{3 * i}", **kinds)(x))
            x = RMSNorm(c.norm_eps, param_dtype=self.param_dtype, name=f"trunk_{3 * i + 2}")(x)
        return Linear(self.features, name=f"trunk_{3 * c.num_enc_layers}", **kinds)(x)


class ActionInProj(nn.Module):
    """Noisy actions and the flow time to expert embeddings, one per waypoint."""

    config: ActionProjConfig
    features: int
    bf16_buffers: bool = False
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, t: Array) -> Array:
        """x float32 [..., W, A], t float32 [...] -> float32 [..., W, features]."""
        freqs = fourier_frequencies(self.config.max_freq, self.config.num_fourier_feats // 2)
        if self.bf16_buffers:  # rounded, as the release's buffers are when cast with its weights
            freqs = freqs.astype(ml_dtypes.bfloat16).astype(np.float32)
        time = jnp.broadcast_to(t[..., None], x.shape[:-1])
        features = [fourier_features(x[..., a], freqs) for a in range(x.shape[-1])]
        features = jnp.concatenate([*features, fourier_features(time, freqs)], axis=-1)
        kinds = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        out = ActionEncoder(self.config, self.features, name="encoder", **kinds)(features)
        norm = LayerNorm(self.config.norm_eps, param_dtype=self.param_dtype, name="norm")
        # The release's layer norm returns float32, which makes the expert's residual float32.
        return norm(out.astype(jnp.float32))
