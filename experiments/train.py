"""Trains one stage of a policy; the same command on the same folder goes on where it stopped.

    python experiments/train.py --config=configs/tokens_tiny.py --workdir=OUT
    python experiments/train.py --config=configs/expert_tiny.py --workdir=OUT2 \\
        --config.init_from=OUT/checkpoint

    python experiments/train.py --config=configs/grpo_tiny.py --workdir=OUT3

On several hosts it is the same command on each (see configs/cluster/). It stops on SIGTERM after the
step under way, with a checkpoint; exit code 0, and no summary.json yet. Writes:

    OUT/checkpoint/     the trained policy, as every other script reads it
    OUT/checkpoints/    states of the run: the newest and the best
    OUT/metrics.jsonl   the log; OUT/tensorboard/ the same for TensorBoard
    OUT/summary.json    final_step, loss, tokens_per_second, step_seconds, data_wait_fraction, mfu,
                        memory_gb, and what mfu is relative to: peak_flops, flops_per_step
    OUT/diverged.json   only if the loss is no longer finite: the windows of the batch
    OUT/profile/        only with --profile: a trace for TensorBoard's or Perfetto's viewer

Reinforcement learning (objectives grpo and grpo_expert) starts from init_from or, without it, from
the policy that sections `sft` and `expert` of the configuration train first, in OUT/sft/ and
OUT/expert/. Besides it writes:

    OUT/summary.json    before, after: the means of "reward" and of every component ("consistency",
                        "reasoning", "ade", ...) on held-out windows; those after also by themselves;
                        rollouts_per_second, the median over rollouts
    OUT/rewards.html    curves of all components, and the example rollouts
    OUT/rollouts/       pictures of them, every rl.picture_every steps
    OUT/before.json     what was measured before
"""

import json
import pathlib
import statistics
from typing import Any

from absl import flags, logging
import jax
import ml_collections
from ml_collections import config_flags

from alpamayo_jax import cli, convert, distributed, recipe, reporting
from alpamayo_jax.config import ConfigError
from alpamayo_jax.metrics.tables import text_table, write_summary
from alpamayo_jax.rl.assemble import Learning
from alpamayo_jax.rl.guard import PolicyCollapsed
from alpamayo_jax.train import run
from alpamayo_jax.train.assemble import final_params, trained_policy
from alpamayo_jax.train.loop import TrainingDiverged
from alpamayo_jax.train.state import TrainState

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)
_LAUNCH = flags.DEFINE_enum(
    "launch", "auto", distributed.LAUNCHES, "How the processes of a run find each other."
)
_PROFILE = flags.DEFINE_list("profile", [], "FIRST,COUNT: steps of which a trace is written.")
flags.mark_flag_as_required("config")


def main(argv) -> None:
    del argv
    distributed.initialise(_LAUNCH.value)
    config, workdir = _CONFIG.value, cli.make_workdir(_WORKDIR.value)
    distributed.require_agreement(_flat(config.to_dict()))
    convert.check_target(workdir / "checkpoint")
    profile = _profile(_PROFILE.value)
    recipe.check(config)
    data = recipe.make_data(config)
    begun = _with_start(config, workdir)
    if begun is None:
        return
    policy, learning = recipe.describe_start(begun), None
    logging.info("%s: %d windows to train on", data.source.name, len(data.training_windows))
    if recipe.learns_from_rewards("stage", config):
        learning = recipe.make_learning("stage", begun, policy, data, workdir)
        training, before = learning.training, _before(workdir, learning)
    else:
        training = recipe.make_training("stage", begun, policy, data, count_flops=True)
        logging.info(
            "%.3g operations per step; %.3g per second at best (%s)",
            training.flops, training.peak, training.peak_source,
        )  # fmt: skip
    state = run.run_in_folder(
        training,
        recipe.make_folder(config, data, workdir),
        log_every=config.run.log_every,
        profile=profile,
    )
    if _stopped(state, training):
        return

    after = learning.measure(final_params(state)) if learning else {}
    trained = trained_policy(policy, state)
    if jax.process_index():
        return
    trained.save(workdir / "checkpoint")
    summary = run.summary(workdir, training)
    rows = [{"metric": name, "value": value} for name, value in summary.items()]
    print(text_table(rows))
    if learning:
        history = run.history(workdir)
        summary["rollouts_per_second"] = statistics.median(history.metrics["rollouts_per_second"])
        summary |= after | {"before": before, "after": after}
        print(text_table(reporting.change_rows(before, after)))
        page = reporting.write_learning_page(workdir, history, before, after)
        print(f"rewards: {page}")
    write_summary(workdir / "summary.json", summary)
    print(f"checkpoint: {workdir / 'checkpoint'}")


def _with_start(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> ml_collections.ConfigDict | None:
    """The configuration, with `init_from` what its earlier stages make; None if one was stopped."""
    earlier = [name for name in recipe.EARLIER if name in config]
    if config.init_from or not earlier:
        return config
    begun = ml_collections.ConfigDict(config.to_dict())
    for name in earlier:
        whole = recipe.of_stage(name, begun)
        kept = ("preset", "seed", "init_from", "data", name, "mesh", "precision", "run")
        own = ml_collections.ConfigDict({k: v for k, v in whole.items() if k in kept})
        data = recipe.make_data(own)
        policy, folder = recipe.describe_start(own), workdir / name
        training = recipe.make_training(name, own, policy, data)
        files = recipe.make_folder(own, data, folder)
        state = run.run_in_folder(training, files, log_every=config.run.log_every)
        if _stopped(state, training):
            return None
        trained = trained_policy(policy, state)
        if not jax.process_index():
            trained.save(folder / "checkpoint")
        distributed.wait_for_all(name)
        begun.init_from = str(folder / "checkpoint")
    return begun


def _before(workdir: pathlib.Path, learning: Learning) -> dict[str, float]:
    """What the policy is measured at before it learns; measured once."""
    path = workdir / "before.json"
    if not path.exists():
        measured = learning.measure(learning.params())
        if not jax.process_index():
            write_summary(path, measured)
        return measured
    return json.loads(path.read_text())


def _stopped(state: TrainState, training: run.Training) -> bool:
    """Whether the run was asked to stop before its end."""
    stopped = int(state.step) < training.num_steps
    if stopped:
        print(f"stopped after step {int(state.step)}; the same command goes on from there")
    return stopped


def _flat(values: Any, path: str = "") -> dict[str, Any]:
    """Nested dicts as one, whose keys are paths."""
    if not isinstance(values, dict):
        return {path: values}
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{path}.{key}".lstrip("."))
    return flat


def _profile(steps: list[str]) -> tuple[int, int] | None:
    try:
        numbers = tuple(int(step) for step in steps)
    except ValueError:
        numbers = (0,)
    if numbers and (len(numbers) != 2 or min(numbers) < 1):
        raise ConfigError(f"--profile={','.join(steps)} is not FIRST,COUNT, two numbers from 1 on")
    return numbers or None


if __name__ == "__main__":
    cli.run(main, failures=(TrainingDiverged, PolicyCollapsed))
