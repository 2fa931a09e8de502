"""A small store of drives without images, for tests of labelling."""

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "coc"))

import coc_scenes as scenes  # noqa: E402

from alpamayo_jax.data.clip_writer import write_clip  # noqa: E402
from alpamayo_jax.data.ingest import ingest  # noqa: E402

NAMES = ("a_lead", "b_quiet", "c_walker", "d_lead")


def make_clips(root: pathlib.Path) -> None:
    t = scenes.times()
    walker = scenes.person(4, t, 60.0, 3.2)
    clips = (
        scenes.braking_behind_lead("a_lead"),
        scenes.drive(np.full(161, 8.0), name="b_quiet"),
        scenes.drive(np.full(161, 8.0), [walker], name="c_walker"),
        scenes.braking_behind_lead("d_lead"),
    )
    for clip in clips:
        write_clip(root / clip.clip_id, clip)


def make_store(folder: pathlib.Path) -> pathlib.Path:
    """The folder of the store; the clips are beside it."""
    make_clips(folder / "clips")
    ingest("clips", {"root": str(folder / "clips")}, folder / "store", progress=False)
    return folder / "store"
