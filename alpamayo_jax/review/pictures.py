"""Plots of the ego's motion around a keyframe, with the past and the future told apart."""

import numpy as np

from alpamayo_jax.clip import Clip
from alpamayo_jax.coc.timeline import FUTURE_S, HISTORY_S, SLOW_MPS, Timeline, timeline
from alpamayo_jax.viz import style

_LEFT, _RIGHT, _TOP, _FOOT, _GAP = 78, 14, 14, 58, 12
_AHEAD = (0.94, 0.97, 0.94)  # a breath of the green that means "recorded future"


def motion_picture(
    clip: Clip, keyframe_s: float, with_future: bool, width: int = 620, height: int = 560
) -> bytes:
    """Speed, acceleration and steering from 2 s before to 6 s after a keyframe, as PNG.

    Args:
      clip: the drive.
      keyframe_s: seconds on the clip's clock.
      with_future: whether what came after the keyframe is drawn; without, it is not even read.
      width, height: pixels; the axes are the same with and without the future.
    """
    start, end = keyframe_s - HISTORY_S, keyframe_s + FUTURE_S
    motion = timeline(clip.ego, start, end if with_future else keyframe_s)
    page = style.Page(width, height)
    each = (height - _TOP - _FOOT - 2 * _GAP) / 3
    for row, (name, values, least) in enumerate(_rows(motion)):
        axes = page.axes(_LEFT, _TOP + row * (each + _GAP), width - _LEFT - _RIGHT, each)
        style.style_axes(axes, "seconds from the keyframe" if row == 2 else "", name)
        axes.yaxis.label.set_fontsize(11)
        axes.set_xlim(-HISTORY_S, FUTURE_S)
        _limits(axes, values, least)
        if row < 2:
            axes.tick_params(labelbottom=False)
        axes.axhline(0.0, color=style.MUTED, linewidth=0.8)
        if with_future:
            axes.axvspan(0.0, FUTURE_S, color=_AHEAD, linewidth=0, zorder=0)
        axes.axvline(0.0, color=style.INK, linewidth=1.2)
        seconds = motion.t - keyframe_s
        past, later = seconds <= 1e-6, seconds >= -1e-6
        axes.plot(seconds[past], values[past], color=style.HISTORY, linewidth=2.4)
        if later.sum() > 1:
            axes.plot(seconds[later], values[later], color=style.RECORDED, linewidth=2.4)
    return page.png()


def _rows(motion: Timeline) -> list[tuple[str, np.ndarray, float]]:
    """(name, values, the least height of the axis) of each plot."""
    # A gap where there is no steering to tell, and not a jump to zero.
    steering = np.where(np.abs(motion.speed) > SLOW_MPS, np.degrees(motion.wheel_angle), np.nan)
    return [
        ("speed, m/s", motion.speed, 4.0),
        ("accel., m/s²", motion.acceleration, 3.0),
        ("steer (left +), °", steering, 6.0),
    ]


def _limits(axes, values: np.ndarray, least: float) -> None:
    known = np.append(values[np.isfinite(values)], 0.0)
    low, high = float(known.min()), float(known.max())
    room = max(least - (high - low), 0.1 * (high - low)) / 2
    axes.set_ylim(low - room, high + room)
