"""Clips of a configuration, and which of their windows train and test."""

import dataclasses
import math
from typing import Any

import ml_collections

from alpamayo_jax import settings
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.mirror import WithMirrored
from alpamayo_jax.data.mixture import Mixture, Part
from alpamayo_jax.data.question_answering import QuestionSource
from alpamayo_jax.data.sources import (
    SOURCES,
    ClipSource,
    Split,
    Window,
    list_windows,
    make_source,
    split_by_clip,
    split_by_time,
    spread,
)
from alpamayo_jax.labelling.source import WithLabels
from alpamayo_jax.recipe.sections import section
from alpamayo_jax.sim.camera import RIGS

_FRAME_CACHE_MB = 512


@dataclasses.dataclass(frozen=True)
class Data:
    """Clips, and which of their windows train and test.

    Attributes:
      source: the clips.
      split: windows by clip number of `source`.
      training_source: what to train on; with mirrored clips if asked for.
      training_windows: windows by clip number of `training_source`.
    """

    source: ClipSource
    split: Split
    training_source: ClipSource
    training_windows: tuple[Window, ...]


def make_data(config: ml_collections.ConfigDict) -> Data:
    """The clips that `config.data` names, and their windows.

    Raises:
      ConfigError: a knob that makes no sense.
      InputError: clips that are not there, are defective or have no window in range.
    """
    data = section(settings.DataSettings, config, "data")
    source = _source(data, config.seed)
    if data.labels:
        source = WithLabels(source, data.labels)
    strides = dict(train_stride_s=data.train_stride_s, test_stride_s=data.test_stride_s)
    if data.source == "clips":
        split = split_by_time(
            source,
            _seconds("data.train_seconds", data.train_seconds),
            _seconds("data.test_seconds", data.test_seconds),
            num_frames=data.num_frames,
            **strides,
        )
    else:
        split = split_by_clip(source, data.num_test_clips, num_frames=data.num_frames, **strides)
    labelled = source.labelled(split.train) if data.labels else split.train
    training = spread(labelled, data.max_train_windows)
    training_source: ClipSource = source
    if data.mirror:
        training += tuple((number + len(source), t0) for number, t0 in training)
        training_source = WithMirrored(source)
    if data.mixture:
        parts = [Part(training_source, training)]
        parts += [_part(text, data) for text in data.mixture]
        training_source = Mixture(parts)
        training = training_source.windows
    return Data(source, split, training_source, training)


def _source(data: settings.DataSettings, seed: int) -> ClipSource:
    if data.source == "procedural":
        total = data.num_clips + data.num_test_clips
        return make_source("procedural", num_clips=total, seed=seed, **_rig(data))
    if data.source == "controlled":
        return make_source(
            "controlled",
            num_clips=data.num_clips,
            num_clean=data.num_test_clips,
            seed=seed,
            wrong_reasoning=data.wrong_reasoning,
            wrong_trajectory=data.wrong_trajectory,
            **_rig(data),
        )
    if data.source in SOURCES and not data.root:
        raise ConfigError(f"data.source={data.source} needs data.root, the folder of the clips")
    return _folder_source(data.source, data.root)


def _rig(data: settings.DataSettings) -> dict[str, Any]:
    """The simulated cameras; one is the source's own."""
    if data.cameras not in RIGS:
        known = ", ".join(map(str, RIGS))
        raise ConfigError(f"data.cameras is {data.cameras}; the simulated rigs have {known}")
    return {} if data.cameras == 1 else {"cameras": RIGS[data.cameras]}


def _folder_source(kind: str, path: str) -> ClipSource:
    place = "path" if kind == "store" else "root"
    return make_source(kind, cache_mb=_FRAME_CACHE_MB, **{place: path})


def _part(text: str, data: settings.DataSettings) -> Part:
    weight, _, rest = text.partition(" ")
    kind, _, path = rest.partition(" ")
    try:
        share = float(weight)
    except ValueError:
        share = math.nan
    simulated = kind in ("procedural", "controlled")
    if not (math.isfinite(share) and share > 0 and kind and path) or simulated:
        raise ConfigError(
            f"data.mixture {text!r} must be a weight above 0, clips, store, physical_ai or "
            f"questions, and a path"
        )
    if kind == "questions":
        questions = QuestionSource(path)
        return Part(questions, questions.windows, share)
    source = _folder_source(kind, path)
    windows = list_windows(source, stride_s=data.train_stride_s, num_frames=data.num_frames)
    return Part(source, windows, share)


def _seconds(knob: str, value: Any) -> tuple[float | None, float | None]:
    numbers = [v for v in value if isinstance(v, (int, float)) and not math.isnan(v)]
    if len(value) != 2 or len(numbers) + sum(v is None for v in value) != 2:
        raise ConfigError(f"{knob} must be (first, last) in seconds, None for an end, got {value}")
    return tuple(value)


def test_windows(config: ml_collections.ConfigDict, data: Data) -> tuple[Window, ...]:
    """The windows to evaluate on: all, or `eval.max_windows` of them evenly spread."""
    return spread(data.split.test, config.eval.max_windows)
