"""One of two processes: joins the run, compares settings, and trains three steps if asked to.

    python tests/distributed_worker.py WHAT OUT.npz        (its place in the run: environment)
"""

import os
import pathlib
import sys

if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax  # noqa: E402
import numpy as np  # noqa: E402

from alpamayo_jax import distributed  # noqa: E402
from alpamayo_jax.config import ConfigError  # noqa: E402
from alpamayo_jax.sharding import AxisRules, Layout, batch_shardings, make_mesh  # noqa: E402
from alpamayo_jax.testing.tiny import (  # noqa: E402
    GRIDS,
    random_params,
    random_train_batch,
    tiny_config,
)
from alpamayo_jax.train.objectives import joint_objective  # noqa: E402
from alpamayo_jax.train.optimiser import OptimiserConfig, make_optimiser  # noqa: E402
from alpamayo_jax.train.state import create_state, state_shardings  # noqa: E402
from alpamayo_jax.train.step import make_train_step  # noqa: E402

STEPS = 3


def train(devices, part: int, parts: int) -> dict[str, np.ndarray]:
    """Losses and the sum of magnitudes of every parameter; this process feeds one part of the rows."""
    config, rules = tiny_config(), AxisRules()
    mesh = make_mesh(data=2, fsdp=2, devices=devices)
    params = random_params(config)
    optimiser = make_optimiser(OptimiserConfig(3e-4, 10), params)
    batch = jax.tree.map(np.asarray, random_train_batch(config, GRIDS * 2))
    where = state_shardings(config, mesh, rules, optimiser)
    rows = batch_shardings(batch, mesh, rules)
    size = batch.labels_mask.shape[0] // parts

    def mine(path, array):
        axis = int(path[-1].name == "position_ids")
        return np.take(array, range(part * size, (part + 1) * size), axis)

    batch = distributed.global_batch(jax.tree_util.tree_map_with_path(mine, batch), rows)
    step = make_train_step(
        joint_objective(config, layout=Layout(mesh, rules)),
        optimiser,
        shardings=where,
        batch_sharding=rows,
    )
    state, losses = create_state(params, optimiser, shardings=where), []
    for _ in range(STEPS):
        state, metrics = step(state, batch, jax.random.key(5))
        losses.append(float(metrics["loss"]))
    sums = jax.jit(lambda p: [abs(leaf).sum() for leaf in jax.tree.leaves(p)])(state.params)
    return {"losses": np.array(losses), "sums": np.array([float(value) for value in sums])}


def main(what: str, out: pathlib.Path) -> None:
    index, count = distributed.initialise(timeout_s=120)
    found = {"index": index, "count": count, "devices": len(jax.devices())}
    distributed.require_agreement({"seed": 1, "name": "same"})
    for name, values in {
        "differ": {"seed": index, "name": "same"},
        "entries": {"seed": 1, f"only_{index}": 2},
    }.items():
        try:
            distributed.require_agreement(values)
            found[name] = ""
        except ConfigError as error:
            found[name] = str(error)
    mesh = make_mesh(data=2, fsdp=2)
    found["row_shard"] = distributed.row_shard(mesh, AxisRules())
    # A tensor axis that spans processes: both feed the same rows.
    found["row_shard_tensor"] = distributed.row_shard(
        make_mesh(data=2, fsdp=1, tensor=2, devices=np.reshape(jax.devices(), (2, 2)).T.ravel()),
        AxisRules(),
    )
    if what == "train":
        found |= train(jax.devices(), *distributed.row_shard(mesh, AxisRules()))
    np.savez(out, **found)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
