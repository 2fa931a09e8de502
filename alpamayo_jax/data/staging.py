"""One clip of an ingest put aside: its frames in their final place, its record in a file.

A clip that is staged is not read again. What could not be read leaves a note with its name and the
reason. Any number of processes can stage clips of one store, each clip in one of them.
"""

import dataclasses
import functools
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from alpamayo_jax import files
from alpamayo_jax.data import media, records, sources
from alpamayo_jax.types import InputError

STAGING = ".ingest"
_PER_FOLDER = 1000


@dataclasses.dataclass(frozen=True)
class Job:
    """What is ingested where; small enough to be sent to every worker.

    Attributes:
      source: name of the source, as in `sources.new_source`.
      options: what it takes, as (name, value) pairs.
      root: of the store.
    """

    source: str
    options: tuple[tuple[str, Any], ...]
    root: str

    def open(self) -> sources.ClipSource:
        """The source, made once per process."""
        return _open(self.source, self.options)

    @property
    def staging(self) -> Path:
        """Where records wait."""
        return Path(self.root) / STAGING

    def record_path(self, index: int) -> Path:
        """Staged record of clip number `index`."""
        return self.staging / "records" / f"{index // _PER_FOLDER:04d}" / f"{index:07d}.npz"

    def failure_path(self, index: int) -> Path:
        """Why clip number `index` was left out."""
        return self.staging / "failed" / f"{index:07d}.json"

    def media_path(self, index: int) -> str:
        """Frames of clip number `index`, relative to the store."""
        return f"media/{index // _PER_FOLDER:04d}/{index:07d}.array_record"


@functools.lru_cache(maxsize=4)
def _open(source: str, options: tuple[tuple[str, Any], ...]) -> sources.ClipSource:
    return sources.new_source(source, **dict(options))


def clip_name(source: sources.ClipSource, index: int) -> str:
    """What clip number `index` is called, also where it cannot be read."""
    named = getattr(source, "clip_name", None)
    return named(index) if named else f"clip {index}"


def stage(job: Job, index: int) -> bool:
    """Stages clip number `index`, unless it is; says whether it could be read.

    Raises nothing for a clip that cannot be read: the reason goes into `Job.failure_path`.
    """
    if job.record_path(index).is_file():
        return True
    source = job.open()
    try:
        clip = source.clip(index)
        records.count_windows(clip)
        place = job.media_path(index)
        frames = media.write_media(Path(job.root) / place, clip) if clip.cameras else None
        record = records.to_record(clip, frames, place)
    except InputError as error:
        failure = {"name": clip_name(source, index), "reason": str(error)}
        files.write_bytes(job.failure_path(index), json.dumps(failure).encode())
        return False
    files.write_bytes(job.record_path(index), pack(record))
    return True


def staged_record(job: Job, index: int) -> dict[str, Any]:
    """The record that `stage` put aside."""
    return unpack(job.record_path(index).read_bytes())


def pack(record: dict[str, Any]) -> bytes:
    """A record as an npz file."""
    flat = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat |= {f"{name}/{column}": array for column, array in value.items()}
        else:
            # NumPy's fixed-width texts lose zeros at their end.
            is_text = isinstance(value, str)
            flat[name] = np.frombuffer(value.encode(), np.uint8) if is_text else value
    data = io.BytesIO()
    np.savez(data, **flat)
    return data.getvalue()


def unpack(data: bytes) -> dict[str, Any]:
    """The record in the npz file that `pack` made."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        flat = {name: archive[name] for name in archive.files}
    record: dict[str, Any] = {}
    for name, value in flat.items():
        table, _, column = name.partition("/")
        if column:
            # TFDS takes texts as objects only.
            texts = value.dtype.kind == "U"
            record.setdefault(table, {})[column] = value.astype(object) if texts else value
        else:
            record[table] = value.item() if not value.ndim else value.tobytes().decode()
    return record


def check_failures(job: Job, on_error: str) -> list[dict[str, str]]:
    """The clips left out so far; raises `InputError` for the first where `on_error` is "stop"."""
    failed = [json.loads(p.read_text()) for p in sorted(job.failure_path(0).parent.glob("*.json"))]
    if failed and on_error == "stop":
        raise InputError(f"{failed[0]['reason']} (--on_error=skip goes on without it)")
    return failed


def check_some(job: Job, count: int) -> None:
    """Raises `InputError` where no clip could be read."""
    failed = check_failures(job, "skip")
    if len(failed) == count:
        raise InputError(f"none of {count} clip(s) could be read; the first: {failed[0]['reason']}")
