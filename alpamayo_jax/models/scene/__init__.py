"""Vision compressors: image tokens of all cameras and times to the tokens the language model reads."""

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.models.scene.per_image import PerImage

COMPRESSORS = {"per_image": PerImage}


def make_compressor(config: ModelConfig, **kinds):
    """The compressor that `config.scene` names."""
    return COMPRESSORS[config.scene.compressor](**kinds)
