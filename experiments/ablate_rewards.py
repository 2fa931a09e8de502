"""Which reward does what, on drives whose right decision is known: the paper's table 9 in small.

    python experiments/ablate_rewards.py --config=configs/ablate_rewards_tiny.py --seeds=3 \\
        --workdir=OUT

For every seed a policy learns to see from right drives (section `tokens`), then from drives whose
reasoning and trajectories are wrong in known shares (section `sft`); then it learns from rewards,
on other drives, once per row: for its reasoning alone, for its reasoning and for doing what it says,
and for its trajectories besides (sections `grpo`, `rl`, `reward`). All four policies are measured
on the same held-out drives, which are right. The same command on the same folder goes on where it
stopped; on SIGTERM it leaves out the row under way and ends with exit code 0, without a table.
Writes:

    OUT/table.json   per row and metric: mean, std over the seeds, values, change relative to SFT
    OUT/table.md     the same to read
    OUT/table.png    the same to see
    OUT/summary.json seconds of each part, and the numbers of table.json
    OUT/seed_N/      the supervised policy (sft/), and what was measured of each row
"""

import pathlib
import time

from absl import flags, logging
import ml_collections
from ml_collections import config_flags

from alpamayo_jax import cli, recipe
from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.policy import Policy, load_policy
from alpamayo_jax.files import write_bytes
from alpamayo_jax.metrics.tables import write_summary
from alpamayo_jax.rl import ablation
from alpamayo_jax.rl.guard import PolicyCollapsed
from alpamayo_jax.train.checkpoint import hash_of
from alpamayo_jax.train.loop import History, TrainingDiverged


class Stopped(Exception):
    """The process was asked to stop before a stage had all its steps."""


_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)
_SEEDS = flags.DEFINE_integer("seeds", 3, "How many, counted from config.seed.", lower_bound=1)
_ROWS = flags.DEFINE_multi_enum("row", list(ablation.ROWS), list(ablation.ROWS), "Rows to train.")
flags.mark_flag_as_required("config")


def main(argv) -> None:
    del argv
    config, workdir = _CONFIG.value, cli.make_workdir(_WORKDIR.value)
    _same_run(config, workdir)
    recipe.check(config)
    results = {row: [] for row in (ablation.SFT, *_ROWS.value)}
    seconds = {row: [] for row in results}
    for seed in range(config.seed, config.seed + _SEEDS.value):
        try:
            found = _seed(config, seed, workdir)
        except Stopped as error:
            logging.warning("%s; the same command goes on", error)
            return
        for row, result in found.items():
            results[row].append(result["measured"])
            seconds[row].append(result["seconds"])
    rows = ablation.table(results)
    said = ablation.markdown(rows)
    write_summary(workdir / "table.json", {"rows": rows, "seeds": _SEEDS.value})
    write_bytes(workdir / "table.md", f"{said}\n".encode())
    ablation.picture(rows, workdir / "table.png")
    names = [column.metric for column in ablation.COLUMNS]
    means = {row["row"]: {name: row[name]["mean"] for name in names} for row in rows}
    write_summary(workdir / "summary.json", {"rows": means, "seconds": seconds})
    print(said)
    print(f"table: {workdir / 'table.md'}, {workdir / 'table.json'}, {workdir / 'table.png'}")


def _same_run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Refuses a folder whose measurements another configuration made."""
    path, ours = workdir / "config_hash.txt", hash_of(config.to_dict())
    if path.exists() and path.read_text().strip() != ours:
        raise ConfigError(
            f"--workdir={workdir} holds results of another configuration; give another folder"
        )
    write_bytes(path, f"{ours}\n".encode())


def _seed(config: ml_collections.ConfigDict, seed: int, workdir: pathlib.Path) -> dict[str, dict]:
    """Row -> what is measured with one seed; what was measured before is read."""
    own, clean = _seeded(config, seed), _clean(config, seed)
    data = recipe.make_data(clean)
    policy, taught = _supervised(own, workdir / f"seed_{seed}" / ablation.SFT)
    found = {}
    for row in (ablation.SFT, *_ROWS.value):
        path = ablation.result_path(workdir, seed, row)
        found[row] = ablation.read_result(path)
        if found[row] is not None:
            continue
        logging.info("seed %d, row %s", seed, row)
        begin = time.perf_counter()
        if row == ablation.SFT:
            learning = recipe.make_learning("grpo", clean, policy, data)
            measured, took = learning.measure(learning.params()), taught
        else:
            paid = clean.copy_and_resolve_references()
            paid.reward.update(ablation.row_weights(_weights(config), row))
            learned = recipe.learn_stage("grpo", paid, policy, data)
            _require_end(learned.history, config.grpo.steps, f"seed {seed}, row {row}")
            measured, took = learned.after, time.perf_counter() - begin
        ablation.write_result(path, measured, took)
        found[row] = ablation.read_result(path)
    return found


def _supervised(config: ml_collections.ConfigDict, folder: pathlib.Path) -> tuple[Policy, float]:
    """The policy that all rows start from, trained once, and the seconds that took."""
    done = ablation.read_result(folder / "trained.json")
    if done is not None:
        return load_policy(folder / "checkpoint"), done["seconds"]
    begin, policy = time.perf_counter(), recipe.make_policy(config)
    for stage in ("tokens", "sft"):
        own = recipe.of_stage(stage, config)
        policy, history = recipe.train_stage(stage, own, policy, recipe.make_data(own))
        _require_end(history, config[stage].steps, f"seed {config.seed}, stage {stage}")
    policy.save(folder / "checkpoint")
    took = time.perf_counter() - begin
    ablation.write_result(folder / "trained.json", {"loss": history.metrics["loss"][-1]}, took)
    return policy, took


def _require_end(history: History, steps: int, what: str) -> None:
    """A policy that stopped early is not what a row of the table is about."""
    done = history.steps[-1] if history.steps else 0
    if done < steps:
        raise Stopped(f"{what}: stopped after step {done} of {steps}, not measured")


def _seeded(config: ml_collections.ConfigDict, seed: int) -> ml_collections.ConfigDict:
    own = ml_collections.ConfigDict(config.to_dict())
    own.seed = seed
    return own


def _clean(config: ml_collections.ConfigDict, seed: int) -> ml_collections.ConfigDict:
    """The configuration of learning from rewards: other drives, which are right."""
    own = recipe.of_stage("grpo", config)
    own.seed = seed + config.grpo_seed_offset
    return own


def _weights(config: ml_collections.ConfigDict) -> dict[str, float]:
    return {k: v for k, v in config.reward.items() if isinstance(v, float) and k != "max_ade"}


if __name__ == "__main__":
    cli.run(main, failures=(TrainingDiverged, PolicyCollapsed))
