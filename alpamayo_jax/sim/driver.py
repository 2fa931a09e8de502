"""The expert driver: speed by curve, lead vehicle and stop line, steering along the lane.

Every 0.1 s each constraint proposes an acceleration and the lowest wins, so the drive records which
constraint was its cause. The controls are then integrated with the paper's unicycle (equation 5):
piecewise constant acceleration and curvature, trapezoidal positions. Ego origin: rear axle, ground.
"""

import dataclasses
import math

import numpy as np

from alpamayo_jax.clip import GRID_DT
from alpamayo_jax.sim.actors import Motion, Signal
from alpamayo_jax.sim.road import Road

EGO_LWH = (4.8, 1.9, 1.5)
FRONT = 3.8  # metres from the rear axle to the front bumper
CAUSES = ("free", "curve", "lead", "signal")
_JERK = 3.5  # m/s^3
_LAG = 0.35  # seconds of preview that make up for the limited jerk
_TAIL = 0.55  # speed ~ distance**0.55 before a stop line: braking eases off towards the stop
_LINE_BRAKE = 1.2  # a stop line is approached with this much more than comfortable braking
LINE_GAP = 1.0  # metres left between the bumper and the stop line
_LANDING = 4.0  # m/s^3, twice the jerk of coming to rest
_STANDING = 0.25  # m/s^2 that a standing car must want before it starts


@dataclasses.dataclass(frozen=True)
class Style:
    """One driver. Speeds m/s, accelerations m/s^2, times s, lengths m.

    Attributes:
      set_speed: kept where nothing else constrains.
      accel: largest acceleration.
      brake: comfortable braking.
      lateral: lateral acceleration accepted in a curve.
      time_gap, min_gap: to a lead vehicle (IDM).
      reaction: delay before acting on a light that changes.
      offset: constant position in the lane, positive to the left.
    """

    set_speed: float
    accel: float = 1.4
    brake: float = 1.6
    lateral: float = 2.0
    time_gap: float = 1.4
    min_gap: float = 3.0
    reaction: float = 0.5
    offset: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Drive:
    """What the ego did, on the 10 Hz grid; all float64 [N] but `cause` (int32).

    Attributes:
      t: seconds.
      x, y, heading: world pose of the rear axle.
      s: road coordinate of the rear axle.
      v: speed; a, kappa: the controls applied from this row to the next.
      cause: index in `CAUSES` of the constraint that set `a`.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    heading: np.ndarray
    s: np.ndarray
    v: np.ndarray
    a: np.ndarray
    kappa: np.ndarray
    cause: np.ndarray


def curve_speed(road: Road, style: Style) -> np.ndarray:
    """Highest speed at each sample of the road [N] that keeps lateral and braking comfort."""
    squared = np.minimum(style.lateral / np.maximum(np.abs(road.kappa), 1e-6), 1600.0)
    # v_i^2 <= v_j^2 + 2 b (s_j - s_i) for every later j.
    reach = squared + 2.0 * style.brake * road.s
    return np.sqrt(np.minimum.accumulate(reach[::-1])[::-1] - 2.0 * style.brake * road.s)


def equilibrium_gap(v: float, style: Style) -> float:
    """Bumper-to-bumper distance at which IDM holds speed v behind a lead of the same speed."""
    free = 1.0 - (v / style.set_speed) ** 4
    return (style.min_gap + v * style.time_gap) / math.sqrt(max(free, 0.05))


def stopping_distance(v: float, style: Style) -> float:
    """Metres from the stopping point at which `drive` starts to brake for a light."""
    return _TAIL * v * v / (_LINE_BRAKE * style.brake)


def drive(
    road: Road,
    style: Style,
    num_steps: int,
    speed: float,
    lead: tuple[Motion, float] | None = None,
    signal: Signal | None = None,
) -> Drive:
    """Drives `num_steps` rows of the 10 Hz grid from s = 0.

    Args:
      road: the road to follow.
      style: the driver.
      num_steps: rows, including the start.
      speed: at the start.
      lead: motion of the vehicle ahead in the lane and its length, or None.
      signal: the traffic light ahead, or None.
    """
    limits = curve_speed(road, style)
    (x, y), heading, _ = road.pose(0.0, style.offset)
    x, y, heading, s, v, a = float(x), float(y), float(heading), 0.0, speed, 0.0
    stop_gain = None  # set while stopping at the line
    rows, causes = np.zeros((num_steps, 8)), np.zeros(num_steps, np.int32)
    for k in range(num_steps):
        t = k * GRID_DT
        proposals = [_free(v, style), _curve(road, limits, s, v, style)]
        proposals.append(_follow(lead, k, s, v, style) if lead else math.inf)
        if signal:
            stop_gain = _stop_gain(signal, t, s, v, style, stop_gain)
        proposals.append(_stop(signal, s, v, stop_gain) if stop_gain else math.inf)
        cause = int(np.argmin(proposals))
        # The last bound lets acceleration and speed reach zero together.
        wanted = max(min(proposals[cause], style.accel), -3.4, -math.sqrt(_LANDING * v))
        if v == 0.0 and wanted < _STANDING:
            a = 0.0
        else:
            a += min(max(wanted - a, -_JERK * GRID_DT), _JERK * GRID_DT)
            if v + a * GRID_DT < 0.01 and wanted < _STANDING:
                a = -v / GRID_DT
        kappa = _steer(road, s, np.array([x, y]), heading, v, style)
        rows[k], causes[k] = (t, x, y, heading, s, v, a, kappa), cause
        v_next = max(v + a * GRID_DT, 0.0)
        heading_next = heading + GRID_DT * kappa * v + 0.5 * GRID_DT**2 * kappa * a
        x += 0.5 * GRID_DT * (v * math.cos(heading) + v_next * math.cos(heading_next))
        y += 0.5 * GRID_DT * (v * math.sin(heading) + v_next * math.sin(heading_next))
        heading, v = heading_next, v_next
        s = float(road.project(np.array([x, y]), s + v * GRID_DT, 1)[0])
    return Drive(*rows.T, cause=causes)


def _free(v: float, style: Style) -> float:
    """IDM without a lead; above the set speed a gentle return to it."""
    if v > style.set_speed:
        return max(0.8 * (style.set_speed - v), -1.0)
    return style.accel * (1.0 - (v / style.set_speed) ** 4)


def _curve(road: Road, limits: np.ndarray, s: float, v: float, style: Style) -> float:
    """Tracks the speed limit of the road's curvature, looking ahead by the lag of the pedals."""
    here, ahead = np.interp([s + v * _LAG, s + v * _LAG + 0.5], road.s, limits)
    slope = (ahead**2 - here**2) / (2 * 0.5)
    return max(slope, -1.3 * style.brake) + 1.5 * (here - v)


def _follow(lead: tuple[Motion, float], k: int, s: float, v: float, style: Style) -> float:
    """IDM with the lead vehicle."""
    motion, length = lead
    gap = max(motion.s[k] - length / 2 - s - FRONT, 0.3)
    closing = v - motion.v[k]
    brake = v * closing / (2.0 * math.sqrt(style.accel * style.brake))
    wanted = style.min_gap + max(v * style.time_gap + brake, 0.0)
    return style.accel * (1.0 - (v / style.set_speed) ** 4 - (wanted / gap) ** 2)


def _stop_gain(
    signal: Signal, t: float, s: float, v: float, style: Style, gain: float | None
) -> float | None:
    """Gain of the stopping law v = gain * distance**_TAIL, or None while not stopping."""
    distance = signal.s - s - FRONT - LINE_GAP
    seen = signal.colour(t) if signal.since(t) >= style.reaction else None
    if gain is not None:
        return None if seen == "green" else gain
    if seen in ("red", "yellow") and v == 0.0 and distance > -LINE_GAP:
        return 1.0
    if seen in ("red", "yellow") and distance > 0.0:
        needed = _TAIL * v * v / distance
        if _LINE_BRAKE * style.brake <= needed <= 3.0:
            return v / distance**_TAIL
    return None


def _stop(signal: Signal, s: float, v: float, gain: float) -> float:
    """Tracks v = gain * distance**_TAIL up to the stop line."""
    distance = signal.s - s - FRONT - LINE_GAP
    if distance < 0.0:
        return -3.0
    distance = max(distance, 0.01)
    target = gain * distance**_TAIL
    return -_TAIL * gain * distance ** (_TAIL - 1.0) * v + 1.5 * (target - v)


def _steer(road: Road, s: float, xy: np.ndarray, heading: float, v: float, style: Style) -> float:
    """Curvature that follows the lane at the driver's offset, critically damped in distance."""
    here, d = road.project(xy, s, 1)
    _, tangent, _ = road.pose(here)
    curvature = float(np.interp(here + 0.5 * v * GRID_DT, road.s, road.kappa))
    length = max(6.0, 0.9 * v)
    error = math.remainder(heading - float(tangent), 2 * math.pi)
    correction = (float(d) - style.offset) / length**2 + 2.0 * math.sin(error) / length
    return curvature / (1.0 - curvature * style.offset) - correction
