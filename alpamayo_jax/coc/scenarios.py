"""The sixteen classes of critical moments, and when each begins (table 3 of the paper).

Eleven are reactive: the keyframe is just before the ego reacts. Five are proactive: the ego watches
something for a while, and any moment of that range is a keyframe.
"""

import enum


class ScenarioClass(enum.StrEnum):
    """Why a moment was chosen."""

    SLOW_FOR_LEAD = "slow_for_lead"
    STOP_FOR_LEAD = "stop_for_lead"
    STOP_FOR_CONTROL = "stop_for_control"
    RESUME_AT_CONTROL = "resume_at_control"
    LANE_CHANGE = "lane_change"
    YIELD_TO_VRU = "yield_to_vru"
    CUT_IN = "vehicle_cut_in"
    SPEED_BUMP = "speed_bump"
    NUDGE = "nudge"
    CONSTRUCTION = "bypass_construction"
    RISKY_DRIVING = "risky_driving"
    CURVE = "curvy_road"
    PREPARE_LANE_CHANGE = "lane_change_preparation"
    PREPARE_NUDGE = "nudge_preparation"
    INTERSECTION = "passing_intersection"
    NO_YIELD_TO_VRU = "no_yield_to_vru"

    @property
    def proactive(self) -> bool:
        """Whether the class is a range of moments and not a reaction."""
        return self in PROACTIVE


PROACTIVE = frozenset(
    {
        ScenarioClass.CURVE,
        ScenarioClass.PREPARE_LANE_CHANGE,
        ScenarioClass.PREPARE_NUDGE,
        ScenarioClass.INTERSECTION,
        ScenarioClass.NO_YIELD_TO_VRU,
    }
)

# When the keyframe is, for people who label.
KEYFRAME_RULES: dict[ScenarioClass, str] = {
    ScenarioClass.SLOW_FOR_LEAD: "0.5 s before the ego slows down",
    ScenarioClass.STOP_FOR_LEAD: "0.5 s before the ego slows down to a stop",
    ScenarioClass.STOP_FOR_CONTROL: (
        "the later of 0.5 s before slowing down and the light turning yellow or red"
    ),
    ScenarioClass.RESUME_AT_CONTROL: (
        "the later of 0.5 s before moving off and the light turning green"
    ),
    ScenarioClass.LANE_CHANGE: "0.5 s before the ego leaves the middle of its lane",
    ScenarioClass.YIELD_TO_VRU: "before slowing down or moving aside",
    ScenarioClass.CUT_IN: (
        "the earlier of the other's blinker and its leaving the middle of its lane"
    ),
    ScenarioClass.SPEED_BUMP: "0.5 s before the ego slows down",
    ScenarioClass.NUDGE: "0.5 s before the ego moves aside",
    ScenarioClass.CONSTRUCTION: "before slowing down, moving aside or changing lane",
    ScenarioClass.RISKY_DRIVING: "before slowing down, moving aside or backing up",
    ScenarioClass.CURVE: (
        "from the earlier of 0.5 s before slowing down and entering the curve, to its end"
    ),
    ScenarioClass.PREPARE_LANE_CHANGE: (
        "from having a reason while the target lane is blocked, until the way is free"
    ),
    ScenarioClass.PREPARE_NUDGE: (
        "from having a reason while traffic blocks the way, until the way is free"
    ),
    ScenarioClass.INTERSECTION: (
        "from the front bumper crossing the stop line or crosswalk, until the ego is out"
    ),
    ScenarioClass.NO_YIELD_TO_VRU: (
        "from a person having the intent to cross and not crossing, until out of view"
    ),
}
