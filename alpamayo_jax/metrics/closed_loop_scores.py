"""From steps to scores: which rows count, how they are summed up, AlpaSim's scores.

Steps are arrays [S, K, T]: scenes, rollouts, ticks of 0.1 s; NumPy on the host. Rows are kept in
AlpaSim's order: not those of the warm-up, not those of a rollout with a black image, none after the
first collision or off-road (its own row is kept), none after the first that is 4 m or more from the
recorded path (its own row is kept).
"""

import dataclasses
from typing import Mapping

import numpy as np

from alpamayo_jax.metrics.closed_loop import TIME_AGGREGATION

DEVIATION = 4.0  # metres from the recorded path at which a rollout no longer counts
_HORIZON = 20.0  # seconds of a whole rollout
_FULL_PROGRESS = 0.8
_SHORT = 5.0  # metres of recording below which progress is not asked for

DERIVED = {
    "collision_at_fault": "max",
    "offroad_or_collision": "max",
    "offroad_or_collision_at_fault": "max",
    "duration_frac_20s": "last",
}


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a run comes to.

    Attributes:
      rollouts: metric -> float64 [S, K]; NaN where a rollout has no row or no valid value of it.
      mean: metric -> mean over scenes, then over rollouts; NaN where nothing is known.
      std: metric -> standard deviation (ddof 1) over rollouts of the means over scenes; 0 of one.
      alpasim_score: kilometres driven per collision or off-road; inf without any.
      alpasim_score_std: over rollouts.
      alpasim_score_at_fault: kilometres per front or lateral collision or off-road.
      alpasim_score_at_fault_std: over rollouts.
      scene_score: mean of `scene_scores`.
      scene_scores: float64 [S, K], 0 to 1.
      kept: bool [S, K], rollouts with at least one row.
    """

    rollouts: dict[str, np.ndarray]
    mean: dict[str, float]
    std: dict[str, float]
    alpasim_score: float
    alpasim_score_std: float
    alpasim_score_at_fault: float
    alpasim_score_at_fault_std: float
    scene_score: float
    scene_scores: np.ndarray
    kept: np.ndarray


def rows_kept(
    steps: Mapping[str, np.ndarray], first: np.ndarray, last: np.ndarray
) -> np.ndarray:
    """Which rows count: bool [S, K, T].

    Args:
      steps: metrics of every step [S, K, T], with `add_derived`'s.
      first: int [S, K], the first tick after the warm-up.
      last: int [S, K], the last tick that was simulated.
    """
    event = steps["offroad_or_collision"] > 0
    ticks = np.arange(event.shape[-1])
    kept = (ticks >= first[..., None]) & (ticks <= last[..., None])
    if "img_is_black" in steps:
        kept &= ~((steps["img_is_black"] > 0) & kept).any(-1, keepdims=True)
    kept &= ~_earlier(event & kept)
    return kept & ~_earlier((steps["dist_to_gt_trajectory"] >= DEVIATION) & kept)


def _earlier(happens: np.ndarray) -> np.ndarray:
    """Whether it happened at an earlier tick."""
    seen = np.logical_or.accumulate(happens, axis=-1)
    return np.concatenate([np.zeros_like(seen[..., :1]), seen[..., :-1]], axis=-1)


def add_derived(steps: Mapping[str, np.ndarray], first: np.ndarray) -> dict[str, np.ndarray]:
    """`steps` and what is made of them: at-fault and combined events, share of 20 s."""
    at_fault = (steps["collision_front"] > 0) | (steps["collision_lateral"] > 0)
    offroad, touched = steps["offroad"] > 0, steps["collision_any"] > 0
    ticks = np.arange(offroad.shape[-1])
    combined = {
        "collision_at_fault": at_fault,
        "offroad_or_collision": touched | offroad,
        "offroad_or_collision_at_fault": at_fault | offroad,
        "duration_frac_20s": (ticks - first[..., None]) * 0.1 / _HORIZON,
    }
    return dict(steps) | {name: np.asarray(rows, np.float64) for name, rows in combined.items()}


def over_time(rows: np.ndarray, kept: np.ndarray, how: str, *, strict: bool) -> np.ndarray:
    """One number per rollout [S, K] of rows [S, K, T]; NaN where there is none.

    Args:
      rows: NaN or infinite where a value is not known.
      kept: which rows count.
      how: "max", "min", "mean" or "last".
      strict: an unknown value of a maximum counts as 0 and an infinite one counts (AlpaSim ignores
        its own validity flags); else both are left out.
    """
    if strict and how == "max":
        rows = np.where(np.isnan(rows), 0.0, rows)
    known = kept & ~np.isnan(rows) & (np.isfinite(rows) | strict)
    some = known.any(-1)
    if how in ("max", "min"):
        fill = -np.inf if how == "max" else np.inf
        found = getattr(np, how)(np.where(known, rows, fill), axis=-1)
    elif how == "mean":
        with np.errstate(invalid="ignore"):
            found = np.where(known, rows, 0.0).sum(-1) / np.maximum(known.sum(-1), 1)
    elif how == "last":
        at = rows.shape[-1] - 1 - np.argmax(known[..., ::-1], axis=-1)
        found = np.take_along_axis(rows, at[..., None], axis=-1)[..., 0]
    else:
        raise ValueError(f"unknown aggregation {how!r}")
    return np.where(some, found, np.nan)


def scene_scores(rollouts: Mapping[str, np.ndarray]) -> np.ndarray:
    """AlpaSim's score of each rollout [S, K]: 0 with an incident, else the share of the way."""
    bad = (rollouts["collision_at_fault"] > 0) | (rollouts["offroad"] > 0)
    way = np.minimum(np.clip(rollouts["progress"], 0.0, 1.0) / _FULL_PROGRESS, 1.0)
    way = np.where(rollouts["gt_dist_traveled_m"] < _SHORT, 1.0, way)
    return np.nan_to_num(np.where(bad, 0.0, way), nan=0.0)


def between_incidents(distance: np.ndarray, incident: np.ndarray) -> tuple[float, float]:
    """Kilometres per incident: mean and deviation (ddof 1) over rollouts of [S, K] arrays.

    A rollout without incident makes infinity, and so the mean, as in AlpaSim.
    """
    metres = np.nansum(distance, axis=0)
    count = np.nansum(incident, axis=0)
    each = np.where(count > 0, metres / np.maximum(count, 1) / 1000.0, np.inf)
    return float(each.mean()), _deviation(each)


def _deviation(values: np.ndarray) -> float:
    if len(values) < 2 or not np.isfinite(values).all():
        return 0.0 if len(values) < 2 else float("nan")
    return float(values.std(ddof=1))


def scores(
    steps: Mapping[str, np.ndarray],
    first: np.ndarray,
    last: np.ndarray,
    *,
    strict: bool = False,
) -> Scores:
    """Sums up a run.

    Args:
      steps: metric -> [S, K, T], those of `metrics.closed_loop.TIME_AGGREGATION` that there are.
      first: int [S, K], first tick after the warm-up.
      last: int [S, K], last tick that was simulated.
      strict: as AlpaSim with its quirks: unknown values count (see `over_time`), and the metres of
        the warm-up count as driven.

    Raises:
      ValueError: a metric that all need is missing: names it.
    """
    for name in ("collision_front", "collision_lateral", "collision_any", "offroad", "progress",
                 "dist_to_gt_trajectory", "dist_traveled_m", "gt_dist_traveled_m"):  # fmt: skip
        if name not in steps:
            raise ValueError(f"no metric {name!r} among {', '.join(sorted(steps))}")
    steps = add_derived(steps, first)
    kept = rows_kept(steps, first, last)
    if not strict:
        driven = np.asarray(steps["dist_traveled_m"], np.float64)
        before = np.take_along_axis(driven, first[..., None], axis=-1)
        steps["dist_traveled_m"] = driven - before
    rollouts = {
        name: over_time(np.asarray(steps[name], np.float64), kept, how, strict=strict)
        for name, how in (TIME_AGGREGATION | DERIVED).items()
        if name in steps
    }
    mean, std = {}, {}
    for name, values in rollouts.items():
        known = ~np.isnan(values)
        total, count = np.where(known, values, 0.0).sum(0), known.sum(0)
        scenes = (total / np.maximum(count, 1))[count > 0]
        mean[name] = float(scenes.mean()) if len(scenes) else float("nan")
        std[name] = _deviation(scenes) if len(scenes) else float("nan")
    own = scene_scores(rollouts)
    distance = rollouts["dist_traveled_m"]
    score = between_incidents(distance, rollouts["offroad_or_collision"])
    fault = between_incidents(distance, rollouts["offroad_or_collision_at_fault"])
    return Scores(
        rollouts=rollouts,
        mean=mean,
        std=std,
        alpasim_score=score[0],
        alpasim_score_std=score[1],
        alpasim_score_at_fault=fault[0],
        alpasim_score_at_fault_std=fault[1],
        scene_score=float(own.mean()),
        scene_scores=own,
        kept=kept.any(-1),
    )
