"""The policy that a configuration starts from."""

import dataclasses

import jax
import ml_collections

from alpamayo_jax import settings
from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.decode.policy import (
    Policy,
    adopt_compressor,
    describe_policy,
    load_policy,
    new_policy,
)
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.presets import preset, with_compressor
from alpamayo_jax.recipe.sections import section
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer


def make_policy(config: ml_collections.ConfigDict) -> Policy:
    """The policy to start from: `config.init_from` if that is given, else a random `config.preset`.

    Raises:
      InputError: the checkpoint is missing, damaged, or of another model.
    """
    if config.get("init_from"):
        policy = load_policy(config.init_from)
        model = _compressed(policy.config, config)
        rng = jax.random.key(config.seed)
        params = adopt_compressor(policy.params, policy.config, model, rng)
        return dataclasses.replace(policy, config=model, params=params)
    return new_policy(_preset(config), jax.random.key(config.seed))


def describe_start(config: ml_collections.ConfigDict) -> Policy:
    """As `make_policy`, with the shapes of the parameters in place of the parameters."""
    if config.get("init_from"):
        policy = describe_policy(config.init_from)
        model = _compressed(policy.config, config)
        return dataclasses.replace(policy, config=model, params=param_shapes(model))
    model = _preset(config)
    return Policy(config=model, params=param_shapes(model), tokenizer=tiny_tokenizer(model))


def _preset(config: ml_collections.ConfigDict) -> ModelConfig:
    if not config.preset:
        raise ConfigError(
            "there is nothing to start from: give init_from, a checkpoint directory, or preset"
        )
    return _compressed(preset(config.preset), config)


def _compressed(model: ModelConfig, config: ml_collections.ConfigDict) -> ModelConfig:
    """`model` with the compressor of section `vision`."""
    vision = section(settings.VisionSettings, config, "vision")
    return with_compressor(model, vision.compressor, vision.size)
