"""A run as numbers: AlpaSim's names, per scenario class, and what ended each rollout."""

import dataclasses
from typing import Any

import numpy as np

from alpamayo_jax.closed_loop.runner import Run
from alpamayo_jax.metrics import closed_loop_scores
from alpamayo_jax.metrics.closed_loop_scores import DEVIATION, Scores

# Heading of tables for people -> metric, its mean over rollouts.
SHOWN = {
    "scene score": "scene_score",
    "collision": "collision_any",
    "at fault": "collision_at_fault",
    "off-road": "offroad",
    "wrong lane": "wrong_lane",
    "progress": "progress",
    "from recording, m": "dist_to_gt_trajectory",
    "minADE, m": "min_ade",
    "comfortable": "comfortable",
}
_EVENTS = (
    ("collision_front", "collided at the front"),
    ("collision_lateral", "collided at the side"),
    ("collision_rear", "was hit from behind"),
    ("offroad", "left the road"),
)


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a rollout ended.

    Attributes:
      tick: the last that counts.
      event: metric that ended it, or "" at the end of the recording.
      words: for people.
    """

    tick: int
    event: str
    words: str


def first_tick(run: Run) -> np.ndarray:
    """int [S, K], the first tick that the policy planned."""
    return np.asarray(run.rollout.warmup)


def last_tick(run: Run) -> np.ndarray:
    """int [S, K], the last tick that was simulated."""
    return np.asarray(run.rollout.num_ticks) - 1


def scores(run: Run, chosen: np.ndarray | None = None, *, strict: bool = False) -> Scores:
    """The scores of a run, or of some of its scenes.

    Args:
      run: what happened.
      chosen: numbers of scenes, or None: all.
      strict: as AlpaSim, quirks included.
    """
    rows = slice(None) if chosen is None else chosen
    chosen_steps = run.strict_steps if strict else run.steps
    steps = {name: value[rows] for name, value in chosen_steps.items() if name != "valid"}
    first, last = first_tick(run)[rows], last_tick(run)[rows]
    return closed_loop_scores.scores(steps, first, last, strict=strict)


def ending(run: Run, scene: int, rollout: int) -> Ending:
    """What ended one rollout: the first contact, road edge or departure from the recording."""
    begin, last = int(first_tick(run)[scene, rollout]), int(last_tick(run)[scene, rollout])
    found = Ending(last, "", "reached the end of the recording")
    for name, words in _EVENTS:
        happened = np.flatnonzero(run.steps[name][scene, rollout, begin : last + 1] > 0)
        if len(happened) and begin + happened[0] < found.tick + (found.event == ""):
            found = Ending(begin + int(happened[0]), name, words)
    away = run.steps["dist_to_gt_trajectory"][scene, rollout, begin : last + 1] >= DEVIATION
    if away.any() and begin + int(np.argmax(away)) < found.tick:
        words = f"was {DEVIATION:.0f} m from the recorded path, beyond which nothing counts"
        found = Ending(begin + int(np.argmax(away)), "dist_to_gt_trajectory", words)
    return found


def numbers(run: Run, *, strict: bool = False) -> dict[str, Any]:
    """Everything that `summary.json` says of a run.

    Every metric under AlpaSim's name is the mean over scenes, then over rollouts; NAME_std is the
    deviation (ddof 1) over rollouts of the means over scenes. The AlpaSim scores are kilometres per
    incident, infinite without any.
    """
    found = scores(run, strict=strict)
    out: dict[str, Any] = {
        "alpasim_score": found.alpasim_score,
        "alpasim_score_std": found.alpasim_score_std,
        "alpasim_score_at_fault": found.alpasim_score_at_fault,
        "alpasim_score_at_fault_std": found.alpasim_score_at_fault_std,
        "scene_score": found.scene_score,
        "incidents": _count(found, "offroad_or_collision"),
        "incidents_at_fault": _count(found, "offroad_or_collision_at_fault"),
    }
    for name in found.mean:
        out[name] = found.mean[name]
        out[f"{name}_std"] = found.std[name]
    planned = np.asarray(run.rollout.planned)
    out |= {
        "controller_failures": int((planned & ~np.asarray(run.rollout.solved)).sum()),
        "scenes": len(run.scenes),
        "rollouts": run.rollouts,
        "rollouts_kept": int(found.kept.sum()),
        "simulated_seconds": run.simulated_seconds,
        "seconds_simulating": run.seconds,
        "simulated_seconds_per_second": run.simulated_seconds / max(run.seconds, 1e-9),
    }
    return out


def _count(found: Scores, name: str) -> int:
    return int(np.nansum(found.rollouts[name]))


def class_rows(run: Run, *, strict: bool = False) -> list[dict[str, Any]]:
    """One table row per scenario class, then all; the columns of `SHOWN`, and km per incident."""
    groups: dict[str, list[int]] = {}
    for number, scene in enumerate(run.scenes):
        name = scene.family or "not known" if scene.scenario is None else str(scene.scenario)
        groups.setdefault(name, []).append(number)
    rows = [
        _row(name, scores(run, np.array(chosen), strict=strict), len(chosen))
        for name, chosen in sorted(groups.items())
    ]
    if len(rows) > 1:
        rows.append(_row("all", scores(run, strict=strict), len(run.scenes)))
    return rows


def all_row(run: Run, *, strict: bool = False) -> dict[str, Any]:
    """The row of all scenes of a run, without their class."""
    row = _row("all", scores(run, strict=strict), len(run.scenes))
    return {heading: value for heading, value in row.items() if heading != "scenario"}


def _row(name: str, found: Scores, count: int) -> dict[str, Any]:
    values = found.mean | {"scene_score": found.scene_score}
    row: dict[str, Any] = {"scenario": name, "scenes": count}
    # To the millimetre and the tenth of a percent: what is less is the controller's rounding.
    row |= {
        heading: round(float(values[metric]), 3)
        for heading, metric in SHOWN.items()
        if metric in values
    }
    return row | {"km per incident": found.alpasim_score}


def scene_rows(run: Run, *, strict: bool = False) -> list[dict[str, Any]]:
    """One row per scene and rollout: its score, how far it got and what ended it."""
    found = scores(run, strict=strict)
    return [
        {
            "scene": scene.name,
            "rollout": k,
            "scene score": float(found.scene_scores[s, k]),
            "progress": float(found.rollouts["progress"][s, k]),
            "driven, m": float(found.rollouts["dist_traveled_m"][s, k]),
            "ended": f"{ending(run, s, k).words} at {0.1 * ending(run, s, k).tick:.1f} s",
        }
        for s, scene in enumerate(run.scenes)
        for k in range(run.rollouts)
    ]


def worst(run: Run, count: int, *, strict: bool = False) -> list[int]:
    """Numbers of the scenes with the lowest mean score, at most `count`, the worst first."""
    mean = scores(run, strict=strict).scene_scores.mean(axis=1)
    return np.argsort(mean, kind="stable")[:count].tolist()
