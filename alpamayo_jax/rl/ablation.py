"""Which reward does what: one supervised policy, trained again with some of the rewards, compared.

The four rows of the paper's table 9: the supervised policy, then reinforcement learning that pays
for reasoning alone, for reasoning and consistency, and for the trajectory besides.
"""

import dataclasses
import json
import os
import pathlib
from typing import Any, Mapping, Sequence

import numpy as np

from alpamayo_jax.config import ConfigError
from alpamayo_jax.metrics.tables import markdown_table, write_summary
from alpamayo_jax.types import InputError
from alpamayo_jax.viz import style, text

SFT = "sft"
ROWS: dict[str, tuple[str, ...]] = {
    "reasoning": ("reasoning",),
    "reasoning_consistency": ("reasoning", "consistency"),
    "all": ("reasoning", "consistency", "imitation", "collision", "jerk", "comfort"),
}
TITLES = {
    SFT: "SFT",
    "reasoning": "+ reasoning",
    "reasoning_consistency": "+ reasoning + consistency",
    "all": "+ all three",
}
_FORMAT = "format"  # every row pays for whole answers: what is not whole cannot be scored


@dataclasses.dataclass(frozen=True)
class Column:
    """A number of the table.

    Attributes:
      metric: of `evaluate_rewards`.
      title: with its unit.
      scale: what the metric is multiplied by.
    """

    metric: str
    title: str
    scale: float = 1.0


COLUMNS = (
    Column("ade_most_likely", "ADE of the most likely (m)"),
    Column("ade", "ADE, mean (m)"),
    Column("reasoning", "Reasoning (0 to 5)"),
    Column("consistency", "Consistency (0 to 1)"),
    Column("collision", "Collisions (%)", 100.0),
)
_SHOWN = ("ade_most_likely", "reasoning", "consistency", "collision")


def row_weights(weights: Mapping[str, float], row: str) -> dict[str, float]:
    """The weights of the rewards with those at 0 that a row does not pay for.

    Args:
      weights: of `RewardSettings`, by name.
      row: key of `ROWS`.

    Raises:
      ConfigError: an unknown row.
    """
    if row not in ROWS:
        raise ConfigError(f"row {row!r} is unknown; known: {', '.join(ROWS)}")
    kept = (*ROWS[row], _FORMAT)
    return {name: weight if name in kept else 0.0 for name, weight in weights.items()}


def result_path(workdir: str | os.PathLike, seed: int, row: str) -> pathlib.Path:
    """Where the measurement of a row of a seed is kept."""
    return pathlib.Path(workdir) / f"seed_{seed}" / f"{row}.json"


def write_result(path: pathlib.Path, measured: Mapping[str, float], seconds: float) -> None:
    """Keeps a measurement, and the seconds that its training took."""
    write_summary(path, {"measured": dict(measured), "seconds": seconds})


def read_result(path: pathlib.Path) -> dict[str, Any] | None:
    """What `write_result` wrote, or None where there is nothing.

    Raises:
      InputError: the file is damaged.
    """
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        advice = "delete it to measure anew"
        raise InputError(f"{path}: is not valid JSON: {error}; {advice}") from error
    if not isinstance(found, dict) or not isinstance(found.get("measured"), dict):
        raise InputError(f"{path}: has no measurement; delete it to measure anew")
    return found


def table(results: Mapping[str, Sequence[Mapping[str, float]]]) -> list[dict[str, Any]]:
    """The rows with means, standard deviations and changes.

    Args:
      results: row -> what was measured with each seed, in the same order of seeds in all rows.

    Returns:
      Per row: "row", "seeds", and per metric of `COLUMNS` its "mean", its "std" over the seeds (of
      a sample: over n - 1; 0 of one seed), "values", and "change", relative to the mean of `SFT`.
      A metric that could not be measured with one of the seeds is NaN: a mean over the others would
      not be comparable.

    Raises:
      InputError: `SFT` is missing, or rows have other numbers of seeds than it.
    """
    if SFT not in results or not results[SFT]:
        raise InputError("ablation: the row of the supervised policy is missing")
    seeds, rows = len(results[SFT]), []
    for row, measured in results.items():
        if len(measured) != seeds:
            raise InputError(f"ablation: row {row!r} has {len(measured)} seeds, not {seeds}")
        entry: dict[str, Any] = {"row": row, "seeds": seeds}
        for column in COLUMNS:
            values = _values(measured, column)
            base, mean = np.mean(_values(results[SFT], column)), float(np.mean(values))
            entry[column.metric] = {
                "mean": mean,
                "std": float(np.std(values, ddof=1)) if seeds > 1 else 0.0,
                "values": values,
                "change": float(mean / base - 1) if base else None,
            }
        rows.append(entry)
    return rows


def _values(measured: Sequence[Mapping[str, float | None]], column: Column) -> list[float]:
    """A metric with each seed; NaN where a file says null, which is how JSON keeps a NaN."""
    found = [one[column.metric] for one in measured]
    return [float("nan") if value is None else column.scale * value for value in found]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown: mean, deviation and the change relative to the supervised policy."""

    def cell(entry: Mapping[str, float], first: bool) -> str:
        said = f"{entry['mean']:.2f} ± {entry['std']:.2f}"
        return said if first or entry["change"] is None else f"{said} ({entry['change']:+.0%})"

    return markdown_table([
        {"": TITLES.get(row["row"], row["row"])}
        | {c.title: cell(row[c.metric], row["row"] == SFT) for c in COLUMNS}
        for row in rows
    ])


_WIDTH, _HEIGHT, _MARGIN = 1240, 430, 28
_PLOT, _GAP, _TOP = 240, 58, 92


def picture(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike | None = None) -> bytes:
    """Bars of the rows, one plot per metric, with deviations over the seeds as whiskers.

    Args:
      rows: from `table`.
      path: where to write the PNG, or None.
    """
    page = style.Page(_WIDTH, _HEIGHT)
    count = rows[0]["seeds"]
    seeds = "1 seed" if count == 1 else f"{count} seeds"
    page.heading(_MARGIN, f"What each reward does, {seeds}", 16.0)
    colors = style.sample_colors(style.MOST_NAMED)
    colors = [style.MUTED, colors[1], colors[0], style.RECORDED]
    places, bars = np.arange(len(rows)), None
    for i, metric in enumerate(_SHOWN):
        column = next(c for c in COLUMNS if c.metric == metric)
        left = _MARGIN + 30 + i * (_PLOT + _GAP)
        page.text(left, 58, column.title, 12.0)
        axes = page.axes(left, _TOP, _PLOT, _HEIGHT - _TOP - 76)
        style.style_axes(axes)
        mean = [row[metric]["mean"] for row in rows]
        std = [row[metric]["std"] for row in rows]
        bars = axes.bar(places, mean, yerr=std, color=colors[: len(rows)], capsize=4)
        axes.set_xticks([])
        axes.grid(False, axis="x")
        for place, value, deviation in zip(places, mean, std):
            axes.annotate(
                f"{value:.2f}", (place, value + deviation), ha="center", va="bottom",
                xytext=(0, 3), textcoords="offset points", fontsize=11, color=style.INK,
            )  # fmt: skip
        axes.margins(y=0.14)
    for bar, row in zip(bars, rows):
        bar.set_label(text.printable(TITLES.get(row["row"], row["row"])))
    page.legend(_MARGIN, _HEIGHT - style.LEGEND_ROW - 12, list(bars), len(rows))
    return page.png(path)
