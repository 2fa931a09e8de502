"""Reasoning traces of a played scenario: one decision and the component that causes it.

The decision is what the expert does next (the labels of the paper look at the reaction half a
second ahead, table 3); what the trace names as its cause is read only from the state at its own
time: the light's colour now, the lead's brakes now, the road in view now.
"""

import numpy as np

from alpamayo_jax.clip import GRID_DT, ReasoningLabel
from alpamayo_jax.sim.driver import CAUSES, FRONT, curve_speed
from alpamayo_jax.sim.scenario import Run

_REACTION = 5  # steps from the keyframe to the reaction it explains
_OUTCOME = 10  # steps over which the reaction is judged
_CHANGE = 0.35  # m/s of speed change over _OUTCOME that counts as slowing or speeding up
_SHORTEST = 8  # steps; a shorter-lived trace is not worth a label
_STANDING = 0.1  # m/s
_SIGNAL_VIEW = 110.0  # metres from which the colour of the light can be told
_STRAIGHT = 0.0015  # 1/m, curvature that still counts as straight


def reasoning_labels(run: Run) -> tuple[ReasoningLabel, ...]:
    """Traces in order of time, the first at time 0; each holds until the next."""
    steps = run.scenario.num_steps
    limits = curve_speed(run.scenario.road, run.scenario.style)
    texts: list[str] = []
    for k in range(max(steps - _REACTION - _OUTCOME, 1)):
        text = _trace(run, k, limits)
        texts.append(text or (texts[-1] if texts else _fallback(run)))
    starts = [0] + [k for k in range(1, len(texts)) if texts[k] != texts[k - 1]]
    ends = starts[1:] + [len(texts)]
    labels: list[ReasoningLabel] = []
    for start, end in zip(starts, ends):
        repeats = bool(labels) and labels[-1].text == texts[start]
        if start == 0 or (end - start >= _SHORTEST and not repeats):
            labels.append(ReasoningLabel(round(start * GRID_DT, 3), texts[start]))
    return tuple(labels)


def _fallback(run: Run) -> str:
    if run.scenario.lead is not None:
        return "Keep a safe distance to the car ahead."
    return "Keep to the lane; the lane ahead is clear."


def _action(run: Run, k: int) -> str:
    v = run.drive.v
    begin, end = (min(k + ahead, len(v) - 1) for ahead in (_REACTION, _REACTION + _OUTCOME))
    if v[begin] < _STANDING and v[end] < _STANDING:
        return "stand"
    change = v[end] - v[begin]
    return "slow" if change < -_CHANGE else "faster" if change > _CHANGE else "keep"


def _trace(run: Run, k: int, limits: np.ndarray) -> str | None:
    """The trace at step k, or None where the coming reaction has no evidence yet."""
    action = _action(run, k)
    cause = CAUSES[run.drive.cause[min(k + _REACTION, run.scenario.num_steps - 1)]]
    if cause == "signal":
        return _signal(run, k, action)
    if cause == "lead":
        return _lead(run, k, action)
    if cause == "curve":
        return _curve(run, k, action)
    return _free(run, k, action, limits)


def _light(run: Run, k: int) -> str | None:
    """Colour of a light that is ahead and in view at step k."""
    signal, drive = run.scenario.signal, run.drive
    if signal is None or not 0.0 < signal.s - drive.s[k] - FRONT < _SIGNAL_VIEW:
        return None
    return signal.colour(drive.t[k])


def _signal(run: Run, k: int, action: str) -> str | None:
    colour = _light(run, k)
    if colour not in ("red", "yellow"):
        return None
    if action == "stand" or run.drive.v[k] < _STANDING:
        return f"Stay stopped at the line because the traffic light is {colour}."
    return f"Slow down to stop at the line because the traffic light is {colour}."


def _lead(run: Run, k: int, action: str) -> str | None:
    speed, own = run.lead.v[k], run.drive.v[k]
    if speed < 0.3:
        if own < _STANDING:
            return "Stay stopped behind the stopped car ahead."
        return "Slow down to stop behind the stopped car ahead."
    if action == "slow":
        if run.lead.braking[k]:
            return "Slow down because the car ahead is braking."
        return "Slow down because the car ahead is slower." if speed < own - 0.3 else None
    if action == "faster":
        if own < 2.0 and speed > 0.3:
            return "Start moving because the car ahead is driving off."
        return "Speed up because the car ahead is speeding up." if speed > own + 0.1 else None
    return "Keep a safe distance to the car ahead." if own > 2.0 else None


def _bend(run: Run, k: int, reach: float, slower_than: float = 0.0) -> tuple[float, str] | None:
    """The bend to name at step k: (largest curvature in 1/m, its name), or None on a straight.

    Args:
      run, k: the state.
      reach: metres of road ahead that count.
      slower_than: m/s; take the first bend whose own speed is below this, where there is one,
        else the tightest bend in reach.
    """
    road, s = run.scenario.road, run.drive.s[k]
    ahead = road.kappa[(road.s >= s) & (road.s <= s + reach)]
    size = np.abs(ahead)
    if not size.size or size.max() < _STRAIGHT:
        return None
    tight = np.nonzero(run.scenario.style.lateral < size * slower_than**2)[0]
    at = int(tight[0]) if len(tight) else int(np.argmax(size))
    sense = np.sign(ahead[at])
    over = np.nonzero(ahead[at:] * sense < _STRAIGHT)[0]
    peak = float(size[at : at + int(over[0]) if len(over) else None].max())
    kind = "sharp " if peak > 0.035 else "gentle " if peak < 0.012 else ""
    return peak, f"{kind}{'left' if sense > 0 else 'right'} curve"


def _curve(run: Run, k: int, action: str) -> str | None:
    drive = run.drive
    speed = drive.v[k]
    bend = _bend(run, k, _sight(run, k), speed - 0.3 if action == "slow" else 0.0)
    here = abs(float(np.interp(drive.s[k], run.scenario.road.s, run.scenario.road.kappa)))
    if bend is not None and action == "slow":
        return f"Slow down for the {bend[1]} ahead."
    bend = _bend(run, k, max(1.5 * speed, 8.0))
    if bend is None or here < 0.3 * bend[0]:
        return None
    if action == "faster":
        return f"Speed up as the {bend[1]} opens."
    return f"Hold a low speed through the {bend[1]}."


def _sight(run: Run, k: int) -> float:
    """Metres of road that a driver at step k minds: the way to brake to a crawl, and one second."""
    speed = run.drive.v[k]
    return max(speed + speed**2 / (2.0 * run.scenario.style.brake), 15.0)


def _free(run: Run, k: int, action: str, limits: np.ndarray) -> str | None:
    drive = run.drive
    colour = _light(run, k)
    if colour in ("red", "yellow"):
        return f"Prepare to stop because the traffic light ahead is {colour}."
    if colour == "green":
        if drive.v[k] < 3.0:
            return "Start moving because the traffic light has turned green."
        return "Continue through the crossing because the traffic light is green."
    coming = _coming_curve(run, k, limits)
    if coming:
        return coming
    if action == "faster":
        road = run.scenario.road
        behind = (road.s > drive.s[k] - 15.0) & (road.s < drive.s[k])
        if np.abs(road.kappa[behind]).max() > 0.012:
            return "Speed up because the road straightens after the curve."
        return "Speed up because the lane ahead is clear."
    bend = _bend(run, k, 1.5 * drive.v[k])
    if bend is not None:
        return f"Keep the speed and follow the {bend[1]}."
    return "Keep the speed because the lane ahead is clear."


def _coming_curve(run: Run, k: int, limits: np.ndarray) -> str | None:
    """Announces a curve that asks for a lower speed than now within three seconds."""
    drive, road = run.drive, run.scenario.road
    speed = drive.v[k]
    window = (road.s >= drive.s[k]) & (road.s <= drive.s[k] + 3.0 * speed)
    if not window.any() or limits[window].min() > speed - 1.0:
        return None
    bend = _bend(run, k, _sight(run, k) + 2.0 * speed, speed - 0.3)
    return f"Prepare to slow down for the {bend[1]} ahead." if bend else None
