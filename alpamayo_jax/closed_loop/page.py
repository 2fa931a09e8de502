"""The page of a closed-loop run, and the files of the rollouts that are shown on it."""

import io
import pathlib
import re
from typing import Any, Mapping, Sequence

import numpy as np
from PIL import Image

from alpamayo_jax.closed_loop import pictures, summary
from alpamayo_jax.closed_loop.cameras import SceneCameras
from alpamayo_jax.closed_loop.rerun_file import write_rerun
from alpamayo_jax.closed_loop.runner import Run
from alpamayo_jax.metrics.tables import format_value
from alpamayo_jax.viz.movie import write_mp4
from alpamayo_jax.viz.report import Report

_STEP_METRICS = (
    "min_distance_to_obstacle_m",
    "dist_to_gt_trajectory",
    "progress",
    "dist_traveled_m",
    "min_ade",
    "plan_deviation",
)
_JPEG = 85
_COLOURS = (
    "From above: the path driven so far in dark grey, the recorded one in green, the plan in "
    "orange; the ego turns red where it ended."
)


def write_page(
    path: pathlib.Path,
    run: Run,
    policy: str,
    chosen: Sequence[int],
    cameras: SceneCameras | None,
    *,
    strict: bool = False,
    links: Mapping[int, Sequence[str]] | None = None,
) -> pathlib.Path:
    """The report: figures, a table per scenario class, every rollout, and the chosen scenes.

    Args:
      path: where to.
      run: what happened.
      policy: its name.
      chosen: numbers of the scenes that are shown, first rollout.
      cameras: to draw what was seen in scenes that can be drawn, or None.
      strict: scores as AlpaSim, quirks included.
      links: for a scene, names of files beside the page that show more of it.
    """
    report = Report("Closed loop", f"policy {policy}")
    add_run(report, run, strict=strict)
    report.section("Rollouts").table(summary.scene_rows(run, strict=strict))
    for number in chosen:
        add_scene(report, run, number, 0, cameras, (links or {}).get(number, ()))
    return report.write(path)


def add_run(report: Report, run: Run, *, strict: bool = False) -> None:
    """Key figures and the table per scenario class."""
    values = summary.numbers(run, strict=strict)
    report.figures({
        "AlpaSim score, km": _kilometres(values["alpasim_score"]),
        "AlpaSim score at fault, km": _kilometres(values["alpasim_score_at_fault"]),
        "scene score": values["scene_score"],
        "collisions, share of rollouts": values["collision_any"],
        "off-road, share of rollouts": values["offroad"],
        "simulated seconds per second": values["simulated_seconds_per_second"],
    })
    report.section(
        "Scenarios",
        f"{values['scenes']} scenes, {values['rollouts']} rollouts each. A rollout counts until it "
        "collides, leaves the road or is 4 m from the recorded path. Scene score: 0 after a "
        "collision at fault or off-road, else the progress over 0.8 and at most 1. Kilometres per "
        "incident are infinite where there is none.",
    )
    report.table(summary.class_rows(run, strict=strict))


def add_scene(
    report: Report,
    run: Run,
    scene: int,
    rollout: int,
    cameras: SceneCameras | None,
    links: Sequence[str] = (),
) -> None:
    """A section about one rollout: what ended it, pictures, what was said, its numbers."""
    one, end = run.scenes[scene], summary.ending(run, scene, rollout)
    about = f"It {end.words} at {0.1 * end.tick:.1f} s."
    if one.cause:
        about += f" What this scene is about: {one.cause}."
    about += f"\n\n{_COLOURS}"
    if links:
        about += f"\n\nBeside this page: {', '.join(links)}"
    report.section(one.name, about)
    for tick in pictures.strip_ticks(run, scene, rollout):
        image = pictures.frame(run, scene, rollout, tick, cameras)
        report.picture(_png(image), f"{one.name} at {0.1 * tick:.1f} s", jpeg_quality=_JPEG)
    said = run.reasoning[scene][rollout]
    if said:
        report.table([{"s": 0.1 * tick, "reasoning": text} for tick, text in said], digits=1)
    report.table([{name: _last(run, scene, rollout, end.tick, name) for name in _STEP_METRICS}],
                 caption="When it ended.")  # fmt: skip


def write_files(
    folder: pathlib.Path,
    run: Run,
    scene: int,
    rollout: int,
    cameras: SceneCameras | None,
    *,
    video: bool,
    rerun: bool,
) -> list[str]:
    """The video and the Rerun recording of one rollout; returns the names of the files."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{run.scenes[scene].name}-{rollout}")
    names = []
    if video:
        frames = pictures.frames(run, scene, rollout, cameras)
        names.append(write_mp4(folder / f"{stem}.mp4", frames).name)
    if rerun:
        names.append(write_rerun(folder / f"{stem}.rrd", run, scene, rollout, cameras).name)
    return names


def _last(run: Run, scene: int, rollout: int, tick: int, name: str) -> Any:
    """The newest known value of a metric at a tick."""
    values = run.steps[name][scene, rollout, : tick + 1]
    known = np.flatnonzero(np.isfinite(values))
    return float(values[known[-1]]) if len(known) else None


def _kilometres(value: float) -> str:
    return format_value(value, 3) if np.isfinite(value) else "no incident"


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
