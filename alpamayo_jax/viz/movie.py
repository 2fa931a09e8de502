"""Frames as an MP4 that every browser plays."""

import os
import pathlib
from typing import Iterable

import numpy as np

from alpamayo_jax import files
from alpamayo_jax.types import InputError


def write_mp4(path: str | os.PathLike, frames: Iterable[np.ndarray], fps: int = 10) -> pathlib.Path:
    """Writes uint8 [height, width, 3] frames of one even size as H.264; whole or not at all.

    Args:
      path: where to.
      frames: at least one; they may come one by one.
      fps: per second.

    Raises:
      InputError: PyAV is missing, there is no frame, or frames differ in size or have an odd one.
    """
    try:
        import av
    except ImportError:
        raise InputError("videos need PyAV: pip install 'alpamayo_jax[viz]'") from None
    path = pathlib.Path(path)
    options = {"movflags": "faststart"}
    with (
        files.replacing(path) as partial,
        av.open(str(partial), "w", format="mp4", options=options) as container,
    ):
        stream, shape = None, None
        for frame in frames:
            if stream is None:
                shape = frame.shape
                if frame.dtype != np.uint8 or len(shape) != 3 or shape[0] % 2 or shape[1] % 2:
                    raise InputError(
                        f"video {path.name}: frames must be uint8 [height, width, 3] of even "
                        f"size, got {frame.dtype} {list(shape)}"
                    )
                stream = container.add_stream("libx264", rate=fps)
                stream.height, stream.width = shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = {"crf": "23", "preset": "veryfast"}
            if frame.shape != shape:
                raise InputError(
                    f"video {path.name}: a frame is {list(frame.shape)}, the first {list(shape)}"
                )
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        if stream is None:
            raise InputError(f"video {path.name}: there is no frame")
        container.mux(stream.encode(None))
    return path
