"""The closed set of driving decisions: at most one of each channel, or none.

Seven longitudinal and eight lateral ones, as in table 1 of the paper, and what the released
automatic labeller calls them.
"""

import enum


class Longitudinal(enum.StrEnum):
    """What decides the speed right after the critical moment."""

    SET_SPEED = "set_speed_tracking"
    FOLLOW_LEAD = "lead_obstacle_following"
    ADAPT_SPEED = "speed_adaptation"
    SEARCH_GAP = "gap_searching"
    PASS = "acceleration_for_passing"
    YIELD = "yield"
    STOP = "stop_for_static_constraint"


class Lateral(enum.StrEnum):
    """What decides the path right after the critical moment."""

    KEEP_LANE = "lane_keeping"
    MERGE_SPLIT = "merge_split"
    OUT_OF_LANE_NUDGE = "out_of_lane_nudge"
    IN_LANE_NUDGE = "in_lane_nudge"
    LANE_CHANGE = "lane_change"
    PULL_OVER = "pull_over"
    TURN = "turn"
    ABORT = "lateral_maneuver_abort"


class SpeedDetail(enum.StrEnum):
    """How the speed changes under a longitudinal decision; optional."""

    KEEP = "keep"
    SLOW = "slow"
    STOP = "stop"
    STAY_STOPPED = "stay_stopped"
    START = "start"
    FASTER = "faster"


class Side(enum.StrEnum):
    """Where a lateral decision goes."""

    LEFT = "left"
    RIGHT = "right"
    MERGE = "merge"
    SPLIT = "split"


# Which details a lateral decision needs; the others take none.
SIDES: dict[Lateral, tuple[Side, ...]] = {
    Lateral.OUT_OF_LANE_NUDGE: (Side.LEFT, Side.RIGHT),
    Lateral.IN_LANE_NUDGE: (Side.LEFT, Side.RIGHT),
    Lateral.LANE_CHANGE: (Side.LEFT, Side.RIGHT),
    Lateral.TURN: (Side.LEFT, Side.RIGHT),
    Lateral.MERGE_SPLIT: (Side.MERGE, Side.SPLIT),
}

# The released labeller has no gap between kinds of nudge, and neither pulling over nor aborting.
RELEASED_LONGITUDINAL: dict[Longitudinal, str] = {
    Longitudinal.SET_SPEED: "Resume Speed",
    Longitudinal.FOLLOW_LEAD: "Keep Distance",
    Longitudinal.ADAPT_SPEED: "Adapt Speed",
    Longitudinal.SEARCH_GAP: "Gap-search",
    Longitudinal.PASS: "Pass/Overtake",
    Longitudinal.YIELD: "Yield",
    Longitudinal.STOP: "Stop",
}
RELEASED_LATERAL: dict[Lateral, str | None] = {
    Lateral.KEEP_LANE: "Keep Lane",
    Lateral.OUT_OF_LANE_NUDGE: "Nudge",
    Lateral.IN_LANE_NUDGE: "Nudge",
    Lateral.LANE_CHANGE: "Lane Change",
    Lateral.TURN: "Turn",
    Lateral.PULL_OVER: None,
    Lateral.ABORT: None,
}


def released_longitudinal(decision: Longitudinal | None) -> str | None:
    """The released labeller's name of a longitudinal decision."""
    return None if decision is None else RELEASED_LONGITUDINAL[decision]


def released_lateral(decision: Lateral | None, side: str = "") -> str | None:
    """The released labeller's name of a lateral decision; None where it has none for it.

    Args:
      decision: or None.
      side: of `MERGE_SPLIT`, "merge" or "split", which are two decisions there.
    """
    if decision is None:
        return None
    if decision is Lateral.MERGE_SPLIT:
        return Side(side).value.capitalize()
    return RELEASED_LATERAL[decision]


def longitudinal_from_released(name: str) -> Longitudinal:
    """The decision that the released labeller calls `name`; spelling of case does not matter.

    Raises:
      KeyError: it has no such decision.
    """
    names = {text.lower(): decision for decision, text in RELEASED_LONGITUDINAL.items()}
    return names[name.strip().lower()]


def lateral_from_released(name: str, crosses_line: bool = False) -> tuple[Lateral, str]:
    """(decision, "merge" or "split" where that is known) of a released name.

    Args:
      name: as the released labeller writes it; spelling of case does not matter.
      crosses_line: whether a nudge leaves the lane, which the released name does not say.

    Raises:
      KeyError: it has no such decision.
    """
    name = name.strip().lower()
    if name in ("merge", "split"):
        return Lateral.MERGE_SPLIT, name
    if name == "nudge":
        return (Lateral.OUT_OF_LANE_NUDGE if crosses_line else Lateral.IN_LANE_NUDGE), ""
    names = {text.lower(): decision for decision, text in RELEASED_LATERAL.items() if text}
    return names[name], ""
