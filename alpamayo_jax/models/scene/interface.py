"""What all vision compressors have in common: (image features, cameras, times) -> scene tokens.

Letters: B batch, I images, P tokens of an image, D width of the language model, F time steps, C
images of a step, N scene tokens of a step.
"""

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from alpamayo_jax.convert.table import parameters
from alpamayo_jax.config import ModelConfig
from alpamayo_jax.ops.image_size import image_tokens
from alpamayo_jax.types import Array, ModelInputs, SceneTokens


@flax.struct.dataclass
class Cameras:
    """Where and when images were taken, and how large they are.

    Attributes:
      index: int32 [B, I] in the release's camera map, -1 for an absent image.
      time: float32 [B, I], seconds relative to t0.
      grid: int32 [B, I, 2], rows and columns of image tokens, (0, 0) for an absent image.
      steps: int32 [B, F, C], images of each time step; -1 where there is none.
      lenses: float32 [B, I, LENS_SIZE], or None.
      ego_from_camera: float32 [B, I, 4, 4], or None.
    """

    index: Array
    time: Array
    grid: Array
    steps: Array | None = None
    lenses: Array | None = None
    ego_from_camera: Array | None = None


def cameras_of(inputs: ModelInputs, config: ModelConfig) -> Cameras:
    """The cameras of a batch."""
    return Cameras(
        index=inputs.camera_index,
        time=inputs.frame_time,
        grid=inputs.image_grid // config.vision.spatial_merge_size,
        steps=inputs.step_images,
        lenses=inputs.lenses,
        ego_from_camera=inputs.ego_from_camera,
    )


class Compressor(nn.Module):
    """A vision compressor: `compressor(tokens, deepstack, cameras)` -> `SceneTokens`.

    `tokens_per_step` and `added_parameters` are known from the configuration alone.
    """

    config: ModelConfig
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    remat: str = "none"
    unroll: bool = False

    @property
    def tokens_per_step(self) -> int:
        """Scene tokens of one time step; of the baseline, for the rig of `config.scene`."""
        return tokens_per_step(self.config)

    @property
    def added_parameters(self) -> int:
        """Parameters that the compressor adds to the policy."""
        return added_parameters(self.config)

    def __call__(self, tokens: Array, deepstack: Array, cameras: Cameras) -> SceneTokens:
        """Compresses.

        Args:
          tokens: [B, I, P, D] image tokens, row by row.
          deepstack: [J, B, I, P, D].
          cameras: of the images.
        """
        raise NotImplementedError


def tokens_per_step(config: ModelConfig) -> int:
    """Scene tokens of one time step, from the configuration alone."""
    count = config.tokens_per_step
    if count is not None:
        return count
    scene = config.scene
    return scene.num_cameras * image_tokens(scene.image_size, config.vision, config.prompt)


def added_parameters(config: ModelConfig) -> int:
    """Parameters of the compressor, from the configuration alone."""
    rows = parameters(config)
    return sum(row.size for row in rows if row.path[:2] == ("vlm", "scene"))


def without_deepstack(tokens: Array) -> SceneTokens:
    """Scene tokens [B, N, D] that only enter the first layer.

    Deepstack adds earlier vision states of a token to later language layers. Scene tokens are no
    longer tokens of an image, and the paper's backbones have no such paths.
    """
    return SceneTokens(tokens=tokens, deepstack=jnp.zeros((0, *tokens.shape), tokens.dtype))


def take_steps(values: Array, steps: Array) -> Array:
    """Arrays of images [B, I, ...] by time step [B, F, C, ...]; absent ones are those of image 0."""
    rows = jnp.arange(values.shape[0])[:, None, None]
    return values[rows, jnp.maximum(steps, 0)]
