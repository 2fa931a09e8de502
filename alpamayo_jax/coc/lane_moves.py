"""Moves within and between lanes of the map: lane changes, nudges, and the lane channel.

The lane channel says for every tick what the ego does relative to its lane, in nine words.
"""

import dataclasses
import enum

import numpy as np

from alpamayo_jax.coc.keyframes import Change, Moment, REACTION_S, turn_moments
from alpamayo_jax.coc.lanes import Roads, places
from alpamayo_jax.coc.motion import EgoMotion

_BESIDE = (2.2, 4.8)  # metres between the centres of neighbouring lanes
_CENTRED = 0.9  # metres from the centre of a lane that count as in the middle
_NUDGE, _BACK = 0.45, 0.25  # metres from the usual offset: a nudge begins, a nudge ends
_LONGEST, _SHORTEST = 80, 8  # ticks of a nudge
_EGO_HALF = 0.95
_MOVES = 1.0  # m/s


class LaneAction(enum.IntEnum):
    """What the ego does relative to its lane."""

    KEEP_LANE = 0
    LEFT_LANE_CHANGE = 1
    RIGHT_LANE_CHANGE = 2
    SLIGHTLY_SHIFT_LEFT = 3
    SLIGHTLY_SHIFT_RIGHT = 4
    TURN_LEFT = 5
    TURN_RIGHT = 6
    FOLLOW_CURVE_LEFT = 7
    FOLLOW_CURVE_RIGHT = 8


@dataclasses.dataclass(frozen=True)
class LaneTrack:
    """The lane of every tick: lane [N] (-1: none), offset [N] to the left of its centre, metres.

    A lane is left for another only where the other is clearly nearer.
    """

    lane: np.ndarray
    offset: np.ndarray


def lane_track(motion: EgoMotion, roads: Roads) -> LaneTrack:
    """Follows the ego through the lanes of the map."""
    lane = np.full(len(motion.t), -1)
    offset = np.full(len(motion.t), np.nan)
    last = -1
    for k, (xy, heading) in enumerate(zip(motion.xy, motion.heading)):
        found = {place.lane: place for place in places(roads, xy, heading, reach=4.0)}
        if not found:
            last = -1
            continue
        nearest = next(iter(found))
        stays = last in found and abs(found[last].offset) < abs(found[nearest].offset) + 0.4
        last = last if stays else nearest
        lane[k], offset[k] = last, found[last].offset
    return LaneTrack(lane, offset)


def lane_changes(motion: EgoMotion, roads: Roads, track: LaneTrack) -> list[Moment]:
    """Moves from the middle of one lane to the middle of its neighbour, which both go on."""
    moments = []
    for k in np.flatnonzero((track.lane[1:] != track.lane[:-1]) & (track.lane[:-1] >= 0)) + 1:
        old, new = int(track.lane[k - 1]), int(track.lane[k])
        if new < 0:
            continue
        here = {p.lane: p for p in places(roads, motion.xy[k], motion.heading[k], reach=6.0)}
        if old not in here or new not in here:
            continue  # one lane ended where the other began
        apart = here[old].offset - here[new].offset
        if not _BESIDE[0] <= abs(apart) <= _BESIDE[1]:
            continue
        begin = _last(np.abs(track.offset[:k]) < 0.5, track.lane[:k] == old)
        after = np.flatnonzero((track.lane[k:] == new) & (np.abs(track.offset[k:]) < _CENTRED))
        if begin is None or not len(after) or k - begin > 60:
            continue
        side = "left" if apart > 0 else "right"
        key = max(begin - round(REACTION_S * 10), 0)
        moments.append(
            Moment(
                float(motion.t[key]), float(motion.t[begin]), float(motion.t[k + after[0]]),
                Change.LANE_CHANGE, side, abs(apart),
            )
        )  # fmt: skip
    return moments


def nudges(motion: EgoMotion, roads: Roads, track: LaneTrack) -> list[Moment]:
    """Excursions from the usual offset within one lane that come back to it."""
    moments = []
    edges = np.flatnonzero(np.diff(track.lane)) + 1
    for begin, end in zip(np.append(0, edges), np.append(edges, len(track.lane))):
        number = int(track.lane[begin])
        if number < 0 or end - begin < 3 * _SHORTEST or roads.junction(number):
            continue
        offset = track.offset[begin:end]
        away = offset - np.median(offset)
        out = np.abs(away) > _NUDGE
        starts = np.flatnonzero(out & ~np.append(False, out[:-1]))
        for start in starts:
            stop = int(start + np.argmax(~np.append(out[start:], False)))
            first = _last(np.abs(away[:start]) < _BACK)
            later = np.flatnonzero(np.abs(away[stop:]) < _BACK)
            if first is None or not len(later) or not _SHORTEST <= stop - start <= _LONGEST:
                continue
            if motion.speed[begin + start] < _MOVES:
                continue
            size = float(away[start:stop][np.argmax(np.abs(away[start:stop]))])
            key = max(begin + first - round(REACTION_S * 10), 0)
            moments.append(
                Moment(
                    float(motion.t[key]), float(motion.t[begin + first]),
                    float(motion.t[begin + stop + later[0]]), Change.NUDGE,
                    "left" if size > 0 else "right", size,
                )
            )  # fmt: skip
    return moments


def leaves_lane(motion: EgoMotion, roads: Roads, track: LaneTrack, moment: Moment) -> bool:
    """Whether the ego's box crosses an edge of its lane between the moment's onset and end."""
    during = (motion.t >= moment.onset) & (motion.t <= moment.end) & (track.lane >= 0)
    widths = np.array([roads.lanes[i].width for i in track.lane[during]])
    return bool((np.abs(track.offset[during]) + _EGO_HALF > widths / 2).any())


def lane_actions(motion: EgoMotion, roads: Roads) -> np.ndarray:
    """`LaneAction` of every tick: int8 [N]; all `KEEP_LANE` without lanes or turns."""
    track = lane_track(motion, roads)
    labels = np.full(len(motion.t), LaneAction.KEEP_LANE, np.int8)
    for moment in turn_moments(motion):
        during = (motion.t >= moment.onset) & (motion.t <= moment.end)
        inside = [roads.junction(int(lane)) for lane in track.lane[during] if lane >= 0]
        turn = moment.change is Change.TURN and any(inside)
        first = LaneAction.TURN_LEFT if turn else LaneAction.FOLLOW_CURVE_LEFT
        labels[during] = first + (moment.side == "right")
    for moment in nudges(motion, roads, track):
        during = (motion.t >= moment.onset) & (motion.t <= moment.end)
        labels[during] = LaneAction.SLIGHTLY_SHIFT_LEFT + (moment.side == "right")
    for moment in lane_changes(motion, roads, track):
        during = (motion.t >= moment.onset) & (motion.t <= moment.end)
        labels[during] = LaneAction.LEFT_LANE_CHANGE + (moment.side == "right")
    return labels


def _last(*conditions: np.ndarray) -> int | None:
    both = np.flatnonzero(np.logical_and.reduce(conditions))
    return int(both[-1]) if len(both) else None
