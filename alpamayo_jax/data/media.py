"""The frames of a store: one ArrayRecord file per clip, a record per image or per video.

Images and videos stay encoded as they came; rendered frames become PNG, which loses nothing.
"""

import dataclasses
import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
from array_record.python import array_record_module
from PIL import Image

from alpamayo_jax import files
from alpamayo_jax.clip import Camera, Clip
from alpamayo_jax.data.clip_frames import decode_image
from alpamayo_jax.data.video import VideoReader
from alpamayo_jax.types import InputError

# Encoded images do not shrink; one record per group so that one frame is one read.
_OPTIONS = "group_size:1,uncompressed"
_READ_OPTIONS = "readahead_buffer_size:0"
_PNG_LEVEL = 3
_IMAGE, _VIDEO = 0, 1


@dataclasses.dataclass(frozen=True)
class FrameIndex:
    """Where the frames of a clip's cameras lie; row i is frame `number` of camera `camera`.

    Attributes:
      camera: int32 [F], place among the clip's cameras, not falling.
      t: float64 [F], seconds.
      record: int32 [F], of the clip's file; all frames of a video have the same.
      kind: int32 [F], 0 for an image, 1 for a video.
    """

    camera: np.ndarray
    t: np.ndarray
    record: np.ndarray
    kind: np.ndarray


def write_media(path: Path, clip: Clip) -> FrameIndex:
    """Writes all frames of a clip into one file, which appears whole or not at all.

    Raises:
      InputError: a frame of the clip cannot be read.
    """
    columns: dict[str, list[np.ndarray]] = {"camera": [], "t": [], "record": [], "kind": []}
    written = 0
    with files.replacing(path) as partial:
        writer = array_record_module.ArrayRecordWriter(str(partial), _OPTIONS)
        try:
            for place, camera in enumerate(clip.cameras):
                count = len(camera.times)
                video = isinstance(camera.read, VideoReader)
                records = [0] * count if video else range(count)
                for frame in range(1 if video else count):
                    writer.write(_encoded(camera, frame))
                columns["camera"].append(np.full(count, place, np.int32))
                columns["t"].append(np.asarray(camera.times, np.float64))
                columns["record"].append(np.asarray(records, np.int32) + np.int32(written))
                columns["kind"].append(np.full(count, _VIDEO if video else _IMAGE, np.int32))
                written += 1 if video else count
        finally:
            writer.close()
    return FrameIndex(**{name: np.concatenate(parts) for name, parts in columns.items()})


def _encoded(camera: Camera, frame: int) -> bytes:
    read = camera.read
    if isinstance(read, VideoReader):
        with read.check().open_file() as file:
            return file.read()
    if hasattr(read, "encoded"):
        return read.encoded(frame)
    data = io.BytesIO()
    Image.fromarray(read(frame)).save(data, "PNG", compress_level=_PNG_LEVEL)
    return data.getvalue()


@dataclasses.dataclass(frozen=True)
class StoredFrames:
    """The frames of one camera in a store (`clip_meta.Frames`).

    Attributes:
      path: the clip's file.
      times: float64 [F].
      records: int [F], of each frame.
      is_video: whether the (one) record is a video.
    """

    path: Path
    times: np.ndarray
    records: np.ndarray
    is_video: bool

    def reader(
        self, clip_id: str, camera: str, width: int, height: int
    ) -> "StoredImages | VideoReader":
        """`Camera.read`."""
        if not self.is_video:
            return StoredImages(clip_id, camera, self.path, tuple(self.records), width, height)
        source = StoredVideo(clip_id, self.path, int(self.records[0]))
        return VideoReader(clip_id, camera, source, (width, height), len(self.times))


@dataclasses.dataclass(frozen=True)
class StoredImages:
    """`Camera.read` of images in a store: frame number -> uint8 [height, width, 3]."""

    clip_id: str
    camera: str
    path: Path
    records: tuple[int, ...]
    width: int
    height: int

    def encoded(self, frame: int) -> bytes:
        """The image as it was stored."""
        if not 0 <= frame < len(self.records):
            raise InputError(
                f"clip {self.clip_id!r}: camera {self.camera!r} has frames 0 to "
                f"{len(self.records) - 1}, not {frame}"
            )
        return read_record(f"clip {self.clip_id!r}", self.path, int(self.records[frame]))

    def __call__(self, frame: int) -> np.ndarray:
        """Decodes one frame; raises `InputError` where there is none or it is damaged."""
        where = f"clip {self.clip_id!r}: camera {self.camera!r} frame {frame}: {self.path}"
        image = decode_image(where, self.encoded(frame))
        if image.shape[:2] != (self.height, self.width):
            raise InputError(
                f"{where}: the image is {image.shape[1]} x {image.shape[0]} pixels, the store's "
                f"calibration says {self.width} x {self.height}"
            )
        return image


@dataclasses.dataclass(frozen=True)
class StoredVideo:
    """Opens a video that is a record of a store."""

    clip_id: str
    path: Path
    record: int

    def __call__(self) -> BinaryIO:
        return io.BytesIO(read_record(f"clip {self.clip_id!r}", self.path, self.record))


def read_record(where: str, path: Path, record: int) -> bytes:
    """One record of a file; raises `InputError` where the file is missing, cut off or shorter."""
    # The native reader ends the process on some damaged files, so the simplest ones are kept away.
    if not path.is_file() or not path.stat().st_size:
        raise InputError(f"{where}: {path} is missing from the store, or empty; ingest it again")
    try:
        reader = array_record_module.ArrayRecordReader(str(path), _READ_OPTIONS)
        try:
            return reader.read([record])[0]
        finally:
            reader.close()
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        raise InputError(f"{where}: {path} record {record} is unreadable: {error}") from error
