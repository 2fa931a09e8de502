"""Sections of a configuration as dataclasses, and what each section of a stage minimises."""

from typing import Any

import ml_collections

from alpamayo_jax import settings
from alpamayo_jax.config import ConfigError, build
from alpamayo_jax.decode.settings import SampleSettings

# Sections that describe a stage, and what they minimise unless they say so. `train.py` has one; the
# pipeline has stage 1 (trajectory tokens), stage 2 (reasoning, then the trajectory), stage 3
# (reinforcement learning) and the expert.
STAGES = {
    "stage": "tokens",
    "tokens": "tokens",
    "sft": "tokens",
    "grpo": "grpo",
    "expert": "expert",
}

# Sections whose stages `train.py` runs before section `stage`, where there is no policy to start
# from.
EARLIER = ("sft", "expert")


def section(kind: type, config: ml_collections.ConfigDict, name: str) -> Any:
    """Section `name` as a `kind`; knobs that it leaves out have their defaults.

    Raises:
      ConfigError: a knob of it is unknown or of another type.
    """
    return build(kind, config[name].to_dict() if name in config else {}, f"{name}.")


def of_stage(name: str, config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """A copy in which knobs of section `NAME_data`, if there is one, replace those of `data`."""
    values = config.to_dict()
    values["data"] |= values.get(f"{name}_data", {})
    return ml_collections.ConfigDict(values)


def stage_settings(name: str, config: ml_collections.ConfigDict) -> settings.StageSettings:
    """Section `name`; knobs that it leaves out have their defaults.

    Raises:
      ConfigError: there is no such section, or a knob of it is unknown or of another type.
    """
    if name not in STAGES or name not in config:
        known = [stage for stage in STAGES if stage in config]
        raise ConfigError(f"stage {name!r} is unknown; known: {', '.join(known)}")
    values = {"objective": STAGES[name]} | config[name].to_dict()
    return build(settings.StageSettings, values, f"{name}.")


def sample_settings(config: ml_collections.ConfigDict) -> SampleSettings:
    """How `config.eval` samples."""
    return SampleSettings(
        num_samples=config.eval.num_samples,
        max_new_tokens=config.eval.max_new_tokens,
        temperature=config.eval.temperature,
    )
