"""Whether a trajectory does what the reasoning before it says.

The paper compares the meta-actions of the predicted trajectory with the intent of the reasoning and
gives 1 only where both axes agree, 0 where the reasoning cannot be parsed; it does not publish how
the two are matched. The rules here are ours:

Speed. What counts is the first change: the first run of meta-actions that does not keep the speed
(or, from standstill, does not stand). Lower-case words are details of a decision.

    slow                       the first change is to a lower speed
    stop                       so is it, and the speed falls under its half; or it never moves
    stay_stopped               stands for the first one and a half seconds
    start, faster              the first change is to a higher speed
    keep                       moves, and nothing changes within three seconds; of speed adaptation
                               (a low speed through a curve): no higher speed within three seconds
    yield                      as slow, or stands
    lead_obstacle_following    anything but a strong acceleration within three seconds
    speed_adaptation           the first change is not to a higher speed
    stop_for_static_constraint as stop
    set_speed_tracking, acceleration_for_passing   the first change is not to a lower speed
    gap_searching              does not stand
    no decision                anything

Backing up agrees with nothing that can be decided.

Path. `aside` is how many metres a path goes to one side beyond what a course that turns one way
only would: the integral of the heading over the larger (left; right: under the smaller) of its
first and its last heading. Following a curve gives 0, a lane change its width.

    turn                       turns to that side by at least 0.35 rad
    lane_change, *_nudge       goes aside to that side first, by at least 1.0 m or 0.4 m, or has
                               begun to: the last heading is 0.05 to 0.35 rad to that side
    merge_split, lateral_maneuver_abort   anything but an unsaid turn
    pull_over                  as lane keeping, or aside to the right
    lane_keeping, no decision  no step aside of 1.0 m where no bend is named, and no unsaid turn:
                               0.6 rad with sharp steering, to a side to which no bend is named
"""

import dataclasses

import numpy as np

from alpamayo_jax.action.meta_actions import (
    LateralAction,
    LongitudinalAction,
    lateral_actions,
    longitudinal_actions,
    motion_of,
)
from alpamayo_jax.coc.decisions import Lateral, Longitudinal, SpeedDetail
from alpamayo_jax.coc.intent import Intent, parse_intent
from alpamayo_jax.rl.rewards.base import Episodes, Scores

_SOON, _WAIT = 30, 15  # ticks in which a kept speed may not change, and a standing ego stands
_HALF = 0.5  # of the first speed, under which it falls where the ego stops
_TURN, _UNSAID_TURN = 0.35, 0.6  # rad
_CHANGE_LANE, _NUDGE, _STEP = 1.0, 0.4, 1.0  # metres aside
_BEGUN = 0.05  # rad
_STANDS = 0.3  # m/s

_FASTER = (LongitudinalAction.GENTLE_ACCELERATE, LongitudinalAction.STRONG_ACCELERATE)
_SLOWER = (
    LongitudinalAction.GENTLE_DECELERATE,
    LongitudinalAction.STRONG_DECELERATE,
    LongitudinalAction.STOP,
    LongitudinalAction.REVERSE,
)


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """What trajectories do, each [...].

    Attributes:
      change: sign of the first change of speed, 0 where there is none.
      onset: its tick, or the number of ticks.
      stands: whether the ego stands at first.
      waits: ticks for which it goes on standing.
      halves: whether the speed falls under half the first.
      strong: whether it accelerates strongly within three seconds.
      backs: whether it backs up.
      turned: radians from the first to the last heading, left positive.
      sharp: whether it steers sharply.
      aside: metres aside, [..., 2]: left, right.
      left_first: whether it is farthest left of its course before it is farthest right.
    """

    change: np.ndarray
    onset: np.ndarray
    stands: np.ndarray
    waits: np.ndarray
    halves: np.ndarray
    strong: np.ndarray
    backs: np.ndarray
    turned: np.ndarray
    sharp: np.ndarray
    aside: np.ndarray
    left_first: np.ndarray

    def at(self, index: tuple[int, ...]) -> "Behaviour":
        """Of one trajectory."""
        return Behaviour(*(getattr(self, f.name)[index] for f in dataclasses.fields(self)))


def behaviour_of(xyz: np.ndarray, rot: np.ndarray) -> Behaviour:
    """What trajectories [..., W, 3], [..., W, 3, 3] from t0 + 0.1 s on do; ego frame at t0."""
    origin = np.zeros_like(xyz[..., :1, :])
    upright = np.broadcast_to(np.eye(3, dtype=rot.dtype), (*rot.shape[:-3], 1, 3, 3))
    motion = motion_of(np.concatenate([origin, xyz], -2), np.concatenate([upright, rot], -3))
    speeds = longitudinal_actions(motion.speed)
    wheel = lateral_actions(motion.speed, motion.heading, motion.step)
    stands = speeds[..., 0] == LongitudinalAction.STOP
    faster, slower = np.isin(speeds, _FASTER), np.isin(speeds, _SLOWER)
    standing = np.logical_and.accumulate(speeds == LongitudinalAction.STOP, -1)
    changes = (faster | slower) & ~(standing & stands[..., None])
    ticks = speeds.shape[-1]
    onset = np.where(changes.any(-1), changes.argmax(-1), ticks)
    at = np.minimum(onset, ticks - 1)[..., None]
    up = np.take_along_axis(faster, at, -1)[..., 0]
    heading = np.unwrap(motion.heading, axis=-1)
    first, last = heading[..., :1], heading[..., -1:]
    over = np.maximum(heading - np.maximum(first, last), 0) * motion.step
    under = np.maximum(np.minimum(first, last) - heading, 0) * motion.step
    strong = speeds[..., :_SOON] == LongitudinalAction.STRONG_ACCELERATE
    sharp = np.isin(wheel, (LateralAction.SHARP_STEER_LEFT, LateralAction.SHARP_STEER_RIGHT))
    return Behaviour(
        change=np.where(onset < ticks, np.where(up, 1, -1), 0),
        onset=onset,
        stands=stands,
        waits=standing.sum(-1),
        halves=motion.speed.min(-1) < np.maximum(_HALF * motion.speed[..., 0], _STANDS),
        strong=strong.any(-1),
        backs=(speeds == LongitudinalAction.REVERSE).any(-1),
        turned=(last - first)[..., 0],
        sharp=sharp.any(-1),
        aside=np.stack([over.sum(-1), under.sum(-1)], -1),
        left_first=over.argmax(-1) <= under.argmax(-1),
    )


def agrees(intent: Intent, does: Behaviour) -> bool:
    """Whether one trajectory does what is said, on both axes; the rules are above."""
    return bool(_speed_agrees(intent, does)) and bool(_path_agrees(intent, does))


def _speed_agrees(intent: Intent, does: Behaviour) -> bool:
    soon, decision, said = does.onset < _SOON, intent.longitudinal, intent.speed
    stays = does.stands and does.change == 0
    if does.backs:
        return False
    if decision is None:
        return True
    if said == SpeedDetail.STAY_STOPPED:
        return does.waits >= _WAIT
    if said == SpeedDetail.STOP or (not said and decision is Longitudinal.STOP):
        return stays or (does.change < 0 and does.halves)
    if said in (SpeedDetail.START, SpeedDetail.FASTER):
        return does.change > 0
    if decision is Longitudinal.YIELD:
        return does.change < 0 or does.waits >= _WAIT
    if said == SpeedDetail.SLOW:
        return does.change < 0
    if decision is Longitudinal.ADAPT_SPEED:
        return does.change <= 0 or (said == SpeedDetail.KEEP and not soon)
    if said == SpeedDetail.KEEP:
        return not does.stands and not (soon and does.change)
    if decision is Longitudinal.FOLLOW_LEAD:
        return not does.strong
    if decision is Longitudinal.SEARCH_GAP:
        return not does.stands
    return does.change >= 0 and not stays


def _path_agrees(intent: Intent, does: Behaviour) -> bool:
    left, right = does.aside
    decision, sign = intent.lateral, 1 if intent.side == "left" else -1
    if decision is Lateral.TURN:
        return sign * does.turned >= _TURN
    turns = does.sharp and abs(does.turned) >= _UNSAID_TURN
    unsaid = turns and ("left" if does.turned > 0 else "right") not in intent.bends
    if unsaid:
        return False
    if decision in (Lateral.LANE_CHANGE, Lateral.IN_LANE_NUDGE, Lateral.OUT_OF_LANE_NUDGE):
        least = _CHANGE_LANE if decision is Lateral.LANE_CHANGE else _NUDGE
        ours, other = (left, right) if sign > 0 else (right, left)
        first = does.left_first == (sign > 0) or other < _NUDGE
        begun = other < _NUDGE and _BEGUN <= sign * does.turned < _TURN
        return begun or (ours >= least and first)
    if decision in (Lateral.MERGE_SPLIT, Lateral.ABORT):
        return True
    if decision is Lateral.PULL_OVER:
        return left < _STEP
    return bool(intent.bends) or (left < _STEP and right < _STEP)


class Consistency:
    """1 where a valid trajectory does what its reasoning says on both axes, else 0."""

    name, unit, low, high, cost = "consistency", "", 0.0, 1.0, False

    def __call__(self, episodes: Episodes) -> Scores:
        """Needs neither a reference nor a model."""
        does = behaviour_of(episodes.xyz, episodes.rot)
        values = np.zeros(episodes.shape, np.float32)
        for index in zip(*np.nonzero(episodes.trajectory_valid)):
            intent = parse_intent(episodes.reasoning[index[0]][index[1]])
            values[index] = intent is not None and agrees(intent, does.at(index))
        known = np.ones(episodes.shape, bool)
        return Scores(values, known, known)
