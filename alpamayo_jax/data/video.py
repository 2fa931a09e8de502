"""Videos: single frames by number, exactly, wherever the file lies."""

import collections
import dataclasses
import threading
from pathlib import Path
from typing import Any, BinaryIO, Callable

import numpy as np

from alpamayo_jax.types import InputError

SUFFIXES = (".mp4", ".mkv", ".mov")
_MAX_OPEN = 16  # containers kept open by all readers of a process
_MAX_FORWARD = 48  # frames to decode on the way to one ahead, before a jump is cheaper


@dataclasses.dataclass(frozen=True)
class VideoFile:
    """Opens a video that is a file of its own."""

    path: Path

    def __call__(self) -> BinaryIO:
        return open(self.path, "rb")


class VideoReader:
    """`Camera.read` of a video: frame number -> uint8 [height, width, 3].

    The number is the frame's rank in order of presentation time, so that the frames of a video with
    a variable rate or with reordered frames are found exactly. A copy sent to another process opens
    its own file.
    """

    def __init__(
        self,
        clip_id: str,
        camera: str,
        open_file: Callable[[], BinaryIO],
        size: tuple[int, int],
        count: int,
    ):
        """Opens nothing yet.

        Args:
          clip_id, camera: for messages.
          open_file: opens the file for reading, at its start; can be sent to other processes.
          size: width and height that every frame must have.
          count: frames that the video must have; checked whenever it is opened.
        """
        self.where = f"clip {clip_id!r}: camera {camera!r}"
        self.open_file = open_file
        self.size = size
        self.count = count

    def check(self) -> "VideoReader":
        """Opens the video; returns self.

        Raises:
          InputError: it is unreadable or has another number of frames.
        """
        with _OPEN.use(self):
            return self

    def __call__(self, frame: int) -> np.ndarray:
        """Decodes one frame.

        Raises:
          InputError: no such frame, a damaged file, or a frame of another size.
        """
        with _OPEN.use(self) as video:
            if not 0 <= frame < len(video.pts):
                raise InputError(
                    f"{self.where} has frames 0 to {len(video.pts) - 1}, not {frame}"
                )
            image = video.read(frame)
        if image.shape[:2] != self.size[::-1]:
            raise InputError(
                f"{self.where} frame {frame}: the image is {image.shape[1]} x {image.shape[0]} "
                f"pixels, the calibration says {self.size[0]} x {self.size[1]}"
            )
        return image


def _import_av() -> Any:
    try:
        import av
    except ImportError:
        raise InputError("videos need PyAV: pip install 'alpamayo_jax[data]'") from None
    return av


class _Video:
    """An open container and where its decoder stands."""

    def __init__(self, where: str, open_file: Callable[[], BinaryIO]):
        self._av, self.where = _import_av(), where
        self.lock = threading.Lock()
        try:
            file = open_file()
        except OSError as error:
            raise InputError(f"{where}: the video cannot be opened: {error}") from error
        try:
            self._container = self._av.open(file)
            self._stream = self._container.streams.video[0]
            packets = self._container.demux(self._stream)
            self.pts = sorted(p.pts for p in packets if p.pts is not None and p.size)
        except (self._av.FFmpegError, IndexError, ValueError) as error:
            raise InputError(f"{where}: the video is unreadable: {error}") from error
        if not self.pts:
            raise InputError(f"{where}: the video has no frames")
        self._frames, self._next = None, 0

    def read(self, number: int) -> np.ndarray:
        """uint8 [height, width, 3]."""
        try:
            if self._frames is None or not 0 <= number - self._next <= _MAX_FORWARD:
                self._jump(self.pts[number])
            frame = self._decode_until(self.pts[number])
            if frame is None:
                # Where a jump ended too late (frames that refer across the jump), start over.
                self._jump(self.pts[0])
                frame = self._decode_until(self.pts[number])
            if frame is None:
                raise InputError(f"{self.where} frame {number}: absent from the video's data")
            self._next = number + 1
            return frame.to_ndarray(format="rgb24")
        except self._av.FFmpegError as error:
            self._frames = None
            raise InputError(f"{self.where} frame {number}: cannot be decoded: {error}") from error

    def _jump(self, pts: int) -> None:
        self._container.seek(pts, stream=self._stream, backward=True)
        self._frames = self._container.decode(self._stream)

    def _decode_until(self, pts: int):
        for frame in self._frames:
            if frame.pts == pts:
                return frame
            if frame.pts is not None and frame.pts > pts:
                break
        self._frames = None
        return None


class _OpenVideos:
    """The containers last used, at most `_MAX_OPEN`."""

    def __init__(self):
        self._videos: dict[int, tuple[VideoReader, _Video]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def use(self, reader: VideoReader) -> "_Use":
        """A context in which the reader's video is open and used by nobody else."""
        with self._lock:
            found = self._videos.get(id(reader))
        if found is None:
            # Opened outside of the lock: reading a file must not hold up other cameras.
            video = _Video(reader.where, reader.open_file)
            if len(video.pts) != reader.count:
                raise InputError(
                    f"{reader.where}: the video has {len(video.pts)} frames, but there are "
                    f"{reader.count} times; one time per frame is needed"
                )
            with self._lock:
                found = self._videos.setdefault(id(reader), (reader, video))
                while len(self._videos) > _MAX_OPEN:
                    self._videos.popitem(last=False)
        with self._lock:
            if id(reader) in self._videos:
                self._videos.move_to_end(id(reader))
        return _Use(found[1])


class _Use:
    def __init__(self, video: _Video):
        self._video = video

    def __enter__(self) -> _Video:
        self._video.lock.acquire()
        return self._video

    def __exit__(self, *_) -> None:
        self._video.lock.release()


_OPEN = _OpenVideos()
