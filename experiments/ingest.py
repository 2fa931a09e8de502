"""Brings drives of any source into one store, which the other scripts and training read.

    python experiments/ingest.py --source=clips --root=DIR --workdir=OUT
    python experiments/ingest.py --source=physical_ai --root=DIR --workdir=OUT --chunks=0-9
    python experiments/ingest.py --source=procedural --num_clips=100 --workdir=OUT
    python experiments/ingest.py --source=clips --root=DIR --workdir=OUT --engine=beam \
        --beam_options=--direct_num_workers=2,--direct_running_mode=multi_processing

It can be stopped at any moment and started again with the same flags. A clip that cannot be read is
named and left out, or ends the run with --on_error=stop.

Writes OUT/summary.json: clips, failed (name and reason of each), windows, seconds; the store itself
is described in `alpamayo_jax/data/store.py`.
"""

from absl import flags

from alpamayo_jax import cli
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data import ingest

SOURCES = ("clips", "physical_ai", "procedural")

_SOURCE = flags.DEFINE_enum("source", None, SOURCES, "What is read.", required=True)
_ROOT = flags.DEFINE_string("root", None, "clips, physical_ai: folder of the drives.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the store.", required=True)
_ON_ERROR = flags.DEFINE_enum(
    "on_error", "skip", ingest.ON_ERROR, "What to do at a clip that cannot be read."
)
_ENGINE = flags.DEFINE_enum(
    "engine", "local", ingest.ENGINES, "This process, or Apache Beam (extra `beam`)."
)
_BEAM_OPTIONS = flags.DEFINE_list(
    "beam_options", [], "beam: its options, runner included, as on a Beam command line."
)
_NUM_CLIPS = flags.DEFINE_integer("num_clips", 32, "procedural: how many.", lower_bound=1)
_SEED = flags.DEFINE_integer(
    "seed", 0, "procedural: of the drives.", lower_bound=0, upper_bound=cli.MAX_SEED
)
_CHUNKS = flags.DEFINE_string("chunks", None, "physical_ai: which, such as 0-9 or 1,5; else all.")
_CAMERAS = flags.DEFINE_list("cameras", None, "physical_ai: names of the cameras; else all.")
_STREAM = flags.DEFINE_bool(
    "stream", False, "physical_ai: fetch what --root lacks through the package physical_ai_av."
)


def _options() -> dict:
    if _SOURCE.value == "procedural":
        if _ROOT.value:
            raise ConfigError("--root: procedural clips come from no folder")
        return {"num_clips": _NUM_CLIPS.value, "seed": _SEED.value}
    if not _ROOT.value:
        raise ConfigError(f"--source={_SOURCE.value} needs --root, the folder of the drives")
    if _SOURCE.value == "clips":
        return {"root": _ROOT.value}
    cameras = tuple(_CAMERAS.value) if _CAMERAS.value else None
    chunks, stream = _CHUNKS.value, _STREAM.value
    return {"root": _ROOT.value, "chunks": chunks, "cameras": cameras, "stream": stream}


def main(argv) -> None:
    del argv
    options = _options()
    workdir = cli.make_workdir(_WORKDIR.value)
    summary = ingest.ingest(
        _SOURCE.value,
        options,
        workdir,
        engine=_ENGINE.value,
        beam_options=tuple(_BEAM_OPTIONS.value),
        on_error=_ON_ERROR.value,
    )
    for failure in summary["failed"]:
        print(f"left out {failure['name']}: {failure['reason']}")
    print(
        f"{summary['clips']} clip(s) with {summary['windows']} windows in {workdir}, "
        f"{len(summary['failed'])} left out"
    )


if __name__ == "__main__":
    cli.run(main)
