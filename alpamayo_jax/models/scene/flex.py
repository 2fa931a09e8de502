"""Flex tokens: learnable scene tokens attend to all image tokens of all cameras and times at once.

After arXiv 2512.10947: [S_L; X_L] = E([S_0; X]) with an L-layer encoder E of full self-attention;
X_L is discarded and S_L projected to the language model. No camera poses are used. What is not
published is chosen: pre-norm blocks with GELU, a two-layer MLP from the image tokens' width to the
encoder's, learnable embeddings of cameras, and sinusoids of time through a two-layer MLP.
"""

import math

import chex
import flax.linen as nn
import jax.numpy as jnp

from alpamayo_jax.layers.block import VisionBlock
from alpamayo_jax.layers.linear import FAN_IN_INIT, Linear
from alpamayo_jax.layers.mlp import GeluMLP
from alpamayo_jax.layers.norms import LayerNorm
from alpamayo_jax.layers.stack import run_stack, stacked_params
from alpamayo_jax.models.scene.interface import Cameras, Compressor, without_deepstack
from alpamayo_jax.ops.masks import prefix_steps_mask
from alpamayo_jax.types import Array, SceneTokens

TIME_FEATURES = 256
TIME_SCALE = 1000.0  # sinusoids see milliseconds
_LONGEST = 10_000.0  # and their longest period is 2 pi times this
_EMBEDDING_STD = 0.5  # as large as what the image tokens begin with


def time_features(seconds: Array, size: int = TIME_FEATURES) -> Array:
    """Fixed sinusoids of a time: seconds [...] -> float32 [..., size], cosines before sines."""
    half = size // 2
    frequency = jnp.exp(-math.log(_LONGEST) * jnp.arange(half) / half)
    angle = TIME_SCALE * seconds.astype(jnp.float32)[..., None] * frequency
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], -1)


class Flex(Compressor):
    """K scene tokens and all image tokens through L layers; only the scene tokens are kept.

    The K tokens are `num_steps` chunks, the last for the newest step. An observation of fewer steps
    uses the last chunks; the others are masked, and so are absent images. With `prefix` a chunk and
    the images of a step see only the chunks and images of their own and earlier steps: under full
    attention early chunks would have seen frames that came after the moment that they stand for.
    """

    @nn.compact
    def __call__(self, tokens: Array, deepstack: Array, cameras: Cameras) -> SceneTokens:
        """Scene tokens [B, K, D], oldest chunk first; arguments as in `Compressor`."""
        del deepstack
        c = self.config.scene.flex
        batch, images, patches, width = tokens.shape
        chex.assert_shape([cameras.index, cameras.time], (batch, images))
        kinds = self._kinds()

        x = GeluMLP(c.hidden_size, 2 * c.hidden_size, name="image_mlp", **kinds)(tokens)
        x = (x + self._place_and_time(cameras)[:, :, None]).astype(self.dtype)
        x = x.reshape(batch, images * patches, c.hidden_size)
        scene = self.param(
            "scene_tokens",
            nn.initializers.normal(_EMBEDDING_STD),
            (c.num_tokens, c.hidden_size),
            self.param_dtype,
        )
        scene = jnp.broadcast_to(scene.astype(self.dtype), (batch, *scene.shape))
        x = jnp.concatenate([scene, x], 1)

        step, real = self._steps(cameras, patches)
        mask = real if not c.prefix else prefix_steps_mask(step, real)
        block = VisionBlock(c, parent=None, **kinds)
        example = jnp.zeros((1, 1, c.hidden_size)), None, jnp.ones((1, 1), bool)
        params = stacked_params(self, "blocks", block, c.depth, *example)

        def layer(params_l, x, _):
            return block.apply({"params": params_l}, x, None, mask), None

        x, _ = run_stack(layer, params, x, unroll=self.unroll, remat=self.remat)
        x = LayerNorm(c.layer_norm_eps, param_dtype=self.param_dtype, name="norm")(
            x[:, : c.num_tokens]
        )
        out = Linear(width, use_bias=True, name="out_proj", **kinds)(x)
        return without_deepstack(out)

    def _place_and_time(self, cameras: Cameras) -> Array:
        """Embeddings [B, I, d] of the images' cameras and times."""
        c = self.config.scene.flex
        table = self.param(
            "camera_embed",
            nn.initializers.normal(_EMBEDDING_STD),
            (c.max_cameras, c.hidden_size),
            self.param_dtype,
        )
        index = jnp.clip(cameras.index, 0, c.max_cameras - 1)
        kinds = self._kinds()
        time = GeluMLP(c.hidden_size, c.hidden_size, name="time_mlp", **kinds)(
            time_features(cameras.time)
        )
        return table[index].astype(self.dtype) + time

    def _kinds(self) -> dict:
        return dict(dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=FAN_IN_INIT)

    def _steps(self, cameras: Cameras, patches: int) -> tuple[Array, Array]:
        """Step of every token [B, K + I P], and whether it is there."""
        c = self.config.scene.flex
        batch, images = cameras.index.shape
        _, count, _ = cameras.steps.shape
        present = (cameras.steps >= 0).any(-1).sum(-1)  # [B]
        # Steps are counted backwards from the newest, so that chunks and images agree.
        age = jnp.repeat(jnp.arange(c.num_steps)[::-1], c.tokens_per_step)
        own = present[:, None] - 1 - age
        hit = cameras.steps[..., None] == jnp.arange(images)  # [B, F, C, I]
        of_image = jnp.argmax(hit.any(2), axis=1)  # [B, I]
        token = jnp.arange(patches)
        real = (token < cameras.grid.prod(-1)[..., None]) & (cameras.index >= 0)[..., None]
        real &= hit.any((1, 2))[..., None]
        step = jnp.broadcast_to(of_image[..., None], real.shape)
        flat = lambda a: a.reshape(batch, images * patches)  # noqa: E731
        return jnp.concatenate([own, flat(step)], 1), jnp.concatenate([own >= 0, flat(real)], 1)
