"""A label for tests of services."""

import dataclasses

from alpamayo_jax.coc.component import Component, Kind
from alpamayo_jax.coc.decisions import Lateral, Longitudinal
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.coc.schema import CocLabel


def stop_label(clip="c0", keyframe_s=8.0, **changes):
    """A valid label with two decisions and two components."""
    light = Component(Kind.LIGHT, {"state": "red"}, keyframe_s)
    route = Component(Kind.ROUTE, {"intent": "turn", "side": "left"}, keyframe_s - 1.0)
    return dataclasses.replace(
        CocLabel(
            clip=clip,
            keyframe_s=keyframe_s,
            scenario=ScenarioClass.STOP_FOR_CONTROL,
            longitudinal=Longitudinal.STOP,
            longitudinal_detail="stop",
            lateral=Lateral.TURN,
            lateral_detail="left",
            components=(light, route),
            trace="Stop because the traffic light is red, then turn left along the route.",
            author="ann",
        ),
        **changes,
    )
