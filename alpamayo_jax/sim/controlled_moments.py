"""Moments whose right decision is known: causes, decisions, manoeuvres, and how they are spoilt.

World frame: the ego frame at t0; metres, seconds, radians.
"""

import dataclasses
import enum

import numpy as np

from alpamayo_jax.coc.decisions import Lateral, Longitudinal, Side, SpeedDetail
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.coc.schema import CocLabel, Component, Kind
from alpamayo_jax.sim.controlled_picture import Box

T0 = 1.6  # of the one window of a clip
SPEEDS = (6.0, 7.0, 8.0)  # m/s
STOP_S, NUDGE_S = 4.0, 3.0  # how long a stop and a step aside take
NUDGE = 1.8  # metres aside
FRONT = 3.85  # metres from the rear axle to the front bumper
_CAR = (4.6, 1.9, 1.6)  # length, width, height
_COAT = (230.0, 60.0, 200.0)
_BRAKE, _HAZARD, _HEAD = (255.0, 36.0, 24.0), (255.0, 160.0, 20.0), (255.0, 255.0, 235.0)


class Cause(enum.StrEnum):
    """What the picture shows."""

    CLEAR = "clear"
    GREEN = "green_light"
    RED = "red_light"
    STOPPED = "stopped_vehicle"
    PERSON = "person"
    RIGHT = "parked_right"
    LEFT = "parked_left"


class Manoeuvre(enum.StrEnum):
    """What is driven."""

    KEEP = "keep"
    STOP = "stop"
    LEFT = "left"
    RIGHT = "right"


@dataclasses.dataclass(frozen=True)
class Decision:
    """What a cause asks for; fields as in `CocLabel`, `kind` and `attributes` of its component."""

    manoeuvre: Manoeuvre
    trace: str
    scenario: ScenarioClass
    kind: Kind
    attributes: dict[str, str]
    longitudinal: Longitudinal | None = None
    detail: str = ""
    lateral: Lateral | None = None
    side: str = ""


_KEEPS = (Longitudinal.SET_SPEED, SpeedDetail.KEEP)
_LIGHT = {"arrow": "none", "visibility": "clear"}


def _parked(side: str, to: str) -> Decision:
    return Decision(
        Manoeuvre(to), f"Nudge to the {to} to pass the parked vehicle on the {side}.",
        ScenarioClass.NUDGE, Kind.OBJECT,
        {"type": "vehicle", "pose": side, "motion": "parked"},
        lateral=Lateral.OUT_OF_LANE_NUDGE, side=Side(to),
    )  # fmt: skip


DECISIONS: dict[Cause, Decision] = {
    Cause.CLEAR: Decision(
        Manoeuvre.KEEP, "Keep the speed because the lane ahead is clear.",
        ScenarioClass.INTERSECTION, Kind.LANE, {"type": "clear_road", "state": "free"}, *_KEEPS,
    ),
    Cause.GREEN: Decision(
        Manoeuvre.KEEP, "Keep the speed because the traffic light is green.",
        ScenarioClass.INTERSECTION, Kind.LIGHT, _LIGHT | {"state": "green"}, *_KEEPS,
    ),
    Cause.RED: Decision(
        Manoeuvre.STOP, "Stop because the traffic light is red.",
        ScenarioClass.STOP_FOR_CONTROL, Kind.LIGHT, _LIGHT | {"state": "red"},
        Longitudinal.STOP, SpeedDetail.STOP,
    ),
    Cause.STOPPED: Decision(
        Manoeuvre.STOP, "Stop because the vehicle ahead is stopped.",
        ScenarioClass.STOP_FOR_LEAD, Kind.OBJECT,
        {"type": "vehicle", "pose": "in_path", "motion": "stopped"},
        Longitudinal.FOLLOW_LEAD, SpeedDetail.STOP,
    ),
    Cause.PERSON: Decision(
        Manoeuvre.STOP, "Stop to yield because the pedestrian is crossing.",
        ScenarioClass.YIELD_TO_VRU, Kind.OBJECT,
        {"type": "pedestrian", "pose": "in_path", "motion": "crossing"},
        Longitudinal.YIELD, SpeedDetail.STOP,
    ),
    Cause.RIGHT: _parked("right", "left"),
    Cause.LEFT: _parked("left", "right"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Moment:
    """One drawn clip.

    Attributes:
      cause: what there is; the truth.
      said: whose reasoning the clip has.
      driven: what its ego does.
      speed: at t0, m/s.
      distance: metres from the rear axle to where a stop ends, or beside what is passed.
      look: seed of colours and brightness.
    """

    cause: Cause
    said: Cause
    driven: Manoeuvre
    speed: float
    distance: float
    look: int

    @property
    def decision(self) -> Decision:
        """The right one."""
        return DECISIONS[self.cause]

    @property
    def reasons_right(self) -> bool:
        """Whether the reasoning is true."""
        return self.said is self.cause

    @property
    def acts_as_said(self) -> bool:
        """Whether the trajectory does what the reasoning says."""
        return self.driven is DECISIONS[self.said].manoeuvre


def draw(
    seed: int, index: int, wrong_reasoning: float = 0.0, wrong_trajectory: float = 0.0
) -> Moment:
    """Draws clip `index` of source `seed`; the cause does not depend on the shares.

    Args:
      seed, index: what the clip depends on.
      wrong_reasoning: share of clips whose reasoning names another cause, each equally often.
      wrong_trajectory: share of clips in which another manoeuvre is driven than the reasoning asks
        for, each equally often; whether the reasoning is right makes no difference.
    """
    rng = np.random.default_rng([seed, index])
    causes, manoeuvres = list(Cause), list(Manoeuvre)
    cause = said = causes[rng.integers(len(causes))]
    speed, look = SPEEDS[rng.integers(len(SPEEDS))], int(rng.integers(2**31))
    room, wrong, contrary = rng.random(3)
    other, another = rng.integers(len(causes) - 1), rng.integers(len(manoeuvres) - 1)
    if wrong < wrong_reasoning:
        said = [c for c in causes if c is not cause][other]
    driven = DECISIONS[said].manoeuvre
    if contrary < wrong_trajectory:
        driven = [m for m in manoeuvres if m is not driven][another]
    reach = 2.4 if cause in (Cause.LEFT, Cause.RIGHT) else STOP_S / 2
    return Moment(cause, said, driven, speed, reach * speed + 2.0 * room, look)


def drive(manoeuvre: Manoeuvre, speed: float, times: np.ndarray) -> np.ndarray:
    """Poses (x, y, heading) [N, 3] at `times` [N] seconds after t0; before it, straight on.

    A stop brakes evenly; a step aside follows a polynomial without jumps of curvature, and stays.
    """
    t = np.maximum(times, 0.0)
    x, y, slope = speed * times, np.zeros_like(t), np.zeros_like(t)
    if manoeuvre is Manoeuvre.STOP:
        braked = np.minimum(t, STOP_S)
        x = np.where(times < 0, x, speed * (braked - braked**2 / (2 * STOP_S)))
    elif manoeuvre is not Manoeuvre.KEEP:
        u = np.minimum(t / NUDGE_S, 1.0)
        aside = NUDGE if manoeuvre is Manoeuvre.LEFT else -NUDGE
        y = aside * u**3 * (10 - 15 * u + 6 * u**2)
        slope = aside * 30 * u**2 * (1 - u) ** 2 / (NUDGE_S * speed)
    return np.stack([x, y, np.arctan(slope)], -1)


def boxes(moment: Moment, times: np.ndarray) -> list[Box]:
    """The other road users at `times` [N] seconds after t0, those that matter for the decision.

    Whoever keeps going meets them: they are where the ego would be. Whoever stops in time, or moves
    to the right side, does not.
    """
    zero, rng = np.zeros_like(times), np.random.default_rng(moment.look)
    bumper = moment.distance + FRONT
    meets = (bumper + 1.5 - FRONT / 2) / moment.speed  # when who keeps going is at what crosses
    sign = 1.0 if rng.random() < 0.5 else -1.0
    paint = tuple(rng.uniform((0.0, 25.0, 100.0), (50.0, 100.0, 200.0)))
    if moment.cause is Cause.RED:
        x, y = np.full_like(times, bumper + 3.5), sign * 7.0 * (times - meets - 0.3)
        return [Box("VEHICLE", x, y, zero + sign * np.pi / 2, (5.0, 2.0, 1.6), paint)]
    if moment.cause is Cause.STOPPED:
        x = np.full_like(times, bumper + 2.0 + 2.5)
        return [Box("VEHICLE", x, zero, zero, (5.0, 2.3, 2.2), paint, _BRAKE)]
    if moment.cause is Cause.PERSON:
        # With a pram, and slowly: large enough to be seen, and in view from the start.
        x, y = np.full_like(times, bumper + 2.0), sign * 0.5 * (times - meets - 0.2)
        return [Box("PEDESTRIAN", x, y, zero + sign * np.pi / 2, (1.5, 0.8, 1.8), _COAT)]
    x = np.full_like(times, moment.distance + FRONT + 2.4)
    if moment.cause is Cause.RIGHT:
        return [Box("VEHICLE", x, zero - 1.3, zero, _CAR, paint, _HAZARD)]
    if moment.cause is Cause.LEFT:  # where it stands, it faces the ego
        return [Box("VEHICLE", x, zero + 1.3, zero + np.pi, _CAR, paint, _HEAD, front_lit=True)]
    return []


def label_of(moment: Moment, clip_id: str) -> CocLabel:
    """The right label of a clip."""
    decision = moment.decision
    component = Component(decision.kind, dict(decision.attributes), seen_at=T0)
    return CocLabel(
        clip=clip_id,
        keyframe_s=T0,
        scenario=decision.scenario,
        longitudinal=decision.longitudinal,
        longitudinal_detail=decision.detail,
        lateral=decision.lateral,
        lateral_detail=decision.side,
        components=(component,),
        trace=decision.trace,
        author="rules",
    ).validate()
