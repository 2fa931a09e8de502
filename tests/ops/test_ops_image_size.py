import pytest

from alpamayo_jax.ops.image_size import image_tokens
from alpamayo_jax.presets import preset
from alpamayo_jax.types import InputError


@pytest.mark.parametrize(
    "name, size, tokens",
    [("r1_10b", (1080, 1920), 180), ("tiny", (192, 320), 15), ("tiny", (1080, 1920), 15)],
)
def test_tokens_of_an_image(name, size, tokens):
    config = preset(name)
    assert image_tokens(size, config.vision, config.prompt) == tokens


def test_impossible_images_are_refused():
    config = preset("tiny")
    with pytest.raises(InputError, match="1 x 1000"):
        image_tokens((1, 1000), config.vision, config.prompt)
