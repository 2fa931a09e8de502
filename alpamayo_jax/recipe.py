"""One `ConfigDict` -> data, policy and training: the only place where it becomes parts.

A configuration is what a file in `configs/` returns; its comments say what each knob means.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import ml_collections

from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.data.mirror import WithMirrored
from alpamayo_jax.data.pipeline import training_batches
from alpamayo_jax.data.sources import (
    ClipSource,
    Split,
    Window,
    make_source,
    split_by_clip,
    split_by_time,
)
from alpamayo_jax.decode.policy import Policy, new_policy
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.presets import preset
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.train.loop import History, train
from alpamayo_jax.train.objectives import LossFn, make_objective
from alpamayo_jax.train.optimiser import OptimiserConfig, make_optimiser
from alpamayo_jax.train.step import init_state, make_train_step

_FRAME_CACHE_MB = 512

# Which parameters each stage trains; the other half is frozen to the bit.
_LANGUAGE = r"vlm/.*"
_GROUPS = {
    "tokens": ((_LANGUAGE, 1.0), (r".*", 0.0)),
    "expert": ((_LANGUAGE, 0.0), (r".*", 1.0)),
}

_LEAST = {
    "seed": 0,
    "data.num_frames": 1,
    "data.max_length": 1,
    "data.max_train_windows": 0,
    "tokens.batch_size": 1,
    "expert.batch_size": 1,
    "expert.noises_per_row": 1,
    "eval.batch_size": 1,
    "eval.max_windows": 0,
    "eval.pictures": 0,
}


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses knobs that make no sense, before time is spent on the others.

    Raises:
      ConfigError: names the knob, or the setting made of it.
    """
    for knob, least in _LEAST.items():
        value = functools.reduce(getattr, knob.split("."), config)
        if value < least:
            raise ConfigError(f"{knob} is {value}, not {least} or more")
    if config.seed >= 2**32:
        raise ConfigError(f"seed is {config.seed}, not below 2**32")
    model = preset(config.preset)
    for name in _GROUPS:
        _objective(name, config, model)
        _optimiser_config(name, config)
    sample_settings(config)


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
    data = config.data
    if data.source == "clips":
        if not data.root:
            raise ConfigError("data.source=clips needs data.root, the folder of the clips")
        source = make_source("clips", root=data.root, cache_mb=_FRAME_CACHE_MB)
    else:
        total = data.num_clips + data.num_test_clips
        source = make_source(data.source, num_clips=total, seed=config.seed)
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
    training = _spread(split.train, data.max_train_windows)
    if not data.mirror:
        return Data(source, split, source, training)
    mirrored = tuple((number + len(source), t0) for number, t0 in training)
    return Data(source, split, WithMirrored(source), training + mirrored)


def _spread(windows: tuple[Window, ...], most: int) -> tuple[Window, ...]:
    """At most `most` windows, evenly spread over the list; 0 is all of them."""
    if not most or most >= len(windows):
        return windows
    return tuple(windows[i * len(windows) // most] for i in range(most))


def _seconds(knob: str, value: Any) -> tuple[float | None, float | None]:
    numbers = [v for v in value if isinstance(v, (int, float)) and not math.isnan(v)]
    if len(value) != 2 or len(numbers) + sum(v is None for v in value) != 2:
        raise ConfigError(f"{knob} must be (first, last) in seconds, None for an end, got {value}")
    return tuple(value)


def make_policy(config: ml_collections.ConfigDict) -> Policy:
    """An untrained policy of `config.preset`."""
    return new_policy(preset(config.preset), jax.random.key(config.seed))


def _last_token(stage: str, model: ModelConfig) -> int | None:
    """Where a stage's conversations may be cut: the expert reads nothing of the future's tokens."""
    return special_token_id(model, "traj_future_start") if stage == "expert" else None


def train_stage(
    name: str,
    config: ml_collections.ConfigDict,
    policy: Policy,
    data: Data,
    *,
    progress: bool = True,
) -> tuple[Policy, History]:
    """Trains one stage, "tokens" or "expert", by the section of `config` of that name.

    Returns:
      The policy with new parameters, and what was logged.

    Raises:
      ConfigError: an unknown stage, or no steps.
      TrainingDiverged: the loss is no longer finite.
    """
    if name not in _GROUPS:
        raise ConfigError(f"stage {name!r} is unknown; known: {', '.join(_GROUPS)}")
    stage = config[name]
    optimiser = make_optimiser(_optimiser_config(name, config), policy.params)
    batches = training_batches(
        data.training_source,
        data.training_windows,
        policy.processor,
        batch_size=stage.batch_size,
        seed=config.seed,
        num_frames=config.data.num_frames,
        pad_to=config.data.max_length,
        stop_after=_last_token(name, policy.config),
        cache_windows=True,
    )
    state, history = train(
        init_state(policy.params, optimiser),
        make_train_step(_objective(name, config, policy.config), optimiser),
        iter(batches),
        stage.steps,
        jax.random.fold_in(jax.random.key(config.seed), list(_GROUPS).index(name)),
        name=f"train {name}",
        progress=progress,
    )
    return dataclasses.replace(policy, params=state.params), history


def _objective(name: str, config: ml_collections.ConfigDict, model: ModelConfig) -> LossFn:
    knob = "noises_per_row" if name == "expert" else "mean"
    return make_objective(name, model, **{knob: config[name][knob]})


def _optimiser_config(name: str, config: ml_collections.ConfigDict) -> OptimiserConfig:
    stage = config[name]
    try:
        return OptimiserConfig(
            learning_rate=stage.learning_rate,
            num_steps=stage.steps,
            warmup_steps=int(stage.warmup_fraction * stage.steps),
            weight_decay=stage.weight_decay,
            groups=_GROUPS[name],
        )
    except ConfigError as error:
        raise ConfigError(f"stage {name!r}: {error}") from error


def sample_settings(config: ml_collections.ConfigDict) -> SampleSettings:
    """How `config.eval` samples."""
    return SampleSettings(
        num_samples=config.eval.num_samples,
        max_new_tokens=config.eval.max_new_tokens,
        temperature=config.eval.temperature,
    )


def test_windows(config: ml_collections.ConfigDict, data: Data) -> tuple[Window, ...]:
    """The windows to evaluate on: all, or `eval.max_windows` of them evenly spread."""
    return _spread(data.split.test, config.eval.max_windows)
