"""Encoded camera images to pixels, refusing what is not a whole picture of sensible size."""

import io

import numpy as np
from PIL import Image

from alpamayo_jax.types import InputError

_FORMATS = ("JPEG", "PNG")
_MOST_PIXELS = 1 << 25  # twice an 8 megapixel camera and more; a small file can claim far more


def decode(data: bytes) -> np.ndarray:
    """uint8 [height, width, 3] RGB of a JPEG or PNG.

    Raises:
      InputError: not a whole picture of those formats, or one of more than 33 million pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > _MOST_PIXELS:
                raise InputError(
                    f"image of {width} x {height} pixels; at most {_MOST_PIXELS} are decoded"
                )
            return np.asarray(image.convert("RGB"))
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"image of {len(data)} bytes is not a whole {' or '.join(_FORMATS)} ({error})"
        ) from error
