"""One of two processes of a run in a folder.

    python tests/train/process_run.py CLIPS OUT        (its place in the run: environment)
"""

import dataclasses
import os
import pathlib
import sys
import time

if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=1"

import jax  # noqa: E402
import numpy as np  # noqa: E402
from small_runs import STAGE, folder, small_policy, small_training  # noqa: E402

from alpamayo_jax import cli, distributed  # noqa: E402
from alpamayo_jax.settings import MeshSettings  # noqa: E402
from alpamayo_jax.train.assemble import trained_policy  # noqa: E402
from alpamayo_jax.train.run import run_in_folder  # noqa: E402

PROCESSES_STAGE = dataclasses.replace(STAGE, steps=10)


def main(clips: str, out: str) -> None:
    distributed.initialise()
    cli.use_compilation_cache()
    mesh = MeshSettings(fsdp=jax.device_count())
    training = small_training(pathlib.Path(clips), PROCESSES_STAGE, mesh=mesh)
    slow = float(os.environ.get("SLOW_S", 0))

    def step(*args):
        time.sleep(slow)  # so that a signal arrives while it runs
        return training.step(*args)

    where = folder(pathlib.Path(out), save_every=2)
    state = run_in_folder(
        dataclasses.replace(training, step=step), where, log_every=1, progress=False
    )
    exported = trained_policy(small_policy(), state)
    if jax.process_index() == 0:
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(exported.params)]
        np.savez(pathlib.Path(out) / f"params{int(state.step)}.npz", *leaves)


if __name__ == "__main__":
    main(*sys.argv[1:])
