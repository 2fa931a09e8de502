"""Plots of training and evaluation: curves over steps, errors over the horizon, histograms.

Every function returns the PNG as bytes, for a report, and writes it where `path` is given.
"""

import os
from typing import Any, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from alpamayo_jax.types import InputError
from alpamayo_jax.viz import style, text

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _FOOT = 92, 28, 62, 66
# Blue first, neighbours far apart: a plot of one curve should not look like a warning.
_ORDER = (1, 0, 4, 5, 2, 7, 3, 6)


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str = "",
    xlabel: str = "step",
    ylabel: str = "loss",
    log: bool = False,
    smooth: int = 1,
    path: str | os.PathLike | None = None,
) -> bytes:
    """Curves over training steps.

    Args:
      series: name -> (x [N], y [N]). Values that are not finite leave a gap and a red mark on the
        lower edge, because a loss that diverged must be seen.
      title, xlabel, ylabel: texts.
      log: logarithmic y; values of 0 or below count as not drawable.
      smooth: window of a running mean drawn over the faint raw curve; 1 draws the raw curve.
      path: where to write the PNG, or None.

    Raises:
      InputError: no series, an x that is not finite, or lengths that differ.
    """
    page, axes, colors = _plot(series, title, xlabel, ylabel)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        axes.yaxis.set_minor_formatter("{x:g}")
    for name, color in zip(series, colors):
        x = style.checked(f"curve {name!r} x", series[name][0], (None,))
        y = np.asarray(series[name][1], np.float64)
        if x.shape != y.shape or not len(x):
            raise InputError(f"picture: curve {name!r} has {len(x)} x and {y.size} y values")
        drawable = np.isfinite(y) & ((y > 0) | (not log))
        _mark_gaps(axes, x[~drawable])
        y = np.where(drawable, y, np.nan)
        faint = smooth > 1 and drawable.sum() > smooth
        marker = "o" if len(x) <= 12 else None
        axes.plot(
            x, y, color=color, linewidth=1.0 if faint else 1.8, alpha=0.3 if faint else 1.0,
            marker=marker, markersize=4, label=None if faint else text.printable(name),
        )  # fmt: skip
        if faint:
            mean = _running_mean(y, smooth)
            axes.plot(x, mean, color=color, linewidth=2.0, label=text.printable(name))
    return _finish(page, axes, path)


def error_over_horizon(
    errors: Mapping[str, np.ndarray],
    dt: float = 0.1,
    title: str = "",
    ylabel: str = "mean displacement error, m",
    path: str | os.PathLike | None = None,
) -> bytes:
    """How errors grow with the time ahead.

    Args:
      errors: name -> [W] of mean errors, or [N, W] of one row per window: the mean is drawn, with a
        band from the 25th to the 75th percentile. The first entry is at `dt` seconds.
      dt: seconds between entries.
      title, ylabel: texts.
      path: where to write the PNG, or None.

    Raises:
      InputError: nothing to draw, or values that are not finite.
    """
    page, axes, colors = _plot(errors, title, "seconds ahead", ylabel)
    for (name, values), color in zip(errors.items(), colors):
        shape = (None,) if np.ndim(values) == 1 else (None, None)
        values = style.checked(f"errors of {name!r}", values, shape)
        if not values.size:
            raise InputError(f"picture: errors of {name!r} are empty, {list(values.shape)}")
        seconds = dt * np.arange(1, values.shape[-1] + 1)
        mean = values
        if values.ndim == 2:
            low, high = np.percentile(values, (25, 75), axis=0)
            axes.fill_between(seconds, low, high, color=color, alpha=0.15, linewidth=0)
            mean = values.mean(0)
        axes.plot(seconds, mean, color=color, linewidth=2.0, label=text.printable(name))
    axes.set_xlim(left=0.0)
    axes.set_ylim(bottom=0.0)
    return _finish(page, axes, path)


def histogram(
    values: Mapping[str, Sequence[float]],
    title: str = "",
    xlabel: str = "",
    ylabel: str = "count",
    bins: int = 30,
    path: str | os.PathLike | None = None,
) -> bytes:
    """Histograms of one or more sets of numbers on common bins, with a line at each mean.

    Args:
      values: name -> [N].
      title, xlabel, ylabel: texts.
      bins: number of bins over the range of all values.
      path: where to write the PNG, or None.

    Raises:
      InputError: nothing to draw, or values that are not finite.
    """
    sets = {name: style.checked(f"values of {name!r}", v, (None,)) for name, v in values.items()}
    for name, numbers in sets.items():
        if not numbers.size:
            raise InputError(f"picture: values of {name!r} are empty")
    sets = {f"{name} (mean {numbers.mean():.3g})": numbers for name, numbers in sets.items()}
    page, axes, colors = _plot(sets, title, xlabel, ylabel)
    edges = np.histogram_bin_edges(np.concatenate(list(sets.values())), bins)
    for (name, numbers), color in zip(sets.items(), colors):
        counts = np.histogram(numbers, edges)[0]
        axes.stairs(counts, edges, color=color, fill=True, alpha=0.3)
        axes.stairs(counts, edges, color=color, linewidth=1.8, label=text.printable(name))
        axes.axvline(numbers.mean(), color=color, linestyle="--", linewidth=1.4)
    return _finish(page, axes, path)


def _plot(
    series: Mapping[str, Any], title: str, xlabel: str, ylabel: str
) -> tuple[style.Page, Axes, list[style.Color]]:
    if not series:
        raise InputError(f"picture {title!r}: there is nothing to draw")
    legend = style.LEGEND_ROW * -(-len(series) // _per_row(list(series)))
    page = style.Page(_WIDTH, _HEIGHT + legend)
    axes = page.axes(_LEFT, _TOP, _WIDTH - _LEFT - _RIGHT, page.height - _TOP - _FOOT - legend)
    page.heading(_RIGHT, title, 16.0)
    style.style_axes(axes, xlabel, ylabel)
    axes.margins(x=0.02, y=0.08)
    if len(series) > style.MOST_NAMED:
        return page, axes, style.sample_colors(len(series))
    colors = style.sample_colors(style.MOST_NAMED)
    return page, axes, [colors[i] for i in _ORDER]


def _finish(page: style.Page, axes: Axes, path: str | os.PathLike | None) -> bytes:
    handles, labels = axes.get_legend_handles_labels()
    per_row = _per_row(labels)
    rows = -(-len(handles) // per_row)
    page.legend(_RIGHT, page.height - style.LEGEND_ROW * rows, handles, per_row)
    return page.png(path)


def _per_row(labels: Sequence[str]) -> int:
    return style.legend_columns([text.printable(label) for label in labels], _WIDTH - 2 * _RIGHT)


def _running_mean(y: np.ndarray, window: int) -> np.ndarray:
    """Mean over `window` values around each one, fewer at the ends; gaps do not count."""
    finite = np.isfinite(y)
    total = np.concatenate([[0.0], np.cumsum(np.where(finite, y, 0.0))])
    count = np.concatenate([[0], np.cumsum(finite)])
    begin = np.maximum(np.arange(len(y)) - window // 2, 0)
    end = np.minimum(np.arange(len(y)) + (window + 1) // 2, len(y))
    inside = count[end] - count[begin]
    return np.where(inside > 0, (total[end] - total[begin]) / np.maximum(inside, 1), np.nan)


def _mark_gaps(axes: Axes, x: np.ndarray) -> None:
    if len(x):
        low, y = axes.get_xaxis_transform(), np.full(len(x), 0.012)
        axes.plot(x, y, "x", color=(0.8, 0.1, 0.1), transform=low, clip_on=False)
