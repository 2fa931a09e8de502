"""Trains one stage of a policy; the same command on the same folder goes on where it stopped.

    python experiments/train.py --config=configs/tokens_tiny.py --workdir=OUT
    python experiments/train.py --config=configs/expert_tiny.py --workdir=OUT2 \\
        --config.init_from=OUT/checkpoint

On several hosts it is the same command on each (see configs/cluster/). It stops on SIGTERM after the
step under way, with a checkpoint; exit code 0, and no summary.json yet. Writes:

    OUT/checkpoint/     the trained policy, as every other script reads it
    OUT/checkpoints/    states of the run: the newest and the best
    OUT/metrics.jsonl   the log; OUT/tensorboard/ the same for TensorBoard
    OUT/summary.json    final_step, loss, tokens_per_second, step_seconds, data_wait_fraction, mfu,
                        memory_gb, and what mfu is relative to: peak_flops, flops_per_step
    OUT/diverged.json   only if the loss is no longer finite: the windows of the batch
    OUT/profile/        only with --profile: a trace for TensorBoard's or Perfetto's viewer
"""

from typing import Any

from absl import flags, logging
import jax
from ml_collections import config_flags

from alpamayo_jax import cli, convert, distributed, recipe
from alpamayo_jax.config import ConfigError
from alpamayo_jax.metrics.tables import text_table, write_summary
from alpamayo_jax.train import run
from alpamayo_jax.train.assemble import trained_policy
from alpamayo_jax.train.loop import TrainingDiverged

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
    policy = recipe.describe_start(config)
    training = recipe.make_training("stage", config, policy, data, count_flops=True)
    logging.info("%s: %d windows to train on", data.source.name, len(data.training_windows))
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
    if int(state.step) < training.num_steps:
        print(f"stopped after step {int(state.step)}; the same command goes on from there")
        return

    trained = trained_policy(policy, state)
    if jax.process_index():
        return
    trained.save(workdir / "checkpoint")
    summary = run.summary(workdir, training)
    write_summary(workdir / "summary.json", summary)
    print(text_table([{"metric": name, "value": value} for name, value in summary.items()]))
    print(f"checkpoint: {workdir / 'checkpoint'}")


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
    cli.run(main, failures=(TrainingDiverged,))
