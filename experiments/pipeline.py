"""Trains the tiny policy on driving clips, drives held-out ones, and writes a report.

    python experiments/pipeline.py --config=configs/tiny.py --workdir=OUT
    python experiments/pipeline.py --config=configs/tiny.py --workdir=OUT \\
        --config.data.source=clips --config.data.root=DIR

The language model learns discrete trajectory tokens (stage 1), then reasoning before them (stage 2),
and then from rewards for what it says and does (stage 3); last the action expert learns the flow. In
the end the policy drives held-out windows, and streets of the simulator in closed loop, both beside
baselines. Writes:

    OUT/report.html   tables, loss curves and pictures
    OUT/checkpoint/   the policy, as every other script reads it
    OUT/summary.json  min_ade_6, ade, ade_most_likely, ade_constant_velocity, ade_constant_turn_rate
                      (metres over 6.4 s, mean over the held-out windows), windows_train,
                      windows_test, seconds, seconds_training, loss_tokens, loss_sft, loss_grpo,
                      loss_expert, every reward on held-out windows before and after stage 3
                      (reward_before, reward_after, consistency_before, ...; those that could be
                      measured), and every other metric of the evaluation; closed_loop_scene_score,
                      closed_loop_incidents (collisions and departures from the road),
                      closed_loop_kilometres and more of the trained policy on simulated streets,
                      and the same with _recorded, _constant_velocity and _route_follower
    OUT/rollouts/     pictures of example rollouts of stage 3

min_ade_6 is the error of the best of 6 samples; with another eval.num_samples the name follows.
"""

import math
import time

from absl import flags, logging
from ml_collections import config_flags

from alpamayo_jax import cli, convert, recipe, reporting
from alpamayo_jax.closed_loop.cameras import SceneCameras
from alpamayo_jax.evaluate import evaluate
from alpamayo_jax.metrics.tables import text_table, write_summary
from alpamayo_jax.rl.guard import PolicyCollapsed
from alpamayo_jax.train.loop import TrainingDiverged
from alpamayo_jax.viz.report import Report

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)
flags.mark_flag_as_required("config")

STAGES = ("tokens", "sft", "grpo", "expert")


def main(argv) -> None:
    del argv
    begin = time.perf_counter()
    config, workdir = _CONFIG.value, cli.make_workdir(_WORKDIR.value)
    convert.check_target(workdir / "checkpoint")
    recipe.check(config)
    data = recipe.make_data(config)
    windows = recipe.test_windows(config, data)
    logging.info(
        "%s: %d windows to train on, %d held out",
        data.source.name, len(data.training_windows), len(windows),
    )  # fmt: skip
    policy = recipe.make_policy(config)
    histories = {}
    for stage in STAGES:
        if recipe.learns_from_rewards(stage, config):
            learned = recipe.learn_stage(stage, config, policy, data, workdir)
            policy, histories[stage] = learned.policy, learned.history
        else:
            policy, histories[stage] = recipe.train_stage(stage, config, policy, data)
    policy.save(workdir / "checkpoint")

    evaluation = evaluate(
        policy,
        data.source,
        windows,
        settings=recipe.sample_settings(config),
        seed=config.seed,
        batch_size=config.eval.batch_size,
        num_frames=config.data.num_frames,
    )
    mean = evaluation.mean()
    summary = {
        f"min_ade_{config.eval.num_samples}": mean.pop("min_ade"),
        **mean,
        "windows_train": len(data.training_windows),
        "windows_test": len(windows),
        "seconds_training": sum(h.seconds for h in histories.values()),
        **{f"loss_{name}": h.metrics["loss"][-1] for name, h in histories.items()},
        **_measured("before", learned.before),
        **_measured("after", learned.after),
    }

    report = Report("A tiny policy, trained and driven", f"source {data.source.name}")
    reporting.add_evaluation(
        report, evaluation, data.source, config.eval.pictures, held_out=True
    )
    reporting.add_training(report, {k: h for k, h in histories.items() if k != "grpo"})
    reporting.add_learning(
        report, histories["grpo"], learned.before, learned.after,
        sorted((workdir / "rollouts").glob("*.png")),
    )  # fmt: skip
    runs = recipe.drive_closed_loop(config, policy)
    summary |= reporting.closed_loop_numbers(runs)
    reporting.add_closed_loop(report, runs, SceneCameras(num_frames=1))
    report.section("Configuration").code(str(config))
    report.write(workdir / "report.html")
    summary["seconds"] = time.perf_counter() - begin
    write_summary(workdir / "summary.json", summary)

    print(text_table([{"metric": name, "value": value} for name, value in summary.items()]))
    print(f"report: {workdir / 'report.html'}\ncheckpoint: {workdir / 'checkpoint'}")


def _measured(when: str, rewards: dict[str, float]) -> dict[str, float]:
    """The rewards that could be measured, named by when that was."""
    return {f"{name}_{when}": v for name, v in rewards.items() if math.isfinite(v)}


if __name__ == "__main__":
    cli.run(main, failures=(TrainingDiverged, PolicyCollapsed))
