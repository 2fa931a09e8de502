"""Windows as a row of moments, for interleaved prediction: one for every frame of a camera."""

from typing import Sequence

import numpy as np

from alpamayo_jax.clip import GRID_TOLERANCE
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.mixture import Mixture
from alpamayo_jax.data.sources import ClipSource, Window
from alpamayo_jax.data.windows import FRAME_DT, PAST_S, observe, reasoning_at, target
from alpamayo_jax.types import Observation, Target


def check(source: ClipSource, pack_lengths: Sequence[int]) -> None:
    """Refuses what has no earlier moments, and rows that are packed by the length of one.

    Raises:
      ConfigError: says which.
    """
    if isinstance(source, Mixture) or hasattr(source, "example") or pack_lengths:
        raise ConfigError(
            "interleaved prediction supervises moments of drives: data.mixture, questions and "
            "data.pack_lengths are not for it"
        )


def with_moments(
    source: ClipSource, windows: Sequence[Window], num_frames: int
) -> tuple[Window, ...]:
    """The windows whose earlier moments have a history too, and reasoning where they have one.

    Before its label begins a moment has no reasoning, and none is not what should be learned.
    """
    back = PAST_S + (num_frames - 1) * FRAME_DT - GRID_TOLERANCE
    numbers = {number for number, _ in windows}
    starts = {number: source.clip(number).ego.t[0] for number in numbers}
    found = []
    for number, t0 in windows:
        clip, earlier = source.clip(number), FRAME_DT * np.arange(1, num_frames)
        explained = all(reasoning_at(clip, t0 - dt) for dt in earlier)
        if t0 - starts[number] >= back and (explained or not reasoning_at(clip, t0)):
            found.append((number, t0))
    return tuple(found)


def parts(
    source: ClipSource,
    windows: Sequence[Window],
    num_frames: int,
    cameras: Sequence[int] | None = None,
) -> list[tuple[list[Observation], list[Target]]]:
    """What is seen of each window, and what follows, after 1, 2, ... `num_frames` frames.

    Raises:
      InputError: a moment that the clip does not have, see `observe` and `target`.
    """
    found = []
    for count in range(1, num_frames + 1):
        back = (num_frames - count) * FRAME_DT
        moments = [(source.clip(number), t0 - back) for number, t0 in windows]
        found.append((
            [observe(clip, t, count, cameras) for clip, t in moments],
            [target(clip, t) for clip, t in moments],
        ))  # fmt: skip
    return found
