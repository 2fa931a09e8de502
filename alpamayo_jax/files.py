"""Files that are either the old or the new one, never half of one, and files that only grow."""

import contextlib
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
