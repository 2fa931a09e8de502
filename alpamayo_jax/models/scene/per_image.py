"""Per-image tokenization: every image token is a scene token (the paper's default, section 3.2.1)."""

import flax.linen as nn
import jax.numpy as jnp

from alpamayo_jax.types import Array, SceneTokens


class PerImage(nn.Module):
    """The identity compressor; it has no parameters and defines the interface of the others."""

    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    def __call__(
        self, tokens: Array, deepstack: Array, camera_index: Array, frame_time: Array
    ) -> SceneTokens:
        """Flattens images.

        Args:
          tokens: [B, I, P, D] image tokens.
          deepstack: [J, B, I, P, D].
          camera_index: int32 [B, I]; unused here.
          frame_time: float32 [B, I] seconds relative to t0; unused here.

        Returns:
          Scene tokens [B, I x P, D], images in order.
        """
        del camera_index, frame_time
        batch, images, patches, width = tokens.shape
        return SceneTokens(
            tokens=tokens.reshape(batch, images * patches, width),
            deepstack=deepstack.reshape(-1, batch, images * patches, width),
        )
