"""Moments worth a label: where the motion changes, and where something has to be watched.

A reaction begins at its onset; the keyframe is half a second earlier, so that the cause is seen and
the reaction is not (table 3 of the paper). What happens after the keyframe only says which decision
was taken.
"""

import dataclasses
import enum

import numpy as np

from alpamayo_jax.action.meta_actions import LongitudinalAction as Action
from alpamayo_jax.action.meta_actions import longitudinal_actions, spans
from alpamayo_jax.coc.lanes import Roads, places
from alpamayo_jax.coc.motion import EgoMotion

REACTION_S = 0.5
_SLOWS = (Action.GENTLE_DECELERATE, Action.STRONG_DECELERATE)
_SPEEDS_UP = (Action.GENTLE_ACCELERATE, Action.STRONG_ACCELERATE)
_ONSET = 0.12  # m/s^2: where a change of speed begins
_RISEN, _FIRST_PART = 0.45, 15  # of the largest change in the first ticks of a span
_LONGEST_LEAD_IN = 15  # ticks by which an onset may be before its span
_STANDS = 0.4  # m/s
_AGAIN_S = 5.0  # seconds between keyframes while standing
_TURN, _TURN_RATE = np.deg2rad(50.0), 0.02  # rad in all, rad/m
_BEND = np.deg2rad(25.0)
_MOVES = 1.0  # m/s
_FRONT = 3.8  # metres from the ego origin to its front


class Change(enum.StrEnum):
    """What the ego does after a moment."""

    SLOW = "slow"
    STOP = "stop"
    STAND = "stand"
    START = "start"
    FASTER = "faster"
    TURN = "turn"
    BEND = "bend"
    JUNCTION = "junction"
    LANE_CHANGE = "lane_change"
    NUDGE = "nudge"


@dataclasses.dataclass(frozen=True)
class Moment:
    """A candidate for a label.

    Attributes:
      t: keyframe, seconds, on the ego's grid.
      onset: when the change begins.
      end: when it ends.
      change: what changes.
      side: "left" or "right" of a change to a side.
      size: radians of a turn or bend, metres of a nudge.
    """

    t: float
    onset: float
    end: float
    change: Change
    side: str = ""
    size: float = 0.0


def speed_moments(motion: EgoMotion) -> list[Moment]:
    """Changes of speed, and standing, in order of time."""
    found = spans(longitudinal_actions(motion.speed), Action)
    moments: list[Moment] = []
    for i, span in enumerate(found):
        before = found[i - 1].action if i else None
        if span.action in _SLOWS and before not in _SLOWS:
            last = i
            while last + 1 < len(found) and found[last + 1].action in _SLOWS:
                last += 1
            end = found[last].end
            onset = _onset(motion, span.begin, end, -1)
            lowest = motion.speed[onset : end + 10].min()
            change = Change.STOP if lowest < _STANDS else Change.SLOW
            moments.append(_moment(motion, onset, end, change))
        elif span.action in _SPEEDS_UP and before not in _SPEEDS_UP and i:
            onset = _onset(motion, span.begin, span.end, 1)
            change = Change.START if motion.speed[onset] < _STANDS else Change.FASTER
            moments.append(_moment(motion, onset, span.end, change))
        elif span.action is Action.STOP:
            ticks = range(span.begin + 10, span.end - 10, round(_AGAIN_S * 10))
            moments += [
                Moment(float(motion.t[k]), float(motion.t[k]), float(motion.t[span.end - 1]),
                       Change.STAND)
                for k in ticks
            ]  # fmt: skip
    return [m for m in moments if m.change is not Change.STAND or not _soon(m, moments)]


def turn_moments(motion: EgoMotion) -> list[Moment]:
    """Stretches in which the heading goes one way: turns, and bends of less."""
    step = np.linalg.norm(np.diff(motion.xy, axis=0), axis=-1)
    turned = np.diff(motion.heading)
    rate = np.where(step > 0.02, turned / np.maximum(step, 1e-6), 0.0)
    sense = np.where(np.abs(rate) > _TURN_RATE, np.sign(rate), 0.0)
    sense = _bridge(sense, step)
    moments = []
    edges = np.flatnonzero(np.diff(sense)) + 1
    for begin, end in zip(np.append(0, edges), np.append(edges, len(sense))):
        size = float(turned[begin:end].sum())
        if sense[begin] == 0 or abs(size) < _BEND or begin == 0:
            continue
        change = Change.TURN if abs(size) >= _TURN else Change.BEND
        side = "left" if size > 0 else "right"
        moments.append(_moment(motion, begin, end, change, side, size))
    return moments


def junction_moments(motion: EgoMotion, roads: Roads) -> list[Moment]:
    """Where the moving ego's front enters a junction of the map, and until it is out."""
    front = motion.xy + _FRONT * np.stack([np.cos(motion.heading), np.sin(motion.heading)], -1)
    inside = []
    for xy, heading in zip(front, motion.heading):
        found = places(roads, xy, heading, reach=3.0)
        inside.append(bool(found) and roads.junction(found[0].lane))
    inside = np.array(inside)
    enters = np.flatnonzero(inside[1:] & ~inside[:-1]) + 1
    moments = []
    for k in enters:
        out = np.flatnonzero(~inside[k:])
        end = int(k + out[0]) if len(out) else len(inside) - 1
        if motion.speed[k] > _MOVES and end - k >= 5:
            t = float(motion.t[k])
            moments.append(Moment(t, t, float(motion.t[end]), Change.JUNCTION))
    return moments


def stop_line_moments(motion: EgoMotion, roads: Roads) -> list[Moment]:
    """Half a second before the moving ego's front passes a stop line of the map."""
    front = motion.xy + _FRONT * np.stack([np.cos(motion.heading), np.sin(motion.heading)], -1)
    moments = []
    for line in roads.stop_lines:
        middle, along = line.mean(0), line[-1] - line[0]
        reach = np.linalg.norm(along) / 2 + 1.0
        normal = np.array([-along[1], along[0]]) / max(float(np.linalg.norm(along)), 1e-9)
        side = (front - middle) @ normal
        near = np.linalg.norm(front - middle, axis=-1) < reach + 2.0
        for k in np.flatnonzero((side[1:] * side[:-1] < 0) & near[1:]) + 1:
            key = max(int(k) - round(REACTION_S * 10), 0)
            if motion.speed[key : k + 10].min() > _MOVES:
                t = float(motion.t[key])
                moments.append(Moment(t, t, float(motion.t[k]), Change.JUNCTION))
    return moments


def _soon(stand: Moment, moments: list[Moment]) -> bool:
    """Whether a change of speed has its keyframe within two seconds of this one."""
    return any(m.change is not Change.STAND and abs(m.t - stand.t) < 2.0 for m in moments)


def _moment(
    motion: EgoMotion, onset: int, end: int, change: Change, side: str = "", size: float = 0.0
) -> Moment:
    key = max(onset - round(REACTION_S * 10), 0)
    last = min(int(end), len(motion.t) - 1)
    t, begin = float(motion.t[key]), float(motion.t[onset])
    return Moment(t, begin, float(motion.t[last]), change, side, size)


def _onset(motion: EgoMotion, begin: int, end: int, sign: int) -> int:
    """The tick at which a change of speed begins, near the beginning of its span.

    Smoothing spreads a step over a second; where it has risen by half is where the step was.
    """
    change = sign * motion.accel
    peak = change[begin : min(end, begin + _FIRST_PART)].max()
    begun = change > max(_ONSET, _RISEN * peak)
    if begun[begin]:
        k = begin
        while k > max(begin - _LONGEST_LEAD_IN, 0) and begun[k - 1]:
            k -= 1
        return k
    later = np.flatnonzero(begun[begin:end])
    return int(begin + later[0]) if len(later) else begin


def _bridge(sense: np.ndarray, step: np.ndarray, gap: float = 3.0) -> np.ndarray:
    """Closes pauses of less than `gap` metres between stretches of one sense."""
    sense = sense.copy()
    edges = np.flatnonzero(np.diff(sense)) + 1
    begins, ends = np.append(0, edges), np.append(edges, len(sense))
    for begin, end in zip(begins, ends):
        inner = 0 < begin and end < len(sense) and sense[begin] == 0
        if inner and sense[begin - 1] == sense[end] and step[begin:end].sum() < gap:
            sense[begin:end] = sense[end]
    return sense
