"""What makes no sense in a configuration, found before time is spent on it."""

import dataclasses
import functools

import ml_collections

from alpamayo_jax import settings
from alpamayo_jax.config import ConfigError
from alpamayo_jax.recipe.sections import (
    STAGES,
    of_stage,
    sample_settings,
    section,
    stage_settings,
)
from alpamayo_jax.recipe.start import describe_start
from alpamayo_jax.rl.assemble import ACTORS, check_learning
from alpamayo_jax.rl.rewards.total import TotalReward
from alpamayo_jax.train import assemble
from alpamayo_jax.train.stages import check_stage

_LEAST = {
    "seed": 0,
    "data.num_frames": 1,
    "data.max_length": 1,
    "data.num_workers": 0,
    "data.cache_mb": 0,
    "run.log_every": 1,
    "run.save_every": 1,
    "run.keep_last": 1,
    "run.keep_best": 0,
    "run.validation_batches": 0,
    "data.max_train_windows": 0,
    "eval.batch_size": 1,
    "eval.max_windows": 0,
    "eval.pictures": 0,
    "closed_loop.scenes": 0,
    "closed_loop.seconds": 4.0,
    "closed_loop.plan_every": 1,
}


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses knobs that make no sense, before time is spent on the others.

    Raises:
      ConfigError: names the knob, or the setting made of it.
    """
    for knob, least in _LEAST.items():
        *sections, name = knob.split(".")
        knobs = functools.reduce(lambda c, key: c.get(key, {}), sections, config)
        if name in knobs and knobs[name] < least:
            raise ConfigError(f"{knob} is {knobs[name]}, not {least} or more")
    if config.seed >= 2**32:
        raise ConfigError(f"seed is {config.seed}, not below 2**32")
    model = describe_start(config).config
    for name in [name for name in STAGES if name in config]:
        stage = stage_settings(name, config)
        if stage.objective in ACTORS:
            rl = section(settings.RLSettings, config, "rl")
            check_learning(name, stage, rl, model)
            reward = section(settings.RewardSettings, config, "reward")
            if reward.critic == "local":  # its checkpoint is read when it is needed
                reward = dataclasses.replace(reward, critic="structured")
            TotalReward.from_config(reward)
        else:
            check_stage(name, stage, model)
        section(settings.DataSettings, of_stage(name, config), "data")
    assemble.training_config(model, section(settings.PrecisionSettings, config, "precision"))
    if "eval" in config:
        sample_settings(config)
