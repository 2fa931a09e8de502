"""The other road users of a window, as boxes that a predicted trajectory can run into.

Recorded agents are replayed: they do what they did, whatever the ego does instead.
"""

import dataclasses

import numpy as np

from alpamayo_jax.clip import GRID_DT, AgentTable, Clip
from alpamayo_jax.data.windows import NUM_FUTURE

GAP_S = 0.55  # a track is interpolated over gaps of its annotation up to this long


@dataclasses.dataclass(frozen=True)
class EgoBox:
    """The ego's outline: metres; `centre` is how far its centre is ahead of the rear axle."""

    length: float = 4.9
    width: float = 1.9
    centre: float = 1.4


@dataclasses.dataclass(frozen=True)
class Scene:
    """Boxes at t0 + 0.1 s, ..., in the ego frame at t0.

    Attributes:
      boxes: float32 [W, A, 5]: x, y of the centre, yaw, length, width; metres and radians. Where an
        agent is not annotated its box is all zeros.
      present: bool [W, A].
      ego: the ego's own box.
    """

    boxes: np.ndarray
    present: np.ndarray
    ego: EgoBox = EgoBox()
