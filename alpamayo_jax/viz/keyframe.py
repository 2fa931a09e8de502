"""One keyframe of a drive: what was known then, from above, with the things that matter marked."""

import dataclasses
import os
from typing import Any, Sequence

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from alpamayo_jax.viz import birdseye, style, text
from alpamayo_jax.viz.scene import Scene

MARK: style.Color = (0.85, 0.10, 0.10)
_WIDTH, _HEIGHT = 1100, 700
_MARGIN, _TOP, _PLOT = 24, 60, 380  # pixels; the plot of speed is this wide
_PLOT_HEIGHT = 220
_FONT, _LINE, _BOLD = 13.0, 25, 0.85  # bold letters are wider than those that lines are cut by
_TICKS = (62, 56)
_AHEAD = 30.0  # metres shown ahead at least


@dataclasses.dataclass(frozen=True)
class Mark:
    """Something to look at: x, y metres in the ego frame at the keyframe, radius, and its name."""

    x: float
    y: float
    radius: float
    name: str


def keyframe_picture(
    path: str | os.PathLike | None,
    scene: Scene,
    history_xyz: np.ndarray,
    future_xyz: np.ndarray,
    marks: Sequence[Mark],
    speed: tuple[np.ndarray, np.ndarray],
    title: str = "",
    words: Sequence[str] = (),
) -> bytes:
    """The view from above at the keyframe, and beside it the ego's speed before and after.

    Args:
      path: where to write the PNG, or None.
      scene: road users and map as known at the keyframe.
      history_xyz: [H, 3] metres, ending at the keyframe.
      future_xyz: [W, 3] as recorded after it; W may be 0.
      marks: what a label rests on.
      speed: (seconds from the keyframe [N], m/s [N]).
      title: one line.
      words: paragraphs beside the view; the first is bold.

    Returns:
      The PNG, 1100 pixels wide.

    Raises:
      InputError: a trajectory has another shape or values that are not finite.
    """
    page = style.Page(_WIDTH, _HEIGHT)
    page.heading(_MARGIN, title, 16.0)
    wide = _WIDTH - _PLOT - 3 * _MARGIN - 2 * _TICKS[0]
    foot = style.LEGEND_ROW * 2
    axes = page.axes(
        _MARGIN + _TICKS[0], _TOP, wide, _HEIGHT - _TOP - _TICKS[1] - foot - _MARGIN
    )
    # The axes are about as wide as they are high, so what is far to a side needs as much ahead.
    reach = [max(mark.x, 2.0 * abs(mark.y)) + mark.radius + 5.0 for mark in marks]
    handles = birdseye.draw_birdseye(
        axes, np.zeros((0, 1, 3)), history_xyz, future_xyz if len(future_xyz) else None, scene,
        ahead=max([_AHEAD, *reach]),
    )  # fmt: skip
    for mark in marks:
        draw_mark(axes, mark)
    if marks:
        handles.append(
            Line2D([], [], color=MARK, marker="o", markersize=9, fillstyle="none",
                   linestyle="none", label="cited"),
        )  # fmt: skip
    page.legend(_MARGIN, _HEIGHT - foot - _MARGIN // 2, handles, per_row=5)
    _draw_speed(page, speed)
    top = _TOP + _PLOT_HEIGHT + _TICKS[1] + 2 * _MARGIN
    for i, paragraph in enumerate(words):
        limit = _PLOT * (_BOLD if i == 0 else 1.0)
        for line in text.wrap(text.printable(paragraph), limit, _FONT, style.DPI):
            page.text(_WIDTH - _PLOT - _MARGIN, top, line, _FONT, bold=i == 0)
            top += _LINE
        top += _LINE // 2
    return page.png(path)


def draw_mark(axes: Any, mark: Mark) -> None:
    """Circles and names something in axes that `birdseye.draw_birdseye` drew into."""
    axes.add_patch(
        Circle((mark.y, mark.x), mark.radius, fill=False, edgecolor=MARK, linewidth=2.0, zorder=10)
    )
    axes.annotate(
        text.printable(mark.name), (mark.y, mark.x + mark.radius), textcoords="offset points",
        xytext=(0, 4), ha="center", fontsize=11, color=MARK, fontweight="bold", zorder=11,
        parse_math=False,
    )  # fmt: skip


def _draw_speed(page: style.Page, speed: tuple[np.ndarray, np.ndarray]) -> None:
    seconds = style.checked("speed seconds", speed[0], (None,))
    values = style.checked("speed", speed[1], (None,))
    axes = page.axes(_WIDTH - _PLOT - _MARGIN, _TOP, _PLOT, _PLOT_HEIGHT)
    before = seconds <= 1e-6
    axes.plot(seconds[before], values[before], color=style.HISTORY, linewidth=2.5)
    after = seconds >= -1e-6
    axes.plot(seconds[after], values[after], "--", color=style.RECORDED, linewidth=2.0)
    axes.axvline(0.0, color=MARK, linewidth=1.2)
    axes.set_ylim(min(-0.2, values.min() - 0.3), max(values.max() * 1.15, 2.0))
    style.style_axes(axes, "seconds from the keyframe", "speed of the ego, m/s")
