"""Small real videos for tests, whose frames tell their number."""

import io
from fractions import Fraction

import numpy as np

_BITS = 10
_BLOCK = 16


def numbered_frame(number: int, size: tuple[int, int] = (160, 32), base: int = 0) -> np.ndarray:
    """uint8 [height, width, 3] whose blocks spell `number` + `base` in binary."""
    width, height = size
    image = np.full((height, width, 3), 128, np.uint8)
    for bit in range(_BITS):
        image[:, bit * _BLOCK : (bit + 1) * _BLOCK] = 220 if (number + base) >> bit & 1 else 30
    return image


def frame_number(image: np.ndarray) -> int:
    """The number that a decoded `numbered_frame` spells."""
    row = image[image.shape[0] // 2, :, 1]
    blocks = [int(row[bit * _BLOCK + _BLOCK // 2]) for bit in range(_BITS)]
    return sum((value > 128) << bit for bit, value in enumerate(blocks))


def encode_video(
    count: int,
    size: tuple[int, int] = (160, 32),
    fps: int = 30,
    keyframes: int = 12,
    base: int = 0,
    codec: str = "libx264",
) -> bytes:
    """An mp4 of `count` numbered frames, with frames that refer to later ones."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        options = {"g": str(keyframes), "crf": "18"}
        stream.options = options | ({"bf": "2"} if codec == "libx264" else {})
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, size, base), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
