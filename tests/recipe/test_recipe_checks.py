"""Configurations that make no sense are refused before time is spent on them."""

import functools
import pathlib

import ml_collections
import pytest

from alpamayo_jax import recipe, settings
from alpamayo_jax.config import ConfigError

ROOT = pathlib.Path(__file__).resolve().parents[2]


def set_knob(config, knob, value):
    *path, name = knob.split(".")
    functools.reduce(getattr, path, config)[name] = value


def test_the_default_configuration_is_accepted(get_config):
    recipe.check(get_config())


def test_it_has_few_knobs_and_each_is_read(get_config):
    config = get_config()
    knobs = [name for section in config.values() if hasattr(section, "keys")
             for name in section]  # fmt: skip
    assert len(knobs) < 60
    readers = [*(ROOT / "alpamayo_jax" / "recipe").glob("*.py")]
    readers += [ROOT / "alpamayo_jax" / "train" / name for name in ("stages.py", "assemble.py")]
    text = "".join(path.read_text() for path in readers)
    text += (ROOT / "experiments" / "pipeline.py").read_text()
    text += "".join(path.read_text() for path in (ROOT / "alpamayo_jax" / "rl").rglob("*.py"))
    named = [name for name in knobs if f".{name}" not in text and f'"{name}"' not in text]
    assert named == []


@pytest.mark.parametrize(
    "knob, value, words",
    [
        ("seed", -1, "seed is -1"),
        ("seed", 2**32, "below 2"),
        ("preset", "huge", "preset 'huge' is unknown"),
        ("data.num_frames", 0, "data.num_frames is 0"),
        ("data.max_length", 0, "data.max_length is 0"),
        ("tokens.steps", 0, "stage 'tokens'.*num_steps 0"),
        ("tokens.mean", "median", "token mean 'median' is unknown"),
        ("tokens.batch_size", 0, "tokens.batch_size is 0"),
        ("tokens.learning_rate", float("nan"), "stage 'tokens'.*learning_rate nan"),
        ("tokens.weight_decay", -1.0, "stage 'tokens'.*weight_decay -1.0"),
        ("tokens.warmup_fraction", 1.0, "stage 'tokens'.*warmup_steps"),
        ("expert.steps", -4, "stage 'expert'.*num_steps -4"),
        ("expert.learning_rate", 0.0, "stage 'expert'.*learning_rate 0.0"),
        ("expert.noises_per_row", 0, "expert.noises_per_row is 0"),
        ("eval.num_samples", 0, "num_samples 0"),
        ("eval.max_new_tokens", 0, "max_new_tokens 0"),
        ("eval.temperature", 0.0, "temperature 0.0"),
        ("eval.batch_size", 0, "eval.batch_size is 0"),
        ("eval.max_windows", -1, "eval.max_windows is -1"),
        ("eval.pictures", -1, "eval.pictures is -1"),
    ],
)
def test_what_makes_no_sense_is_refused(config, knob, value, words):
    set_knob(config, knob, value)
    with pytest.raises(ConfigError, match=words):
        recipe.check(config)


def test_sampling(config):
    settings = recipe.sample_settings(config)
    assert (settings.num_samples, settings.max_new_tokens) == (2, 4)
    assert settings.temperature == config.eval.temperature


def test_a_stage_may_have_its_own_data():
    config = settings.rl_config("micro")
    config.data.max_length = 200
    config.stage_data = ml_collections.ConfigDict(dict(wrong_reasoning=0.5))
    own = recipe.of_stage("stage", config)
    assert (own.data.wrong_reasoning, own.data.max_length) == (0.5, 200)
    assert "wrong_reasoning" not in config.data
    assert recipe.of_stage("sft", config).data == config.data
    recipe.check(config)
    config.stage_data = ml_collections.ConfigDict(dict(wrong_reasoning="half"))
    with pytest.raises(ConfigError, match="data.wrong_reasoning"):
        recipe.check(config)
