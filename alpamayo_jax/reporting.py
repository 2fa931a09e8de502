"""What a person looks at: pictures of single windows, and the pages of evaluations and runs."""

import os
import pathlib
from typing import Any, Mapping, Sequence

import numpy as np

from alpamayo_jax.clip import Clip
from alpamayo_jax.closed_loop import page, summary
from alpamayo_jax.closed_loop.cameras import SceneCameras
from alpamayo_jax.closed_loop.runner import Run
from alpamayo_jax.data.sources import ClipSource
from alpamayo_jax.evaluate import Evaluation, WindowResult
from alpamayo_jax.train.loop import History
from alpamayo_jax.types import Observation, Prediction
from alpamayo_jax.viz import curves
from alpamayo_jax.viz.drive import clip_picture
from alpamayo_jax.viz.report import Report

# What tables for people show, and under which heading; `summary.json` has every metric.
SHOWN = {
    "min_ade": "minADE",
    "ade_most_likely": "most likely",
    "mean_ade": "mean",
    "min_fde": "minFDE",
    "corner_distance_best_sample": "corners",
    "ade_constant_velocity": "const. velocity",
    "ade_constant_turn_rate": "const. turn rate",
}

_CLOSED_LOOP = (
    "scene_score", "collision_any", "collision_at_fault", "offroad", "progress", "incidents",
    "kilometres",
)  # fmt: skip


def shown_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One table row per clip, then all, with the columns of `SHOWN`."""
    return [
        {"clip": row["clip"], "windows": row["windows"]}
        | {heading: row[name] for name, heading in SHOWN.items()}
        for row in evaluation.rows()
    ]


def window_picture(
    path: str | os.PathLike | None,
    clip: Clip,
    observation: Observation,
    prediction: Prediction,
    future_xyz: np.ndarray | None,
    title: str = "",
) -> bytes:
    """The front camera with the samples, the view from above, and the reasoning, as PNG.

    Args:
      path: where to write it, or None.
      clip: the drive, for its lens, road users and map.
      observation: of the window.
      prediction: of the window.
      future_xyz: recorded [W, 3], or None where the clip ends.
      title: one line.
    """
    return clip_picture(
        path, clip, observation, prediction.xyz, future_xyz, prediction.reasoning, title
    )


def spread(results: Sequence[WindowResult], count: int) -> list[WindowResult]:
    """At most `count` results, evenly spread over the list."""
    if count >= len(results):
        return list(results)
    return [results[(2 * i + 1) * len(results) // (2 * count)] for i in range(count)]


def add_evaluation(
    report: Report,
    evaluation: Evaluation,
    source: ClipSource,
    num_pictures: int,
    held_out: bool = False,
) -> None:
    """Sections with the metrics, the error over time, and pictures of some windows.

    Args:
      report: where to.
      evaluation: of at least one window.
      source: the clips that its windows count.
      num_pictures: at most.
      held_out: say that the policy was not trained on these windows.
    """
    mean, samples = evaluation.mean(), len(evaluation.results[0].prediction.xyz)
    windows = f"{len(evaluation.results)} windows"
    if held_out:
        windows += " that the policy was not trained on"
    report.figures({
        f"minADE_{samples}, m": mean["min_ade"],
        "ADE of the most likely sample, m": mean["ade_most_likely"],
        "ADE, constant velocity, m": mean["ade_constant_velocity"],
        "ADE, constant turn rate and acceleration, m": mean["ade_constant_turn_rate"],
    })
    report.section(
        "Held-out windows" if held_out else "Windows",
        f"{windows}; errors in metres over 6.4 s. minADE is the error of the best of {samples} "
        f"samples, then come the most likely sample and the mean of all; corners is the mean "
        f"distance of the vehicle's corners, best sample. A baseline has one trajectory.",
    )
    report.table(shown_rows(evaluation))
    report.picture(
        curves.error_over_horizon(evaluation.displacement(), title="Error over the time ahead"),
        "Mean displacement over the time ahead.",
    )
    report.section("Pictures", "Windows, evenly spread over the evaluated ones.")
    for result in spread(evaluation.results, num_pictures):
        clip = source.clip(result.window[0])
        picture = window_picture(
            None, clip, result.observation, result.prediction, result.target.ego_future_xyz
        )
        report.picture(
            picture,
            f"{clip.clip_id} at t0 = {result.window[1]:.1f} s: minADE {result.metrics['min_ade']:.2f} "
            f"m, constant velocity {result.metrics['ade_constant_velocity']:.2f} m.",
        )


def closed_loop_numbers(runs: Mapping[str, Run]) -> dict[str, float]:
    """Flat names -> the numbers of `recipe.drive_closed_loop`: closed_loop_METRIC_POLICY.

    METRIC is scene_score, collision_any, collision_at_fault, offroad, progress, incidents or
    kilometres; the trained policy has no POLICY at the end.
    """
    found = {}
    for name, run in runs.items():
        scores = summary.scores(run)
        values = scores.mean | {
            "scene_score": scores.scene_score,
            "incidents": float(np.nansum(scores.rollouts["offroad_or_collision"])),
            "kilometres": float(np.nansum(scores.rollouts["dist_traveled_m"])) / 1000.0,
        }
        for metric in _CLOSED_LOOP:
            suffix = "" if name == "policy" else f"_{name}"
            found[f"closed_loop_{metric}{suffix}"] = values[metric]
    return found


def add_closed_loop(report: Report, runs: Mapping[str, Run], cameras: SceneCameras) -> None:
    """A section with a row per policy, and the worst street of the trained one; or nothing."""
    if not runs:
        return
    run = runs["policy"]
    report.section(
        "Closed loop",
        f"{len(run.scenes)} simulated streets that are new to the policy, driven by each policy. A "
        "rollout counts until it collides, leaves the road or is 4 m from the expert's path. Scene "
        "score: 0 after a collision at fault or off-road, else the progress over 0.8, at most 1.",
    )
    report.table([
        {"policy": name.replace("_", " ")} | summary.all_row(driven) for name, driven in runs.items()
    ])
    page.add_scene(report, run, summary.worst(run, 1)[0], 0, cameras)


def add_training(report: Report, histories: Mapping[str, History]) -> None:
    """A section with the loss curves of the training stages."""
    report.section("Training")
    for name, history in histories.items():
        series = {
            key: (history.steps, values)
            for key, values in history.metrics.items()
            if key.startswith("loss") and any(values)
        }
        report.picture(
            curves.curves(series, title=f"Stage {name!r}", smooth=3),
            f"{history.steps[-1]} steps in {history.seconds:.0f} s, "
            f"{100 * history.data_seconds / history.seconds:.1f} % of it waiting for data.",
        )


# Numbers of a log of reinforcement learning that are no reward, and those of the loop itself.
_ABOUT_ROLLOUTS = {
    "num_tokens": "tokens per sample",
    "reward_std": "deviation of the reward within a group",
    "kl": "divergence from the start",
    "entropy": "entropy of sampled tokens",
}


def change_rows(before: Mapping[str, float], after: Mapping[str, float]) -> list[dict[str, Any]]:
    """A table of what was measured before and after reinforcement learning, the reward first."""
    names = sorted(after, key=lambda name: name != "reward")
    return [
        {"metric": name, "before": before.get(name), "after": after[name]} for name in names
    ]


def add_learning(
    report: Report,
    history: History,
    before: Mapping[str, float],
    after: Mapping[str, float],
    pictures: Sequence[pathlib.Path] = (),
) -> None:
    """Sections with rewards before and after, a curve of every component, and example rollouts.

    Args:
      report: where to.
      history: the log of the stage.
      before, after: means on held-out windows.
      pictures: of rollouts.
    """
    report.section(
        "Reinforcement learning",
        f"{history.steps[-1]} steps in {history.seconds:.0f} s; means on held-out windows before and "
        f"after.",
    )
    report.table(change_rows(before, after))
    names = [name for name in after if name in history.metrics]
    names = sorted(names, key=lambda name: (name in _ABOUT_ROLLOUTS, name != "reward"))
    names += [name for name in _ABOUT_ROLLOUTS if name in history.metrics and name not in names]
    report.pictures([
        (
            curves.curves(
                {name: (history.steps, history.metrics[name])},
                title=_ABOUT_ROLLOUTS.get(name, name),
                ylabel=name,
                smooth=5,
            ),
            f"{_ABOUT_ROLLOUTS.get(name, name)}, mean of every rollout",
        )
        for name in names
    ])
    if pictures:
        report.section("Example rollouts", "The best and the worst samples of a window.")
        for path in pictures:
            report.picture(path, path.stem.replace("_", " "), jpeg_quality=85)


def write_learning_page(
    workdir: pathlib.Path, history: History, before: Mapping[str, float], after: Mapping[str, float]
) -> pathlib.Path:
    """`rewards.html` of a run of `experiments/train.py` that learned from rewards."""
    report = Report("Reinforcement learning", str(workdir))
    add_learning(report, history, before, after, sorted((workdir / "rollouts").glob("*.png")))
    return report.write(workdir / "rewards.html")


def write_evaluation_page(
    path: str | os.PathLike, evaluation: Evaluation, source: ClipSource, checkpoint: str
) -> pathlib.Path:
    """The page of `experiments/evaluate.py`."""
    report = Report("Open-loop evaluation", f"checkpoint {checkpoint}")
    add_evaluation(report, evaluation, source, num_pictures=6)
    return report.write(path)
