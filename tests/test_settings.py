"""The knobs of training: few, documented, read, and accepted in every file of configs/."""

import dataclasses
import importlib.util
import pathlib
import re

import pytest

from alpamayo_jax import recipe, settings
from alpamayo_jax.config import ConfigError

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECTIONS = {
    "data": settings.DataSettings,
    "vision": settings.VisionSettings,
    "stage": settings.StageSettings,
    "mesh": settings.MeshSettings,
    "precision": settings.PrecisionSettings,
    "run": settings.RunSettings,
}
RL_SECTIONS = {"rl": settings.RLSettings, "reward": settings.RewardSettings}
FILES = ("tokens_tiny", "sft_tiny", "expert_tiny", "lora_1gpu", "full_8gpu", "full_cluster")


def get_config(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def test_there_are_at_most_60():
    config = settings.train_config()
    assert set(config) == {"seed", "preset", "init_from", *SECTIONS}
    assert 3 + sum(len(config[name]) for name in SECTIONS) <= 60
    # What is not listed serves controlled drives only.
    for name, kind in SECTIONS.items():
        missing = {field.name for field in dataclasses.fields(kind)} - set(config[name])
        assert missing == ({"wrong_reasoning", "wrong_trajectory"} if name == "data" else set())


def test_reinforcement_learning_lists_at_most_60_too():
    config = settings.rl_config()
    assert set(config) == {"seed", "preset", "init_from", *SECTIONS, *RL_SECTIONS}
    assert 3 + sum(len(config[name]) for name in (*SECTIONS, *RL_SECTIONS)) <= 60
    for name in RL_FILES:
        config = get_config(name)
        assert sum(len(v) if hasattr(v, "keys") else 1 for v in config.values()) <= 70, name


@pytest.mark.parametrize("name", [*SECTIONS, *RL_SECTIONS])
def test_each_is_documented_and_read(name):
    kind = (SECTIONS | RL_SECTIONS)[name]
    package = ROOT / "alpamayo_jax"
    read = [*(package / "recipe").glob("*.py")]
    read += [package / "train" / file for file in ("assemble.py", "stages.py")]
    if name in RL_SECTIONS:
        read = (package / "rl").rglob("*.py")
    source = "".join(path.read_text() for path in read)
    source += (ROOT / "experiments" / "train.py").read_text()
    for field in dataclasses.fields(kind):
        assert re.search(rf"^      (\w+, )?{field.name}: \S", kind.__doc__, re.M), field.name
        whole_section = name in ("mesh", "precision")  # handed on as they are
        named = f'"{field.name}"' in source and name == "reward"  # weights, by their names
        assert whole_section or named or f".{field.name}" in source, field.name


RL_FILES = ("grpo_tiny", "grpo_expert_tiny", "grpo_8gpu")


@pytest.mark.parametrize("name", (*FILES, *RL_FILES))
def test_the_files_of_configs(name):
    config = get_config(name)
    if config.preset:
        recipe.check(config)
    else:
        with pytest.raises(ConfigError, match="nothing to start from: give init_from"):
            recipe.check(config)
        config.preset = "tiny"
        recipe.check(config)
    sections = set(settings.train_config() if name in FILES else settings.rl_config())
    earlier = {"sft", "expert", "sft_data", "expert_data"}
    assert sections <= set(config) <= sections | earlier


@pytest.mark.parametrize(
    "knob, value, words",
    [
        ("stage.objective", "dreams", "objective 'dreams' is unknown"),
        ("stage.steps", 0, "stage 'stage'.*num_steps 0"),
        ("stage.batch_size", 0, "stage.batch_size is 0"),
        ("stage.accumulate", 3, "batch_size 8 does not split into 3"),
        ("stage.accumulate", 0, "stage.accumulate is 0"),
        ("stage.ema_decay", 1.0, "stage.ema_decay is 1.0"),
        ("stage.vision_factor", -0.1, "stage.vision_factor is -0.1"),
        ("stage.lora_rank", -1, "stage.lora_rank is -1"),
        ("stage.remat", "some", "stage.remat 'some' is unknown"),
        ("stage.schedule", "steps", "schedule 'steps' is unknown"),
        ("stage.mean", "median", "token mean 'median' is unknown"),
        ("stage.learning_rate", float("inf"), "learning_rate inf"),
        ("data.num_workers", -1, "data.num_workers is -1"),
        ("data.cache_mb", -1, "data.cache_mb is -1"),
        ("stage.components", ("poem",), "'poem'"),
        ("precision.compute", "float8", "precision 'float8' must be"),
        ("precision.frozen", "int4", "precision 'int4' must be"),
        ("run.save_every", 0, "run.save_every is 0"),
        ("run.log_every", 0, "run.log_every is 0"),
        ("run.keep_last", 0, "run.keep_last is 0"),
        ("run.validation_batches", -2, "run.validation_batches is -2"),
        ("seed", -1, "seed is -1"),
        ("preset", "huge", "preset 'huge' is unknown"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(knob, value, words):
    config = settings.train_config()
    section, _, name = knob.rpartition(".")
    (config[section] if section else config)[name] = value
    with pytest.raises(ConfigError, match=words):
        recipe.check(config)


@pytest.mark.parametrize("objective", ["expert", "joint"])
def test_a_flow_without_trajectories_is_refused(objective):
    config = settings.train_config()
    config.stage.update(objective=objective, components=("cot", "traj_future"))
    recipe.check(config)
    config.stage.components = ("cot",)
    with pytest.raises(ConfigError, match="'traj_future'"):
        recipe.check(config)


@pytest.mark.parametrize(
    "knob, value, words",
    [
        ("stage.objective", "ppo", "objective 'ppo' is unknown"),
        ("rl.algorithm", "ppo", "rl.algorithm 'ppo' is unknown"),
        ("rl.num_samples", 1, "rl.num_samples is 1, not 2 or more"),
        ("rl.batches_per_rollout", 0, "rl.batches_per_rollout is 0"),
        ("rl.epochs", 0, "rl.epochs is 0"),
        ("rl.oversample", 0, "rl.oversample is 0"),
        ("rl.share_random", 1.5, "rl.share_random is 1.5"),
        ("rl.prompt_length", -1, "rl.prompt_length is -1"),
        ("rl.temperature", 0.0, "temperature"),
        ("rl.kl", -0.1, "rl.kl is -0.1"),
        ("rl.guard_growth", 1.0, "growth"),
        ("rl.eval_samples", 0, "rl.eval_samples is 0"),
        ("rl.picture_every", -1, "rl.picture_every is -1"),
        ("reward.max_ade", 0.0, "reward.max_ade is 0.0"),
        ("reward.consistency", -1.0, "consistency is -1.0"),
        ("reward.critic", "oracle", "reward.critic 'oracle' is unknown"),
        ("stage.batch_size", 0, "stage.batch_size is 0"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_in_reinforcement_learning(knob, value, words):
    config = settings.rl_config()
    section, _, name = knob.partition(".")
    config[section][name] = value
    with pytest.raises(ConfigError, match=words):
        recipe.check(config)


def test_lists_from_flags_are_tuples():
    config = settings.train_config()
    with config.ignore_type():
        config.stage.frozen = [r"vlm/visual/.*"]
    assert recipe.stage_settings("stage", config).frozen == (r"vlm/visual/.*",)


def test_an_unknown_stage():
    with pytest.raises(ConfigError, match="stage 'tokens' is unknown; known: stage"):
        recipe.stage_settings("tokens", settings.train_config())


def test_knobs_of_a_folder_that_may_change():
    """Where a run runs and what is watched is not part of what it is."""
    config = settings.train_config()
    config.data.update(num_clips=1, num_test_clips=1, train_stride_s=4.0)
    data = recipe.make_data(config)
    one = recipe.make_folder(config, data, pathlib.Path("a"))
    config.mesh.fsdp = -1
    config.run.save_every = 7
    config.data.root = "elsewhere"
    other = recipe.make_folder(config, data, pathlib.Path("a"))
    assert one.config == other.config and (one.save_every, other.save_every) == (500, 7)
    config.stage.learning_rate = 1.0
    assert recipe.make_folder(config, data, pathlib.Path("a")).config != one.config
    fewer = dataclasses.replace(data, training_windows=data.training_windows[1:])
    changed = recipe.make_folder(config, fewer, pathlib.Path("a")).config
    assert changed["data"]["windows"] != one.config["data"]["windows"]
