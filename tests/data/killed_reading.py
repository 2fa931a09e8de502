"""Reads batches of a store and keeps, after each, what it saw and how far it is; dies by itself.

    python killed_reading.py STORE LOG TOTAL DIE_AFTER
"""

import hashlib
import json
import os
import pathlib
import signal
import sys

import jax
import numpy as np

from alpamayo_jax import files
from alpamayo_jax.data.pipeline import training_batches
from alpamayo_jax.data.sources import list_windows, make_source
from alpamayo_jax.presets import preset
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer


def digest(batch) -> str:
    """Of all arrays of a batch."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(batch):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


def main(store: str, log: str, total: int, die_after: int) -> None:
    """Goes on where `log` ends."""
    source, config = make_source("store", path=store, cache_mb=8), preset("tiny")
    processor = Processor(config, tiny_tokenizer(config))
    batches = iter(
        training_batches(
            source, list_windows(source, num_frames=1), processor,
            batch_size=3, seed=5, num_frames=1, pack_lengths=(96, 320), cache_windows=True,
        )
    )  # fmt: skip
    path = pathlib.Path(log)
    kept = json.loads(path.read_text()) if path.exists() else {"seen": [], "state": None}
    if kept["state"] is not None:
        batches.set_state(kept["state"])
    while len(kept["seen"]) < total:
        kept["seen"].append(digest(next(batches)))
        kept["state"] = batches.get_state()
        if len(kept["seen"]) == die_after:
            os.kill(os.getpid(), signal.SIGKILL)  # this batch is lost, as it was not kept
        files.write_bytes(path, json.dumps(kept).encode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
