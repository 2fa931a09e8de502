"""The drive from above: ego, history, samples, recorded future, road users and map.

Metres in the ego frame at t0, the same scale both ways, forward up and left to the left.
"""

import os
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon

from alpamayo_jax.types import InputError
from alpamayo_jax.viz import style
from alpamayo_jax.viz.scene import MapLine, Scene

# Length, width, and how far the centre is ahead of the ego origin: a car's rear axle.
EGO_BOX = (4.8, 1.9, 1.4)
_STEPS_PER_SECOND = 10
MOST_HANDLES = 7  # of the legend without samples: ego, history, future, map, three kinds of agents
# Ahead, behind, and to a side: no sample, however wild, pushes the rest out of sight.
_AHEAD, _BEHIND, _SIDE = 300.0, 80.0, 100.0

_VEHICLE, _PERSON, _OBJECT = (0.45, 0.55, 0.68), (0.86, 0.45, 0.55), (0.70, 0.70, 0.70)
_LINE, _EDGE, _YELLOW = (0.72, 0.74, 0.77), (0.48, 0.50, 0.54), (0.86, 0.70, 0.25)


def draw_birdseye(
    axes: Any,
    samples_xyz: np.ndarray,
    history_xyz: np.ndarray,
    future_xyz: np.ndarray | None = None,
    scene: Scene | None = None,
    ahead: float = 24.0,
) -> list[Any]:
    """Draws into matplotlib axes, whose box on the page decides the limits.

    Args:
      axes: empty axes of a figure.
      samples_xyz: [K, W, 3] metres at 10 Hz from t0 + 0.1 s, ego frame at t0; K may be 0.
      history_xyz: [H, 3], ending at t0.
      future_xyz: [W, 3] recorded, or None.
      scene: other road users and map lines, or None.
      ahead: metres ahead of the ego that are shown at least.

    Returns:
      Legend handles, with labels.

    Raises:
      InputError: a trajectory has another shape or values that are not finite.
    """
    samples = style.checked("samples_xyz", samples_xyz, (None, None, 3))
    history = style.checked("history_xyz", history_xyz, (None, 3))
    future = None if future_xyz is None else style.checked("future_xyz", future_xyz, (None, 3))
    scene = Scene() if scene is None else scene
    _set_limits(axes, [history, *samples] + ([] if future is None else [future]), ahead)
    around = _draw_agents(axes, scene) + _draw_map(axes, scene.lines)
    _draw_box(axes, (EGO_BOX[2], 0.0, 0.0, *EGO_BOX[:2]), style.EGO, zorder=6)
    axes.plot(history[:, 1], history[:, 0], ".-", color=style.HISTORY, linewidth=2.5, zorder=5)
    handles = [Line2D([], [], color=style.HISTORY, linewidth=2.5, marker=".", label="history")]
    if future is not None:
        handles += _draw_recorded(axes, _from_origin(future))
    handles += _draw_samples(axes, samples)
    handles += [Patch(facecolor=style.EGO, label="ego at t0"), *around]
    side, ahead = "metres to the left (+) and right (−)", "metres ahead (one dot per second)"
    style.style_axes(axes, side, ahead)
    return handles


def birdseye_picture(
    path: str | os.PathLike | None,
    samples_xyz: np.ndarray,
    history_xyz: np.ndarray,
    future_xyz: np.ndarray | None = None,
    scene: Scene | None = None,
    title: str = "",
    width: int = 900,
    height: int = 900,
) -> bytes:
    """`draw_birdseye` as a picture of its own: the PNG, also written where `path` is given."""
    per_row = max(1, (width - 48) // 190)
    page = style.Page(width, height)
    count = min(len(np.asarray(samples_xyz)), style.MOST_NAMED)
    rows = -(-(MOST_HANDLES + count) // per_row)
    foot = 64 + style.LEGEND_ROW * rows
    axes = page.axes(86, 60, width - 110, height - 60 - foot)
    handles = draw_birdseye(axes, samples_xyz, history_xyz, future_xyz, scene)
    page.heading(24, title, 16.0)
    page.legend(24, height - style.LEGEND_ROW * rows, handles, per_row)
    return page.png(path)


def _from_origin(xyz: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((1, 3)), xyz])


def _draw_recorded(axes: Any, line: np.ndarray) -> list[Any]:
    color = style.RECORDED
    axes.plot(line[:, 1], line[:, 0], color=color, linewidth=7, alpha=0.35, zorder=4)
    axes.plot(line[:, 1], line[:, 0], "--", color=color, linewidth=1.6, zorder=9)
    return [Line2D([], [], color=color, linewidth=4, linestyle="--", label="recorded future")]


def _draw_samples(axes: Any, samples: np.ndarray) -> list[Any]:
    colors = style.sample_colors(len(samples))
    many = len(samples) > style.MOST_NAMED
    for xyz, color in zip(samples, colors):
        line = _from_origin(xyz)
        alpha = 0.55 if many else 0.9
        axes.plot(line[:, 1], line[:, 0], color=color, linewidth=1.8, alpha=alpha, zorder=7)
        seconds = xyz[_STEPS_PER_SECOND - 1 :: _STEPS_PER_SECOND]
        axes.plot(seconds[:, 1], seconds[:, 0], ".", color=color, markersize=6, zorder=8)
        axes.plot(*xyz[-1:, 1::-1].T, "o", color=color, markersize=6, zorder=8)
    names, shown = [f"sample {k + 1}" for k in range(len(samples))], colors
    if many:
        names, shown = [f"{len(samples)} samples"], [colors[len(colors) // 2]]
    return [
        Line2D([], [], color=color, linewidth=2.5, marker="o", markersize=5, label=name)
        for name, color in zip(names, shown)
    ]


def _draw_box(axes: Any, box: Any, color: style.Color, zorder: int) -> None:
    x, y, yaw, length, width = box
    corners = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * [length / 2, width / 2]
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    corners = corners @ turn + [x, y]
    nose = np.array([[0.15, 0.0], [0.5, 0.0]]) * length @ turn + [x, y]
    axes.add_patch(
        Polygon(
            corners[:, ::-1], facecolor=(*color, 0.75), edgecolor=color, zorder=zorder
        )
    )
    axes.plot(nose[:, 1], nose[:, 0], color="white", linewidth=1.2, zorder=zorder)


def _draw_agents(axes: Any, scene: Scene) -> list[Any]:
    boxes = style.checked("scene.boxes", scene.boxes, (None, 5))
    if len(boxes) != len(scene.categories):
        raise InputError(f"picture: {len(boxes)} boxes, but {len(scene.categories)} categories")
    limits = np.sort([axes.get_ylim(), axes.get_xlim()], axis=-1)
    reach = np.hypot(boxes[:, 3], boxes[:, 4])[:, None] / 2
    # The rest would be in the legend without being in the picture.
    in_sight = (boxes[:, :2] + reach > limits[:, 0]) & (boxes[:, :2] - reach < limits[:, 1])
    used = {}
    for i in np.flatnonzero(in_sight.all(-1)):
        box, category = boxes[i], scene.categories[i]
        name, color = _agent_style(category)
        used[name] = color
        _draw_box(axes, box, color, zorder=3)
        if max(box[3:]) < 2.0:  # people and cones would be specks
            axes.plot(box[1], box[0], "o", color=color, markersize=4, zorder=3)
    return [Patch(facecolor=used[name], label=name) for name in sorted(used)]


def _agent_style(category: str) -> tuple[str, style.Color]:
    words = category.upper()
    if any(w in words for w in ("PEDESTRIAN", "PERSON", "CYCL", "STROLLER", "WHEEL", "RIDER")):
        return "people, two-wheelers", _PERSON
    if any(w in words for w in ("VEHICLE", "TRUCK", "BUS", "CAR", "TRAILER", "TRAM")):
        return "vehicles", _VEHICLE
    return "objects", _OBJECT


def _draw_map(axes: Any, lines: tuple[MapLine, ...]) -> list[Any]:
    for i, line in enumerate(lines):
        xy = style.checked(f"scene.lines[{i}]", line.xy, (None, 2))
        kind = line.kind.upper()
        if "DRIVABLE" in kind or "POLYGON" in kind:
            axes.add_patch(Polygon(xy[:, ::-1], facecolor=(0.93, 0.94, 0.95), zorder=0.5))
        elif "NONE" not in kind:  # a boundary that is not painted
            axes.plot(xy[:, 1], xy[:, 0], zorder=1, **_line_style(kind))
    return [Line2D([], [], color=_EDGE, linewidth=1.4, label="map")] if lines else []


def _line_style(kind: str) -> dict[str, Any]:
    dashed = "--" if "DASHED" in kind or "BROKEN" in kind else "-"
    if "STOP" in kind:
        return dict(color=(0.80, 0.25, 0.25), linewidth=2.2)
    if "CENTRE" in kind or "CENTER" in kind or kind.startswith("LANE_SURFACE"):
        return dict(color=_LINE, linewidth=0.8, linestyle=":")
    if "CROSSING" in kind:
        return dict(color=_LINE, linewidth=1.6, linestyle="--")
    if "EDGE" in kind or "BOUNDARY" in kind:
        return dict(color=_EDGE, linewidth=1.6)
    return dict(color=_YELLOW if "YELLOW" in kind else _LINE, linewidth=1.3, linestyle=dashed)


def _set_limits(axes: Any, lines: list[np.ndarray], least_ahead: float) -> None:
    """Limits that hold the lines with a margin and have the shape of the axes' box."""
    points = np.concatenate([line[:, :2] for line in lines])
    low = np.maximum(np.minimum(points.min(0) - 4.0, [-6.0, -8.0]), [-_BEHIND, -_SIDE])
    high = np.minimum(np.maximum(points.max(0) + 4.0, [least_ahead, 8.0]), [_AHEAD, _SIDE])
    box = axes.get_window_extent()
    scale = max((high[0] - low[0]) / box.height, (high[1] - low[1]) / box.width)
    ahead = scale * box.height - (high[0] - low[0])
    side = scale * box.width - (high[1] - low[1])
    axes.set_ylim(low[0] - 0.3 * ahead, high[0] + 0.7 * ahead)
    axes.set_xlim(high[1] + side / 2, low[1] - side / 2)  # left is positive and on the left
    axes.set_aspect("equal", adjustable="box")
