"""Writes the clips of any source into a store, so that it can be stopped at any moment.

Each clip is staged by itself (`staging`); TFDS then joins all records. An ingest that was killed
goes on where it was, and ends with what an undisturbed one ends with. On one machine and on a Beam
runner the same function stages a clip.
"""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any, Iterator, Mapping

import tqdm

from alpamayo_jax import files
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data import staging, store
from alpamayo_jax.types import InputError

ENGINES = ("local", "beam")
ON_ERROR = ("skip", "stop")


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
    job = staging.Job(source, tuple(sorted(options.items())), str(root))
    for partial in Path(root).glob(".*.json.*"):
        partial.unlink()  # a file that a killed run had not yet moved to its place
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


def _claim(job: staging.Job) -> int:
    """Writes what is ingested here, or checks that it is the same; the number of clips."""
    source = job.open()
    names = hashlib.sha256()
    for index in range(len(source)):
        names.update(staging.clip_name(source, index).encode() + b"\0")
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


def _clear_remains(job: staging.Job) -> None:
    """Takes away what a killed run left half written, and its failures, which are tried again."""
    root = Path(job.root)
    for partial in root.glob("media/*/.*"):
        partial.unlink()
    for partial in root.glob(f"{store.NAME}/*incomplete*"):
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(job.failure_path(0).parent, ignore_errors=True)


def _stage_all(job: staging.Job, count: int, on_error: str, progress: bool) -> None:
    bar = tqdm.tqdm(range(count), desc="clips", unit="clip", disable=not progress)
    failed = 0
    for index in bar:
        if not staging.stage(job, index):
            failed += 1
            bar.set_postfix(failed=failed)
            staging.check_failures(job, on_error)
    staging.check_some(job, count)


def _staged(job: staging.Job, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    for index in range(count):
        if job.record_path(index).is_file():
            yield index, staging.staged_record(job, index)


def _summary(job: staging.Job) -> dict[str, Any]:
    opened = store.open_store(job.root)
    windows = sum(int(opened.record(index)["windows"]) for index in range(len(opened)))
    failed = staging.check_failures(job, "skip")
    return {"clips": len(opened), "failed": failed, "windows": windows}
