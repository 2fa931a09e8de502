"""Files that are either the old or the new one, never half of one, and files that only grow."""

import contextlib
import fcntl
import os
import pathlib
import tempfile
from typing import BinaryIO, Iterator


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """An empty file beside `path`, moved to it when the block ends. Parent folders are made.

    It has the suffix of `path`. When anything fails (a full disk, say) the file that was there is
    untouched, and the error goes up.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)  # a temporary file is private; a result is not
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: str | os.PathLike, data: bytes) -> pathlib.Path:
    """Writes a file whole, as `replacing` does."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return pathlib.Path(path)


def append_line(path: str | os.PathLike, line: str) -> None:
    """Adds a line to a file that only grows; it and its folders are made where missing.

    Several processes may add to one file. A torn last line of one that died is cut off first.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with open(path, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        cut_torn_line(file)
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def cut_torn_line(file: BinaryIO) -> None:
    """Cuts off what a writer that died left of a last line, so that whole lines can be appended.

    Args:
      file: open for reading and writing; its position is at the end afterwards.
    """
    position, end = file.seek(0, os.SEEK_END), 0
    while position > 0 and not end:
        start = max(0, position - 65536)
        file.seek(start)
        newline = file.read(position - start).rfind(b"\n")
        end = start + newline + 1 if newline >= 0 else 0
        position = start
    file.truncate(end)
    file.seek(0, os.SEEK_END)
