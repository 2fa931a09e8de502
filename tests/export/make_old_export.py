"""Writes `made_by_jax_0_10_2`, the export that newer versions of jax must read.

    python tests/export/make_old_export.py

Run it with the oldest supported jax, and only where the layout of exports changes.
"""

import pathlib

import numpy as np

from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.export import load
from alpamayo_jax.export.run import ExportSettings, export
from alpamayo_jax.testing.tiny import random_observation, random_params, tiny_config
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer

FOLDER = pathlib.Path(__file__).parent / "made_by_jax_0_10_2"
STAGES = ("vision", "flow_step", "trajectory")


def main() -> None:
    config = tiny_config()
    policy = Policy(config, random_params(config), tiny_tokenizer(config))
    FOLDER.mkdir(exist_ok=True)
    settings = ExportSettings("stablehlo", stages=STAGES, new_tokens=4)
    export(policy, [random_observation(config)], FOLDER, settings)
    record()


def record() -> None:
    """Writes what the programs make of random inputs here."""
    exported, rng, recorded = load(FOLDER), np.random.default_rng(0), {}
    for stage in STAGES:
        for port in exported.manifest.artefact(stage).inputs:
            shape = [1 if size == "batch" else size for size in port.shape]
            values = rng.standard_normal(shape).astype(port.dtype)
            if port.dtype == "bool":
                values = np.ones(shape, bool)
            if port.dtype == "int32":
                values = np.full(shape, 2, np.int32)
            recorded.setdefault(port.name, values)
        outputs = exported.run(stage, recorded)
        recorded |= {f"out_{stage}_{name}": array for name, array in outputs.items()}
    np.savez_compressed(FOLDER / "recorded.npz", **recorded)


if __name__ == "__main__":
    main()
