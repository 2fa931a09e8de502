"""Vision compressors: image tokens of all cameras and times to the tokens the language model reads."""

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.models.scene.flex import Flex
from alpamayo_jax.models.scene.interface import (
    Cameras,
    Compressor,
    added_parameters,
    cameras_of,
    tokens_per_step,
)
from alpamayo_jax.models.scene.per_image import PerImage
from alpamayo_jax.models.scene.triplane import Triplane

COMPRESSORS = {"per_image": PerImage, "triplane": Triplane, "flex": Flex}

__all__ = [
    "COMPRESSORS", "Cameras", "Compressor", "added_parameters", "cameras_of", "make_compressor",
    "tokens_per_step",
]  # fmt: skip


def make_compressor(config: ModelConfig, **kinds) -> Compressor:
    """The compressor that `config.vision.compressor` names."""
    return COMPRESSORS[config.vision.compressor](config, **kinds)
