"""Labels for tests of the review."""

import dataclasses

from alpamayo_jax.coc.component import Component, Kind
from alpamayo_jax.coc.decisions import Longitudinal
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.coc.schema import CocLabel


def label(clip="c0", keyframe_s=8.0, **changes):
    """A valid automatic label."""
    car = Component(
        Kind.OBJECT,
        {"type": "vehicle", "pose": "in_path", "motion": "slowing"},
        keyframe_s - 0.5,
        track=3,
        fact={"gap_m": 14.2},
    )
    return dataclasses.replace(
        CocLabel(
            clip=clip,
            keyframe_s=keyframe_s,
            scenario=ScenarioClass.SLOW_FOR_LEAD,
            longitudinal=Longitudinal.FOLLOW_LEAD,
            longitudinal_detail="slow",
            lateral=None,
            components=(car,),
            trace="Slow down because the vehicle ahead is slowing.",
            author="rules",
            provenance={"labeller": "rules"},
        ),
        **changes,
    )
