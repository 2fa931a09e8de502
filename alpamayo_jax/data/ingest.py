"""Writes the clips of any source into a store, so that it can be stopped at any moment.

Each clip is staged by itself: its frames go to their final place, its record to a file beside the
dataset; TFDS then joins all records. A clip that is staged is not read again, so an ingest that was
killed goes on where it was, and ends with what an undisturbed one ends with. On one machine and on
a Beam runner the same function stages a clip.
"""

import dataclasses
import functools
import hashlib
import io
import json
import shutil
import time
from pathlib import Path
from typing import Any, Iterator, Mapping

import numpy as np
import tqdm

from alpamayo_jax import files
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data import media, records, sources, store
from alpamayo_jax.types import InputError

ENGINES = ("local", "beam")
ON_ERROR = ("skip", "stop")
_STAGING = ".ingest"
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
        return Path(self.root) / _STAGING

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


def ingest(
    source: str,
    options: Mapping[str, Any],
    root: str | Path,
    *,
    engine: str = "local",
    beam_options: tuple[str, ...] = (),
    on_error: str = "skip",
    progress: bool = True,
) -> dict[str, Any]:
    """Ingests a source into a store, or goes on with what was begun there.

    Args:
      source: "clips", "physical_ai" or "procedural", see `sources.new_source`.
      options: of the source.
      root: folder of the store.
      engine: "local" or "beam", whose runner `beam_options` choose.
      beam_options: as on a Beam command line.
      on_error: "skip" leaves out a clip that cannot be read and names it in the summary; "stop"
        ends at the first.
      progress: show a bar.

    Returns:
      clips (how many are in the store), failed (name and reason of each that is not), windows (see
      `records.count_windows`), seconds (of this run); also written to root/summary.json.

    Raises:
      ConfigError: an unknown engine, source or option.
      InputError: the folder holds another ingest, no clip can be read, or one cannot and `on_error`
        is "stop".
    """
    if engine not in ENGINES or on_error not in ON_ERROR:
        raise ConfigError(
            f"ingest: engine {engine!r} is one of {', '.join(ENGINES)}, and on_error {on_error!r} "
            f"one of {', '.join(ON_ERROR)}"
        )
    begin = time.perf_counter()
    job = Job(source, tuple(sorted(options.items())), str(root))
    count = _claim(job)
    summary = Path(root) / "summary.json"
    if not store.is_complete(root):
        summary.unlink(missing_ok=True)
        _clear_remains(job)
        if engine == "local":
            _stage_all(job, count, on_error, progress)
            store.write_dataset(root, lambda: _staged(job, count), job.staging / "downloads")
        else:
            from alpamayo_jax.data import beam

            beam.write(job, count, on_error, beam_options)
    if not summary.is_file():
        found = _summary(job) | {"seconds": time.perf_counter() - begin}
        files.write_bytes(summary, (json.dumps(found, indent=1) + "\n").encode())
    shutil.rmtree(job.staging, ignore_errors=True)
    return json.loads(summary.read_text())


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


def _claim(job: Job) -> int:
    """Writes what is ingested here, or checks that it is the same; the number of clips."""
    source = job.open()
    names = hashlib.sha256()
    for index in range(len(source)):
        names.update(clip_name(source, index).encode() + b"\0")
    own = {"source": job.source, "clips": len(source), "names": names.hexdigest()}
    # Where the clips lie may change between two starts; what they are may not.
    own["options"] = {k: str(v) for k, v in job.options if k != "root" and v is not None}
    path = Path(job.root) / "ingest.json"
    if path.is_file():
        try:
            other = json.loads(path.read_text())
        except ValueError as error:
            raise InputError(f"store {job.root}: ingest.json is damaged: {error}") from error
        if other != own:
            raise InputError(
                f"store {job.root} holds the ingest of {other.get('clips')} clip(s) of source "
                f"{other.get('source')!r} with {other.get('options')}; these are {own['clips']} "
                f"of {own['source']!r} with {own['options']}, or others: choose another folder"
            )
    else:
        files.write_bytes(path, (json.dumps(own, indent=1) + "\n").encode())
    return len(source)


def _clear_remains(job: Job) -> None:
    """Takes away what a killed run left half written, and its failures, which are tried again."""
    root = Path(job.root)
    for partial in root.glob("media/*/.*"):
        partial.unlink()
    for partial in root.glob(f"{store.NAME}/*incomplete*"):
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(job.failure_path(0).parent, ignore_errors=True)


def _stage_all(job: Job, count: int, on_error: str, progress: bool) -> None:
    bar = tqdm.tqdm(range(count), desc="clips", unit="clip", disable=not progress)
    failed = 0
    for index in bar:
        if not stage(job, index):
            failed += 1
            bar.set_postfix(failed=failed)
            check_failures(job, on_error)
    check_some(job, count)


def _staged(job: Job, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    for index in range(count):
        if job.record_path(index).is_file():
            yield index, staged_record(job, index)


def _summary(job: Job) -> dict[str, Any]:
    opened = store.open_store(job.root)
    windows = sum(int(opened.record(index)["windows"]) for index in range(len(opened)))
    failed = check_failures(job, "skip")
    return {"clips": len(opened), "failed": failed, "windows": windows}
