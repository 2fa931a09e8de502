"""Per-image tokenization: every image token is a scene token (the paper's default, section 3.2.1)."""

from alpamayo_jax.models.scene.interface import Cameras, Compressor
from alpamayo_jax.types import Array, SceneTokens


class PerImage(Compressor):
    """The identity compressor; it has no parameters and is the baseline of the others."""

    def __call__(self, tokens: Array, deepstack: Array, cameras: Cameras) -> SceneTokens:
        """Scene tokens [B, I x P, D], images in order; arguments as in `Compressor`."""
        del cameras
        batch, images, patches, width = tokens.shape
        return SceneTokens(
            tokens=tokens.reshape(batch, images * patches, width),
            deepstack=deepstack.reshape(-1, batch, images * patches, width),
        )
