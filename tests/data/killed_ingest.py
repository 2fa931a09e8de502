"""An ingest that kills itself, as `kill -9` would: python killed_ingest.py ROOT OUT PLACE COUNT."""

import os
import signal
import sys

from alpamayo_jax import files
from alpamayo_jax.data import ingest, media, staging, store


def _die_at(holder, name: str, count: int) -> None:
    """At call number `count` of a function the process is gone."""
    original, calls = getattr(holder, name), [0]

    def dying(*args, **kwargs):
        if calls[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        calls[0] += 1
        return original(*args, **kwargs)

    setattr(holder, name, dying)


PLACES = {
    "frame": (media, "_encoded"),  # in the middle of a clip's media file
    "file": (files, "write_bytes"),  # before the claim, a staged record, a failure, the summary
    "rename": (os, "replace"),  # a file is written, but not yet in its place
    "record": (staging, "staged_record"),  # while TFDS writes
    "dataset": (store, "write_dataset"),
    "summary": (ingest, "_summary"),  # the dataset is there, nothing else
    "cleaning": (ingest.shutil, "rmtree"),
}

if __name__ == "__main__":
    root, out, place, count = sys.argv[1:]
    _die_at(*PLACES[place], int(count))
    ingest.ingest("clips", {"root": root}, out, progress=False)
