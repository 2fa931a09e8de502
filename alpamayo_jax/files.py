"""Files that are either the old or the new one, never half of one."""

import os
import pathlib
import tempfile


def write_bytes(path: str | os.PathLike, data: bytes) -> pathlib.Path:
    """Writes a file whole: beside its place first, then moved into it. Parent folders are made.

    When anything fails (a full disk, say) the file that was there is untouched, and the error goes
    up.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # a temporary file is private; a result is not
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise
    return path
