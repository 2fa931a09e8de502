"""The images of a clip folder: frames.csv and the files it names, images or videos."""

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image

from alpamayo_jax.clip import check_rising
from alpamayo_jax.data import video
from alpamayo_jax.types import InputError

COLUMNS = ("camera", "index", "t_s", "file")
_FORMATS = ("JPEG", "PNG")


@dataclasses.dataclass(frozen=True)
class FrameFiles:
    """The rows of one camera: times float64 [F] and F files; of a video, F times the same one."""

    times: np.ndarray
    files: tuple[Path, ...]

    def reader(
        self, clip_id: str, camera: str, width: int, height: int
    ) -> "FrameReader | video.VideoReader":
        """`Camera.read`; raises `InputError` for a video with another number of frames."""
        if not _is_video(self.files[0]):
            return FrameReader(clip_id, camera, self.files, width, height)
        opener = video.VideoFile(self.files[0])
        size, count = (width, height), len(self.times)
        return video.VideoReader(clip_id, camera, opener, size, count).check()


@dataclasses.dataclass(frozen=True)
class FrameReader:
    """`Camera.read` of a clip folder: frame number -> uint8 [height, width, 3].

    Grey images get three equal channels.
    """

    clip_id: str
    camera: str
    files: tuple[Path, ...]
    width: int
    height: int

    def encoded(self, frame: int) -> bytes:
        """The file of one frame as it is, undamaged; raises `InputError` as `__call__`."""
        self(frame)
        return self.files[frame].read_bytes()

    def __call__(self, frame: int) -> np.ndarray:
        """Decodes one frame.

        Raises:
          InputError: no such frame; a file that is missing, cut off or not an image, or of another
            size than the calibration's.
        """
        if not 0 <= frame < len(self.files):
            raise InputError(
                f"clip {self.clip_id!r}: camera {self.camera!r} has frames 0 to "
                f"{len(self.files) - 1}, not {frame}"
            )
        path = self.files[frame]
        where = f"clip {self.clip_id!r}: camera {self.camera!r} frame {frame}: {path}"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"{where}: the image is unreadable or cut off: {error}") from error
        image = decode_image(where, data)
        if image.shape[:2] != (self.height, self.width):
            raise InputError(
                f"{where}: the image is {image.shape[1]} x {image.shape[0]} pixels, meta.json says "
                f"{self.width} x {self.height} (stored_size)"
            )
        return image


def read_frame_table(clip_id: str, path: Path) -> dict[str, FrameFiles]:
    """Reads frames.csv (columns camera, index, t_s, file) -> camera name -> its frames.

    Rows of several cameras may be mixed; the `index` and the time of each camera rise. Files are
    relative to the folder of frames.csv and must lie inside it, links resolved.

    Raises:
      InputError: names clip, file, row and column.
    """
    where = f"clip {clip_id!r}: {path}"
    try:
        # Some spreadsheets put a byte-order mark before the first column.
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader]
        columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{where}: cannot be read as a CSV table: {error}") from error
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise InputError(
            f"{where}: column(s) {', '.join(missing)} missing; the first line has "
            f"{', '.join(columns) or 'nothing'}, expected {', '.join(COLUMNS)}"
        )
    if not rows:
        raise InputError(f"{where}: no frames; remove the file of a clip without images")
    root = path.parent.resolve()
    cameras: dict[str, list[tuple[int, float, Path]]] = {}
    for line, row in rows:
        place = f"{where}: line {line}"
        if None in row or None in row.values():
            raise InputError(f"{place}: must have {len(columns)} values")
        if not row["camera"]:
            raise InputError(f"{place}: camera is empty")
        index = _parse(place, "index", row["index"], int)
        time = _parse(place, "t_s", row["t_s"], float)
        file = _inside(place, root, row["file"])
        cameras.setdefault(row["camera"], []).append((index, time, file))
    return {name: _camera_frames(where, name, entries) for name, entries in cameras.items()}


def _camera_frames(where: str, name: str, rows: list[tuple[int, float, Path]]) -> FrameFiles:
    place = f"{where}: camera {name!r}"
    times = np.array([time for _, time, _ in rows], np.float64)
    check_rising(place, "t_s", times)
    indices = [index for index, _, _ in rows]
    if indices != sorted(set(indices)) or indices[0] < 0:
        raise InputError(f"{place}: index must rise from 0 or above without repeats")
    videos = {file for _, _, file in rows if _is_video(file)}
    if videos and ({file for _, _, file in rows} != videos or len(videos) > 1):
        raise InputError(f"{place}: file must be images, or one video in every row")
    if videos and indices != list(range(len(rows))):
        raise InputError(
            f"{place}: index must number the frames of a video from 0 on, one row each, "
            f"got {indices[:3]} ... {indices[-1]} in {len(rows)} rows"
        )
    return FrameFiles(times=times, files=tuple(file for _, _, file in rows))


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in video.SUFFIXES


def _parse(place: str, column: str, text: str, kind: type):
    try:
        return kind(text)
    except ValueError:
        number = "a whole number" if kind is int else "a number of seconds"
        raise InputError(f"{place}: {column} is {text!r}, not {number}") from None


def _inside(place: str, root: Path, name: str) -> Path:
    try:
        path = (root / name).resolve()
        inside = path.is_relative_to(root) and path != root
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{place}: file is {name!r}, not a usable path: {error}") from None
    if not inside:
        raise InputError(f"{place}: file is {name!r}, which leaves the clip's folder {root}")
    if not path.is_file():
        raise InputError(f"{place}: file {name!r} is absent from {root}")
    return path


def decode_image(where: str, data: bytes) -> np.ndarray:
    """JPEG or PNG -> uint8 [height, width, 3]; grey images get three equal channels.

    Raises:
      InputError: starts with `where`: damaged, cut off, or of another kind.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            image.verify()
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            image.load()
            mode, kind, pixels = image.mode, image.format, np.array(image)
    # Pillow raises OSError, SyntaxError, ValueError, struct.error and more for damaged files.
    except Exception as error:
        raise InputError(f"{where}: the image is unreadable or cut off: {error}") from error
    # Pillow accepts a JPEG whose last bytes are lost as long as every row was begun.
    if kind == "JPEG" and not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise InputError(f"{where}: the JPEG has no end marker: it is cut off; copy it again")
    if mode not in ("L", "RGB"):
        raise InputError(f"{where}: the image has mode {mode}, expected 8-bit grey or RGB")
    return np.repeat(pixels[..., None], 3, -1) if mode == "L" else pixels
