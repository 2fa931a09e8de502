"""How large an image is to the vision tower (Qwen3-VL processor)."""

import math

from alpamayo_jax.config import PromptConfig, VisionConfig
from alpamayo_jax.types import InputError

_MAX_ASPECT_RATIO = 200  # beyond this the released processor refuses an image


def smart_resize(
    height: int, width: int, factor: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """Height and width that an image is resized to (released model).

    Both become multiples of `factor`; their product lies in [min_pixels, max_pixels] where that is
    possible, and the aspect ratio is kept as well as the multiples allow.

    Raises:
      InputError: an empty image, or one side more than 200 times the other.
    """
    short, long = sorted((height, width))
    if short < 1 or long > _MAX_ASPECT_RATIO * short:
        raise InputError(
            f"image of {height} x {width} pixels: sides must be at least 1, and one at most "
            f"{_MAX_ASPECT_RATIO} times the other"
        )
    rounded_h, rounded_w = (round(side / factor) * factor for side in (height, width))
    if rounded_h * rounded_w > max_pixels:
        beta = math.sqrt(height * width / max_pixels)
        return (
            max(factor, math.floor(height / beta / factor) * factor),
            max(factor, math.floor(width / beta / factor) * factor),
        )
    if rounded_h * rounded_w < min_pixels:
        beta = math.sqrt(min_pixels / (height * width))
        return (
            math.ceil(height * beta / factor) * factor,
            math.ceil(width * beta / factor) * factor,
        )
    return rounded_h, rounded_w


def image_tokens(size: tuple[int, int], vision: VisionConfig, prompt: PromptConfig) -> int:
    """Tokens of one image of (height, width) pixels after merging.

    Raises:
      InputError: as `smart_resize`.
    """
    factor = vision.patch_size * vision.spatial_merge_size
    height, width = smart_resize(*size, factor, prompt.min_pixels, prompt.max_pixels)
    return (height // factor) * (width // factor)
