"""How the ego moves around a moment, as numbers for plots and as lines for a language model."""

import dataclasses

import numpy as np

from alpamayo_jax.action import meta_actions
from alpamayo_jax.clip import GRID_DT, GRID_TOLERANCE, EgoTrack
from alpamayo_jax.coc.motion import ego_motion, smooth
from alpamayo_jax.types import InputError

HISTORY_S, FUTURE_S = 2.0, 6.0  # what people and models see of a keyframe: table 3 of the paper
WHEELBASE_M = 2.85  # of a middle-sized car, to show curvature as an angle of the front wheels
SLOW_MPS = 1.0  # up to which the curvature of the path is mostly noise


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Smoothed motion along a part of a drive; every array is float64 [N].

    Attributes:
      t: seconds on the clip's clock.
      speed: m/s along the heading, negative backwards.
      acceleration: m/s^2 along the heading.
      heading: radians in the world frame, not wrapped.
      yaw_rate: rad/s, positive to the left.
      curvature: 1/m of the path, positive to the left; 0 where the ego hardly moves.
    """

    t: np.ndarray
    speed: np.ndarray
    acceleration: np.ndarray
    heading: np.ndarray
    yaw_rate: np.ndarray
    curvature: np.ndarray

    @property
    def wheel_angle(self) -> np.ndarray:
        """Angle of the front wheels of a car of `WHEELBASE_M`, radians, positive to the left."""
        return np.arctan(WHEELBASE_M * self.curvature)


def timeline(ego: EgoTrack, start_s: float | None = None, end_s: float | None = None) -> Timeline:
    """Motion between two times, from nothing but the poses between them.

    Smoothing looks both ways, so a timeline up to a keyframe must be cut before it is smoothed.

    Args:
      ego: at least three poses in the range.
      start_s, end_s: seconds on the clip's clock; None: the end of the track.

    Raises:
      InputError: fewer than three poses in the range.
    """
    low = -np.inf if start_s is None else start_s - GRID_TOLERANCE
    high = np.inf if end_s is None else end_s + GRID_TOLERANCE
    chosen = (ego.t >= low) & (ego.t <= high)
    if chosen.sum() < 3:
        raise InputError(
            f"timeline: {int(chosen.sum())} poses between {start_s} and {end_s} s; the track has "
            f"{ego.t[0]:.1f} to {ego.t[-1]:.1f} s and three are needed"
        )
    motion = ego_motion(EgoTrack(ego.t[chosen], ego.xyz[chosen], ego.quat_wxyz[chosen]))
    rate = smooth(motion.heading, derivative=1)
    moving = np.abs(motion.speed) > SLOW_MPS
    return Timeline(
        t=motion.t,
        speed=motion.speed,
        acceleration=motion.accel,
        heading=motion.heading,
        yaw_rate=rate,
        curvature=np.where(moving, rate / np.where(moving, motion.speed, 1.0), 0.0),
    )


def motion_lines(motion: Timeline, t0: float, step_s: float = 0.2) -> str:
    """A table of the motion for a prompt, one line every `step_s` seconds, times relative to t0."""
    step = max(round(step_s / GRID_DT), 1)
    last = int(np.argmin(np.abs(motion.t - min(t0, motion.t[-1]))))
    rows = ["time_s speed_mps acceleration_mps2 yaw_rate_degps(left positive)"]
    for i in range(last % step, len(motion.t), step):
        rate = np.degrees(motion.yaw_rate[i])
        rows.append(
            f"{motion.t[i] - t0:+.1f} {_fixed(motion.speed[i], 2)} "
            f"{_fixed(motion.acceleration[i], 2)} {_fixed(rate, 1)}"
        )
    return "\n".join(rows)


def action_lines(motion: Timeline, t0: float) -> str:
    """The meta-actions of the motion for a prompt, one line per action, times relative to t0."""
    step = np.abs(motion.speed) * GRID_DT
    channels = {
        "speed": meta_actions.spans(
            meta_actions.longitudinal_actions(motion.speed), meta_actions.LongitudinalAction
        ),
        "steering": meta_actions.spans(
            meta_actions.lateral_actions(motion.speed, motion.heading, step),
            meta_actions.LateralAction,
        ),
    }
    rows = []
    for name, found in channels.items():
        for span in found:
            begin, end = motion.t[span.begin] - t0, motion.t[span.end - 1] - t0
            rows.append(f"{name}, {begin:+.1f} to {end:+.1f} s: {span.name}")
    return "\n".join(rows)


def _fixed(value: float, digits: int) -> str:
    return f"{round(float(value), digits) + 0.0:.{digits}f}"  # + 0.0: no "-0.0"
