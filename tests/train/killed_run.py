"""A run that is to be killed: in a process of its own, forked from one that has imported JAX."""

import dataclasses
import pathlib
import zlib

import jax
import numpy as np
from small_runs import folder, small_training

from alpamayo_jax import cli
from alpamayo_jax.train.run import run_in_folder



def fingerprint(batch) -> int:
    """Of all bytes of a batch."""
    crc = 0
    for leaf in jax.tree.leaves(batch):
        crc = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), crc)
    return crc


def recording(training, path: pathlib.Path):
    """`training` that notes the fingerprint of every batch it takes, and at which step."""

    def step(state, batch, rng):
        with path.open("a") as file:
            file.write(f"{int(state.step)} {fingerprint(batch)}\n")
        return training.step(state, batch, rng)

    return dataclasses.replace(training, step=step)


def run_to_the_end(clips: str, out: str, stage) -> None:
    """What a script does: all from the start, or from the last checkpoint."""
    cli.use_compilation_cache()
    out = pathlib.Path(out)
    out.mkdir(exist_ok=True)
    training = recording(small_training(pathlib.Path(clips), stage), out / "batches.txt")
    state = run_in_folder(training, folder(out, save_every=2), log_every=1, progress=False)
    np.savez(out / "state.npz", *jax.tree.leaves(jax.device_get(state)))
