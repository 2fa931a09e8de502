"""Stores, NVIDIA's data set and mixtures as the data of a training."""

import collections

import pytest

from alpamayo_jax import recipe
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data import ingest
from alpamayo_jax.data.mixture import Mixture
from alpamayo_jax.data.pipeline import row_order
from alpamayo_jax.settings import train_config
from alpamayo_jax.testing.clips import write_small_clip
from alpamayo_jax.testing.physical_ai import SmallSet, write_small_set
from alpamayo_jax.testing.questions import write_questions
from alpamayo_jax.types import InputError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("drives")
    for number in range(3):
        write_small_clip(root / f"clip{number}", seconds=8.4, seed=number, size=(32, 32))
    out = tmp_path_factory.mktemp("store")
    ingest.ingest("clips", {"root": str(root)}, out, progress=False)
    return out


@pytest.fixture
def config(store):
    config = train_config()
    config.data.update(
        source="store", root=str(store), num_test_clips=1, num_frames=1, max_length=600,
        train_stride_s=0.1,
    )  # fmt: skip
    return config


def test_a_store_is_split_by_clip(config):
    data = recipe.make_data(config)
    assert {number for number, _ in data.training_windows} == {0, 1}
    assert {number for number, _ in data.split.test} == {2}
    assert data.source.clip(2).clip_id == "clip2"


def test_physical_ai(config, tmp_path):
    pytest.importorskip("av")
    small = SmallSet(clips=(("a-0", "a-1"),), seconds=8.5, cameras=("camera_front_wide_120fov",))
    config.data.update(source="physical_ai", root=str(write_small_set(tmp_path / "set", small)))
    data = recipe.make_data(config)
    assert {number for number, _ in data.split.test} == {1}


def test_a_mixture(config, store, tmp_path):
    table = write_questions(tmp_path, 4)
    config.data.mixture = (f"0.5 store {store}", f"2 questions {table}")
    config.data.mirror = True
    data = recipe.make_data(config)
    assert isinstance(data.training_source, Mixture)
    assert data.training_source.weights == (1.0, 0.5, 2.0)
    assert len(data.training_source) == 6 + 3 + 4
    order = row_order(data.training_source, data.training_windows, seed=0)
    parts = collections.Counter((order[i][0] >= 6) + (order[i][0] >= 9) for i in range(70))
    assert [parts[k] for k in range(3)] == [20, 10, 40]
    training = recipe.make_training("stage", config, recipe.describe_start(config), data)
    batch = next(iter(training.batches))
    assert batch.inputs.input_ids.shape == (8, 600)
    rows = training.windows(0)
    assert len(rows) == 8 and any(row["clip_id"].startswith("segment") for row in rows)
    config.stage.objective = "expert"
    with pytest.raises(ConfigError, match="learns trajectories, but data.mixture has questions"):
        recipe.make_training("stage", config, recipe.describe_start(config), data)


def test_packed(config):
    config.data.pack_lengths = (400, 600)
    data = recipe.make_data(config)
    training = recipe.make_training("stage", config, recipe.describe_start(config), data)
    assert next(iter(training.batches)).inputs.input_ids.shape[1] in (400, 600)
    assert len(training.windows(3)) == config.stage.batch_size


@pytest.mark.parametrize("text", ["", "1", "1 store", "x store /a", "0 store /a", "-1 clips /a",
                                  "nan clips /a", "inf clips /a", "1 procedural /a"])  # fmt: skip
def test_malformed_parts_of_a_mixture(config, text):
    config.data.mixture = (text,)
    with pytest.raises(ConfigError, match="data.mixture"):
        recipe.make_data(config)


def test_what_is_not_there(config):
    config.data.mixture = ("1 questions /nowhere.jsonl",)
    with pytest.raises(InputError, match="/nowhere.jsonl"):
        recipe.make_data(config)
    config.data.update(mixture=(), root="")
    for source in ("store", "clips", "physical_ai"):
        config.data.source = source
        with pytest.raises(ConfigError, match=f"data.source={source} needs data.root"):
            recipe.make_data(config)
    config.data.update(source="store", root="/nowhere")
    with pytest.raises(InputError, match="no store is there"):
        recipe.make_data(config)
