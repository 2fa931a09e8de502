"""Meta-actions at 10 Hz: what a drive does, in seven words for the speed and seven for the wheel.

The rules of the released automatic labeller: signals are averaged over five ticks, cut wherever one
crosses a threshold, each segment is named, and short segments go to their neighbours. Everything
works on any number of drives at once: arrays are [..., T], left and counter-clockwise are positive.
"""

import dataclasses
import enum

import chex
import numpy as np

DT = 0.1  # seconds per tick
_WINDOW = 5  # ticks of the centred mean
_HYSTERESIS = 0.15  # of a threshold: how far a signal must fall back below it
_APART = 3  # ticks between cuts, and between the last cut and the end

_SPEED_CUTS = (0.3, -0.3)  # m/s along the heading
_ACCEL_CUTS = (0.1, -0.1, 1.25, -1.25)  # m/s^2
_REVERSE_CUT = (-0.1,)  # m/s along the heading
_RATE_CUTS = (0.001, -0.001, 0.05, -0.05)  # rad/m

_STANDS = 0.12  # m/s
_STRONG, _GENTLE, _LEAST_DV = 1.4, 0.15, 0.8  # m/s^2, m/s^2, m/s
_BACKS = -0.1  # m/s
_SHARP, _STEER, _BACK_RATE = 0.05, 0.0015, 0.002  # rad/m
_SHARP_TURN, _STEER_TURN = 0.2, 0.015  # rad
_LEAST_DISTANCE = 1e-6  # metres per tick below which a rate means nothing

_LEAST_LONGITUDINAL, _LEAST_MAINTAIN, _LEAST_LATERAL = 8, 12, 10  # ticks


class LongitudinalAction(enum.IntEnum):
    """What the speed does."""

    MAINTAIN_SPEED = 0
    GENTLE_ACCELERATE = 1
    STRONG_ACCELERATE = 2
    GENTLE_DECELERATE = 3
    STRONG_DECELERATE = 4
    STOP = 5
    REVERSE = 6


class LateralAction(enum.IntEnum):
    """What the wheel does."""

    GO_STRAIGHT = 0
    STEER_LEFT = 1
    STEER_RIGHT = 2
    SHARP_STEER_LEFT = 3
    SHARP_STEER_RIGHT = 4
    REVERSE_LEFT = 5
    REVERSE_RIGHT = 6


@dataclasses.dataclass(frozen=True)
class Span:
    """Ticks begin, begin + 1, ..., end - 1 of one action."""

    begin: int
    end: int
    action: enum.IntEnum

    @property
    def name(self) -> str:
        """The action in words."""
        return self.action.name.lower().replace("_", " ")


@dataclasses.dataclass(frozen=True)
class Motion:
    """What meta-actions are read from.

    Attributes:
      speed: [..., T] m/s along the heading, negative when backing up.
      heading: [..., T] radians.
      step: [..., T] metres travelled in the tick that ends here; the first is that of the second.
    """

    speed: np.ndarray
    heading: np.ndarray
    step: np.ndarray


def motion_of(xyz: np.ndarray, rot: np.ndarray, dt: float = DT) -> Motion:
    """The motion of poses `xyz` [..., T, 3] and `rot` [..., T, 3, 3] at `dt` seconds, T >= 2.

    Speed is the central difference of the position along the heading.
    """
    chex.assert_shape(xyz, (..., 3))
    chex.assert_shape(rot, (*np.shape(xyz)[:-1], 3, 3))
    xy, rot = np.asarray(xyz, np.float64)[..., :2], np.asarray(rot, np.float64)
    heading = np.arctan2(rot[..., 1, 0], rot[..., 0, 0])
    velocity = np.gradient(xy, dt, axis=-2)
    speed = velocity[..., 0] * np.cos(heading) + velocity[..., 1] * np.sin(heading)
    step = np.linalg.norm(np.diff(xy, axis=-2), axis=-1)
    return Motion(speed, heading, np.concatenate([step[..., :1], step], -1))


def longitudinal_actions(speed: np.ndarray, dt: float = DT) -> np.ndarray:
    """`LongitudinalAction` of every tick.

    Args:
      speed: [..., T] m/s along the heading, finite, T >= 2.
      dt: seconds per tick; the counts of ticks in the rules are for 0.1.

    Returns:
      int8 [..., T].
    """
    speed, shape = _rows(speed)
    accel = np.diff(speed, axis=-1) / dt
    accel = _mean(np.concatenate([accel[:, :1], accel], -1))
    segment = _segments([(speed, _SPEED_CUTS), (accel, _ACCEL_CUTS)])
    first, last = _bounds(segment)
    after = np.minimum(last + 1, speed.shape[1] - 1)
    dv = np.take_along_axis(speed, after, 1) - np.take_along_axis(speed, first, 1)
    mean_accel = dv / np.maximum((after - first) * dt, dt)
    mean_speed = _segment_sum(speed, segment) / (last - first + 1)
    action = LongitudinalAction
    labels = np.select(
        [
            mean_speed <= -_STANDS,
            mean_speed <= _STANDS,
            (mean_accel >= _STRONG) & (dv >= _LEAST_DV),
            (mean_accel >= _GENTLE) & (dv >= _LEAST_DV),
            (mean_accel <= -_STRONG) & (dv <= -_LEAST_DV),
            (mean_accel <= -_GENTLE) & (dv <= -_LEAST_DV),
        ],
        [
            action.REVERSE,
            action.STOP,
            action.STRONG_ACCELERATE,
            action.GENTLE_ACCELERATE,
            action.STRONG_DECELERATE,
            action.GENTLE_DECELERATE,
        ],
        action.MAINTAIN_SPEED,
    )
    least = np.full(len(action), _LEAST_LONGITUDINAL)
    least[action.MAINTAIN_SPEED] = _LEAST_MAINTAIN
    return absorb_short(labels, least).astype(np.int8).reshape(shape)


def lateral_actions(speed: np.ndarray, heading: np.ndarray, step: np.ndarray) -> np.ndarray:
    """`LateralAction` of every tick.

    Args:
      speed: [..., T] m/s along the heading, T >= 2.
      heading: [..., T] radians, wrapped or not.
      step: [..., T] metres travelled per tick.

    Returns:
      int8 [..., T].
    """
    chex.assert_equal_shape([speed, heading, step])
    speed, shape = _rows(speed)
    heading, _ = _rows(heading)
    step, _ = _rows(step)
    turn = np.diff(heading, axis=-1)
    turn = np.arctan2(np.sin(turn), np.cos(turn))
    turn = np.concatenate([turn[:, :1], turn], -1)
    smooth = _mean(turn)
    moves = step > _LEAST_DISTANCE
    rate = np.where(moves, smooth / np.where(moves, step, 1.0), 0.0)
    segment = _segments([(speed, _REVERSE_CUT), (rate, _RATE_CUTS)])
    first, last = _bounds(segment)
    ticks = last - first + 1
    total = _segment_sum(smooth, segment)
    distance = _segment_sum(step, segment)
    moves = distance > _LEAST_DISTANCE
    rate = np.where(moves, total / np.where(moves, distance, 1.0), 0.0)
    backs = _segment_sum(speed, segment) / ticks <= _BACKS
    action = LateralAction

    def turns(rate_limit: float, turn_limit: float, sign: int) -> np.ndarray:
        return (sign * rate >= rate_limit) & (sign * total >= turn_limit)

    labels = np.select(
        [
            backs & turns(_BACK_RATE, _SHARP_TURN, -1),
            backs & turns(_BACK_RATE, _SHARP_TURN, 1),
            turns(_SHARP, _SHARP_TURN, -1),
            turns(_SHARP, _SHARP_TURN, 1),
            turns(_STEER, _STEER_TURN, -1),
            turns(_STEER, _STEER_TURN, 1),
        ],
        [
            action.REVERSE_RIGHT,
            action.REVERSE_LEFT,
            action.SHARP_STEER_RIGHT,
            action.SHARP_STEER_LEFT,
            action.STEER_RIGHT,
            action.STEER_LEFT,
        ],
        action.GO_STRAIGHT,
    )
    least = np.full(len(action), _LEAST_LATERAL)
    return absorb_short(labels, least).astype(np.int8).reshape(shape)


def spans(labels: np.ndarray, kind: type[enum.IntEnum]) -> list[Span]:
    """The runs of equal labels [T] of one drive, in order; `kind` says what the numbers mean."""
    chex.assert_rank(labels, 1)
    starts = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
    ends = np.append(starts[1:], len(labels))
    return [Span(int(b), int(e), kind(int(labels[b]))) for b, e in zip(starts, ends)]


def absorb_short(labels: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Gives runs that are too short to their neighbours, the shortest first.

    Between equal neighbours a short run becomes one with both, between different ones it is split
    in half, and at an end it goes to its only neighbour. A run that fills everything stays.

    Args:
      labels: [N, T] integers.
      least: ticks that a run of each label needs.

    Returns:
      [N, T]; no run is too short, unless it is all there is.
    """
    chex.assert_rank(labels, 2)
    labels, length = np.array(labels), labels.shape[1]
    tick = np.arange(length)
    rows = np.arange(len(labels))
    while len(rows):
        part = labels[rows]
        segment = np.cumsum(_changes(part), -1)
        first, last = _bounds(segment)
        ticks = last - first + 1
        short = (ticks < least[part]) & (ticks < length)
        keep = short.any(-1)
        rows, part, first, last, short = (a[keep] for a in (rows, part, first, last, short))
        if not len(rows):
            break
        at = np.argmin(np.where(short, ticks[keep], length + 1), -1)[:, None]
        begin, end = np.take_along_axis(first, at, 1), np.take_along_axis(last, at, 1) + 1
        left = np.take_along_axis(part, np.maximum(begin - 1, 0), 1)
        right = np.take_along_axis(part, np.minimum(end, length - 1), 1)
        left = np.where(begin == 0, right, left)
        right = np.where(end == length, left, right)
        middle = begin + (end - begin) // 2
        inside = (tick >= begin) & (tick < end)
        labels[rows] = np.where(inside, np.where(tick < middle, left, right), part)
    return labels


def _rows(value: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """([N, T] float64, the shape it had)."""
    value = np.asarray(value, np.float64)
    if value.ndim < 1 or value.shape[-1] < 2:
        raise ValueError(f"meta-actions need [..., T] with T >= 2, got {list(value.shape)}")
    return value.reshape(-1, value.shape[-1]), value.shape


def _mean(value: np.ndarray) -> np.ndarray:
    """Centred mean over `_WINDOW` ticks of [N, T]; the ends are mirrored."""
    half = _WINDOW // 2
    padded = np.pad(value, ((0, 0), (half, half)), mode="symmetric")
    return sum(padded[:, i : i + value.shape[1]] for i in range(_WINDOW)) / _WINDOW


def _segments(signals: list[tuple[np.ndarray, tuple[float, ...]]]) -> np.ndarray:
    """Numbers of the segments [N, T] between cuts, from 0."""
    states = np.stack([_beyond(s, cut) for s, cuts in signals for cut in cuts])
    flips = np.any(states[:, :, 1:] != states[:, :, :-1], 0)
    count, length = flips.shape[0], flips.shape[1] + 1
    cuts = np.zeros((count, length), np.int64)
    since = np.zeros(count, np.int64)
    for i in range(1, length - _APART + 1):
        since += 1
        cut = flips[:, i - 1] & (since >= _APART)
        cuts[cut, i] = 1
        since[cut] = 0
    return np.cumsum(cuts, -1)


def _beyond(signal: np.ndarray, threshold: float) -> np.ndarray:
    """Whether the signal [N, T] is beyond a threshold, with hysteresis."""
    size = signal * np.sign(threshold)
    on, off = abs(threshold), abs(threshold) * (1 - _HYSTERESIS)
    state = np.empty(signal.shape, bool)
    state[:, 0] = size[:, 0] > on
    for i in range(1, signal.shape[1]):
        state[:, i] = np.where(state[:, i - 1], size[:, i] >= off, size[:, i] > on)
    return state


def _changes(labels: np.ndarray) -> np.ndarray:
    same = np.zeros((len(labels), 1), bool)
    return np.concatenate([same, labels[:, 1:] != labels[:, :-1]], -1)


def _bounds(segment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last tick [N, T] of the segment that each tick belongs to."""
    tick = np.broadcast_to(np.arange(segment.shape[1]), segment.shape)
    starts = np.concatenate([np.ones((len(segment), 1), bool), _changes(segment)[:, 1:]], -1)
    first = np.maximum.accumulate(np.where(starts, tick, 0), -1)
    ends = np.concatenate([starts[:, 1:], np.ones((len(segment), 1), bool)], -1)
    back = np.where(ends, tick, segment.shape[1])[:, ::-1]
    return first, np.minimum.accumulate(back, -1)[:, ::-1]


def _segment_sum(value: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Sum over its segment, at every tick."""
    total = np.concatenate([np.zeros((len(value), 1)), np.cumsum(value, -1)], -1)
    first, last = _bounds(segment)
    return np.take_along_axis(total, last + 1, 1) - np.take_along_axis(total, first, 1)
