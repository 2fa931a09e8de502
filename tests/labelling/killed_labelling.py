"""Labelling that kills itself, as `kill -9` would.

    python killed_labelling.py STORE OUT PLACE COUNT
"""

import os
import signal
import sys

from alpamayo_jax import files
from alpamayo_jax.labelling import run


def _die_at(holder, name: str, count: int) -> None:
    original, calls = getattr(holder, name), [0]

    def dying(*args, **kwargs):
        if calls[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        calls[0] += 1
        return original(*args, **kwargs)

    setattr(holder, name, dying)


PLACES = {
    "file": (files, "write_bytes"),  # before the claim, a part, the labels, the summary
    "rename": (os, "replace"),  # a file is written, but not yet in its place
    "clip": (run, "label_clip"),  # in the middle of a clip
    "merge": (run, "_merge"),
    "cleaning": (run.shutil, "rmtree"),
}

if __name__ == "__main__":
    store, out, place, count = sys.argv[1:]
    _die_at(*PLACES[place], int(count))
    run.label_store(run.Job(store, out), progress=False)
