"""Ingest as an Apache Beam pipeline: the runner of the options, any number of workers.

Every worker stages clips with the same function as a single machine; TFDS's own Beam writer then
joins the records. The folder of the store must be one that all workers reach.
"""

import json
import logging
import os
import pathlib
import tempfile
from typing import Any, Callable

from alpamayo_jax.data import staging, store
from alpamayo_jax.types import InputError

_DIRECT = "FnApiRunner"


def import_beam() -> Any:
    """The package; raises `InputError` where the extra is not installed."""
    try:
        import apache_beam
    except ImportError:
        raise InputError(
            "--engine=beam needs Apache Beam: pip install 'alpamayo_jax[beam]'"
        ) from None
    # It tells how it reads every type hint of TFDS.
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    logging.getLogger("root").setLevel(logging.WARNING)
    return apache_beam


def pipeline_options(flags: tuple[str, ...]) -> Any:
    """Beam's options from flags as on its command line; without a runner the direct one.

    The direct runner is here the engine that its name stands for in Beam, named itself: under the
    other name Beam first tries to download a binary and to run that instead.

    Raises:
      InputError: an option that Beam does not know, or Beam is not installed.
    """
    import_beam()
    from apache_beam.options.pipeline_options import PipelineOptions

    flags = tuple(flag for flag in flags if flag.lower() != "--runner=directrunner")
    if not any(flag.startswith("--runner") for flag in flags):
        flags = (*flags, f"--runner={_DIRECT}")
    options = PipelineOptions(list(flags))
    try:
        known = set(options.get_all_options(drop_default=True))
    except SystemExit:
        raise InputError(f"Beam cannot read its options {' '.join(flags)}") from None
    for flag in flags:
        if not flag.startswith("--") or flag[2:].partition("=")[0] not in known:
            raise InputError(f"Beam does not know the option {flag!r}")
    return options


def for_each(function: Callable[[int], Any], count: int, flags: tuple[str, ...]) -> list[Any]:
    """function(0) ... function(count - 1) on the workers of a pipeline, in any order.

    Args:
      function: can be sent to other processes; keeps what it makes by itself, or returns something
        small. It may run twice for a number, as Beam repeats what failed.
      count: how often.
      flags: options of Beam.

    Returns:
      (number, result) of each, in order; empty where the runner is on other machines, which hand
      nothing back but what `function` keeps.
    """
    beam, options = import_beam(), pipeline_options(flags)
    handle, path = tempfile.mkstemp(suffix=".jsonl")
    os.close(handle)
    try:
        with beam.Pipeline(options=options) as pipeline:
            (
                pipeline
                | beam.Create(range(count))
                | beam.Reshuffle()
                | beam.Map(_numbered, function)
                | beam.combiners.ToList()
                | beam.Map(_keep, path)
            )
        kept = pathlib.Path(path).read_text()
        return sorted((int(number), result) for number, result in json.loads(kept or "[]"))
    finally:
        os.unlink(path)


def _numbered(number: int, function: Callable[[int], Any]) -> tuple[int, Any]:
    return number, function(number)


def _keep(results: list[Any], path: str) -> None:
    with open(path, "w") as file:
        json.dump(results, file)


def write(job: staging.Job, count: int, on_error: str, flags: tuple[str, ...]) -> None:
    """Stages `count` clips and writes the dataset of the store.

    Args:
      job: what and where.
      count: clips of the source.
      on_error: as in `ingest.ingest`; "stop" ends the pipeline at the first clip that fails.
      flags: options of Beam.

    Raises:
      InputError: as `ingest.ingest`.
    """
    beam, options = import_beam(), pipeline_options(flags)

    def examples() -> Any:
        return (
            beam.Create(range(count))
            | "Spread" >> beam.Reshuffle()
            | "Stage" >> beam.FlatMap(_example, job, on_error)
        )

    try:
        store.write_dataset(job.root, examples, job.staging / "downloads", options)
    # Beam wraps what a worker raises in errors of its runner.
    except Exception:
        staging.check_failures(job, on_error)
        staging.check_some(job, count)
        raise


def _example(index: int, job: staging.Job, on_error: str) -> list[tuple[int, dict[str, Any]]]:
    if not staging.stage(job, index):
        staging.check_failures(job, on_error)
        return []
    return [(index, staging.staged_record(job, index))]
