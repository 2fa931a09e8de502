"""A configuration becomes data, policy and training; what makes no sense is refused at once."""

import dataclasses
import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alpamayo_jax import config as config_lib
from alpamayo_jax import presets, recipe
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.sources import make_source
from alpamayo_jax.testing.clips import write_small_clip
from alpamayo_jax.testing.tiny import tiny_config
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.train import assemble, partition
from alpamayo_jax.types import InputError

CONFIG = pathlib.Path(__file__).resolve().parent.parent / "configs" / "tiny.py"


def get_config():
    spec = importlib.util.spec_from_file_location("tiny_config_file", CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


@pytest.fixture
def config():
    """configs/tiny.py with little to do."""
    config = get_config()
    config.data.update(num_clips=2, num_test_clips=1, train_stride_s=2.0, num_frames=1)
    config.tokens.update(steps=2, batch_size=2)
    config.sft.update(steps=2, batch_size=2)
    config.expert.update(steps=2, batch_size=2, noises_per_row=2)
    config.eval.update(num_samples=2, batch_size=2, max_new_tokens=4)
    config.lock()
    return config


def set_knob(config, knob, value):
    *path, name = knob.split(".")
    functools.reduce(getattr, path, config)[name] = value


class TestKnobs:
    def test_the_default_configuration_is_accepted(self):
        recipe.check(get_config())

    def test_it_has_few_knobs_and_each_is_read(self):
        config = get_config()
        knobs = [name for section in config.values() if hasattr(section, "keys")
                 for name in section]  # fmt: skip
        assert len(knobs) < 60
        root = CONFIG.parent.parent
        readers = ("recipe.py", "train/stages.py", "train/assemble.py")
        text = "".join((root / "alpamayo_jax" / name).read_text() for name in readers)
        text += (root / "experiments" / "pipeline.py").read_text()
        text += "".join(path.read_text() for path in (root / "alpamayo_jax" / "rl").rglob("*.py"))
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
    def test_what_makes_no_sense_is_refused(self, config, knob, value, words):
        set_knob(config, knob, value)
        with pytest.raises(ConfigError, match=words):
            recipe.check(config)

    def test_sampling(self, config):
        settings = recipe.sample_settings(config)
        assert (settings.num_samples, settings.max_new_tokens) == (2, 4)
        assert settings.temperature == config.eval.temperature


class TestData:
    def test_procedural_clips_are_split_by_clip(self, config):
        data = recipe.make_data(config)
        assert len(data.source) == 3
        assert {number for number, _ in data.split.train} == {0, 1}
        assert {number for number, _ in data.split.test} == {2}
        # Each drive that trains is there once more, mirrored; those that test are not.
        assert {number for number, _ in data.training_windows} == {0, 1, 3, 4}
        assert len(data.training_windows) == 2 * len(data.split.train)
        assert data.training_source.clip(3).clip_id == data.source.clip(0).clip_id + "-mirrored"

    def test_without_mirror(self, config):
        config.data.mirror = False
        data = recipe.make_data(config)
        assert data.training_windows == data.split.train
        assert data.training_source is data.source

    def test_another_seed_gives_other_drives(self, config):
        first = recipe.make_data(config).source.clip(0)
        config.seed = 1
        other = recipe.make_data(config).source.clip(0)
        assert first.clip_id != other.clip_id

    def test_recorded_clips_are_split_by_time(self, config, tmp_path):
        write_small_clip(tmp_path / "a", seconds=30.0, cameras=())
        config.data.update(
            source="clips",
            root=str(tmp_path),
            train_seconds=(0.0, 15.0),
            test_seconds=(16.0, None),
            train_stride_s=0.5,
        )
        data = recipe.make_data(config)
        train, test = (np.array([t0 for _, t0 in w]) for w in (data.split.train, data.split.test))
        assert train.min() - 1.6 >= -1e-6 and train.max() + 6.4 <= 15.0 + 1e-6
        assert test.min() - 1.6 >= 16.0 - 1e-6 and test.max() + 6.4 <= 30.0 + 1e-6
        assert len(test) > 3
        assert {number for number, _ in data.training_windows} == {0, 1}

    @pytest.mark.parametrize(
        "knobs, error, words",
        [
            ({"source": "clips"}, ConfigError, "needs data.root"),
            ({"source": "clips", "root": "/no/such"}, InputError, "/no/such is not a folder"),
            ({"source": "films"}, ConfigError, "data.source 'films' is unknown"),
            ({"num_test_clips": 0}, ConfigError, "num_test_clips 0"),
            ({"num_clips": 0}, ConfigError, "leave clips for both"),
            ({"train_stride_s": 0.15}, InputError, "stride_s is 0.15"),
            ({"test_stride_s": float("nan")}, InputError, "stride_s is nan"),
        ],
    )
    def test_data_that_is_not_there(self, config, knobs, error, words):
        config.data.update(knobs)
        with pytest.raises(error, match=words):
            recipe.make_data(config)

    @pytest.mark.parametrize(
        "seconds", [(16.0,), ("(8., inf)",), (16.0, "end"), (float("nan"), 20.0), (1.0, 2.0, 3.0)]
    )
    def test_a_range_is_two_times(self, config, tmp_path, seconds):
        write_small_clip(tmp_path / "a", seconds=30.0, cameras=())
        config.data.update(source="clips", root=str(tmp_path), test_seconds=seconds)
        with pytest.raises(ConfigError, match="data.test_seconds must be"):
            recipe.make_data(config)

    def test_overlapping_ranges_are_refused(self, config, tmp_path):
        write_small_clip(tmp_path / "a", seconds=30.0, cameras=())
        config.data.update(source="clips", root=str(tmp_path), test_seconds=(40.0, None))
        with pytest.raises(ConfigError, match="overlap"):
            recipe.make_data(config)

    def test_windows_to_test_are_evenly_spread(self, config):
        config.data.test_stride_s = 0.5
        data = recipe.make_data(config)
        windows = data.split.test
        assert recipe.test_windows(config, data) == windows
        config.eval.max_windows = 5
        chosen = recipe.test_windows(config, data)
        assert len(chosen) == 5 and chosen[0] == windows[0]
        steps = np.diff([windows.index(w) for w in chosen])
        assert steps.max() - steps.min() <= 1
        config.eval.max_windows = 10_000
        assert recipe.test_windows(config, data) == windows


@pytest.fixture
def small_preset(monkeypatch):
    """A preset that compiles in seconds: testing.tiny with the trajectory length of the clips."""
    tokens = dataclasses.replace(tiny_config().trajectory_tokens, tokens_per_future_traj=128)
    small = tiny_config(action=config_lib.ActionSpaceConfig(), trajectory_tokens=tokens)
    monkeypatch.setitem(presets.PRESETS, "small", lambda: small)
    return "small"


class TestStages:
    @pytest.mark.parametrize(
        "name, moving",
        [("tokens", {"vlm"}), ("sft", {"vlm"}), ("expert", {"expert", "action_in_proj", "action_out_proj"})],
    )
    def test_a_stage_moves_its_half(self, config, small_preset, monkeypatch, name, moving):
        """The step is replaced by one update with a gradient of ones."""
        batches = []

        def step_with(objective, optimiser, **options):
            @jax.jit
            def update(state):
                trainable, frozen = partition.split(state.params, optimiser.factors)
                gradient = jax.tree.map(jnp.ones_like, trainable)
                updates, _ = optimiser.transform.update(gradient, state.opt_state, trainable)
                params = partition.merge(optax.apply_updates(trainable, updates), frozen)
                return dataclasses.replace(state, step=state.step + 1, params=params)

            def step(state, batch, rng):
                batches.append(batch)
                return update(state), {"loss": jnp.float32(1), "grad_norm": jnp.float32(1)}

            return step

        monkeypatch.setattr(assemble, "make_train_step", step_with)
        config.preset = small_preset
        config.data.max_length = 600
        config[name].warmup_fraction = 0.0
        data, before = recipe.make_data(config), recipe.make_policy(config)
        after, history = recipe.train_stage(name, config, before, data, progress=False)
        assert self.changed(before, after) == moving
        assert history.steps == [2] and len(batches) == 2
        ids = batches[0].inputs.input_ids
        future = special_token_id(before.config, "traj_future")
        if name != "expert":
            assert ids.shape == (2, 600) and ((ids == future).sum(-1) == 128).all()
        else:  # the expert reads nothing of the future's tokens
            assert ids.shape[0] == 2 and not (ids == future).any()
        assert after.tokenizer is before.tokenizer and after.config == before.config

    def changed(self, one, two):
        """Top-level modules with a parameter that moved."""
        moved = jax.tree.map(
            lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), one.params, two.params
        )
        return {name for name, tree in moved.items() if any(jax.tree.leaves(tree))}

    def test_an_unknown_stage(self, config, small_preset):
        config.preset = small_preset
        policy = recipe.make_policy(config)
        with pytest.raises(ConfigError, match="stage 'dreams' is unknown; known: tokens, sft, grpo, expert"):
            recipe.train_stage("dreams", config, policy, None)

    def test_the_policy_follows_the_seed(self, config, small_preset):
        config.preset = small_preset
        first, again = recipe.make_policy(config), recipe.make_policy(config)
        assert self.changed(first, again) == set()
        config.seed = 1
        assert "vlm" in self.changed(first, recipe.make_policy(config))


def test_the_sources_that_the_configuration_offers_exist():
    assert make_source("procedural", num_clips=1, seed=0).clip(0).cameras
