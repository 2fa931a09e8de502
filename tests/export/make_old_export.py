"""Writes `made_by_jax_0_10_2`, the export that newer versions of jax must read.

    python tests/export/make_old_export.py

Run it with the oldest supported jax, and only where the layout of exports changes.
"""

import pathlib

import numpy as np

from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.export.parity import Reference
from alpamayo_jax.export.run import ExportSettings, export, make_windows
from alpamayo_jax.export.stages import sizes_of
from alpamayo_jax.testing.tiny import random_observation, random_params, tiny_config
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer

FOLDER = pathlib.Path(__file__).parent / "made_by_jax_0_10_2"
STAGES = ("vision", "flow_step", "trajectory")


def main() -> None:
    config = tiny_config()
    policy = Policy(config, random_params(config), tiny_tokenizer(config))
    observation = random_observation(config)
    FOLDER.mkdir(exist_ok=True)
    settings = ExportSettings("stablehlo", stages=STAGES, new_tokens=4)
    export(policy, [observation], FOLDER, settings)
    (window,) = make_windows(policy, [observation])
    reference = Reference(config, policy.params, sizes_of(window, samples=1, new_tokens=4))
    noise = np.random.default_rng(0).standard_normal((1, 1, config.action.n_waypoints, 2))
    recorded = {}
    for stage, values, outputs in reference.calls(window, noise.astype(np.float32)):
        if stage in STAGES:
            recorded |= {name: values[name] for name in reference.stages[stage].inputs}
            recorded |= {f"out_{stage}_{name}": array for name, array in outputs.items()}
    np.savez_compressed(FOLDER / "recorded.npz", **recorded)


if __name__ == "__main__":
    main()
