"""Which clips and windows a configuration trains and tests on."""

import numpy as np
import pytest

from alpamayo_jax import recipe
from alpamayo_jax.config import ConfigError
from alpamayo_jax.testing.clips import write_small_clip
from alpamayo_jax.types import InputError


def test_procedural_clips_are_split_by_clip(config):
    data = recipe.make_data(config)
    assert len(data.source) == 3
    assert {number for number, _ in data.split.train} == {0, 1}
    assert {number for number, _ in data.split.test} == {2}
    # Each drive that trains is there once more, mirrored; those that test are not.
    assert {number for number, _ in data.training_windows} == {0, 1, 3, 4}
    assert len(data.training_windows) == 2 * len(data.split.train)
    assert data.training_source.clip(3).clip_id == data.source.clip(0).clip_id + "-mirrored"


def test_without_mirror(config):
    config.data.mirror = False
    data = recipe.make_data(config)
    assert data.training_windows == data.split.train
    assert data.training_source is data.source


def test_another_seed_gives_other_drives(config):
    first = recipe.make_data(config).source.clip(0)
    config.seed = 1
    other = recipe.make_data(config).source.clip(0)
    assert first.clip_id != other.clip_id


def test_recorded_clips_are_split_by_time(config, tmp_path):
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
def test_data_that_is_not_there(config, knobs, error, words):
    config.data.update(knobs)
    with pytest.raises(error, match=words):
        recipe.make_data(config)


@pytest.mark.parametrize(
    "seconds", [(16.0,), ("(8., inf)",), (16.0, "end"), (float("nan"), 20.0), (1.0, 2.0, 3.0)]
)
def test_a_range_is_two_times(config, tmp_path, seconds):
    write_small_clip(tmp_path / "a", seconds=30.0, cameras=())
    config.data.update(source="clips", root=str(tmp_path), test_seconds=seconds)
    with pytest.raises(ConfigError, match="data.test_seconds must be"):
        recipe.make_data(config)


def test_overlapping_ranges_are_refused(config, tmp_path):
    write_small_clip(tmp_path / "a", seconds=30.0, cameras=())
    config.data.update(source="clips", root=str(tmp_path), test_seconds=(40.0, None))
    with pytest.raises(ConfigError, match="overlap"):
        recipe.make_data(config)


def test_windows_to_test_are_evenly_spread(config):
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
