"""Cases of the suite and what is measured of them."""

import dataclasses

import pytest

from alpamayo_jax import presets
from alpamayo_jax.benchmark import train
from alpamayo_jax.config import ConfigError
from alpamayo_jax.convert import parameter_count
from alpamayo_jax.testing.tiny import tiny_config
from alpamayo_jax.tokens.vocabulary import special_token_id

SMALL = train.Case("small", rows=2, images=1, grid=(4, 4), length=160)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "small", tiny_config)


def test_default_cases():
    tiny, half = train.cases("cpu")
    assert tiny.config() == presets.preset("tiny")
    config = half.config()
    full = presets.preset("paper_0p5b")
    assert half.name == "paper_0p5b_2_layers"
    assert config.language.hidden_size == full.language.hidden_size == 896
    assert config.language.num_layers == config.vision.depth == 2
    assert config.precision.compute == "float32"
    assert parameter_count(config) < 0.2 * parameter_count(full)
    on_gpu = train.cases("gpu")[1].config()
    assert on_gpu.precision.compute == "bfloat16" and on_gpu.precision.params == "float32"
    assert on_gpu.language == full.language


def test_a_smaller_vocabulary_keeps_its_order():
    config = train.cases("cpu")[1].config()
    full = presets.preset("paper_0p5b")
    shift = full.language.vocab_size - config.language.vocab_size
    assert config.trajectory_tokens.traj_token_start_idx == 16_384
    for name in ("traj_future", "image_pad", "cot_start", "im_end"):
        assert special_token_id(config, name) == special_token_id(full, name) - shift
    assert max(dataclasses.asdict(config.text_tokens).values()) < 16_384


def test_batches_are_full():
    batch = train.make_batch(SMALL, SMALL.config(), seed=0)
    assert batch.labels_mask.shape == (2, 160)
    assert batch.inputs.attention_mask.all()
    with pytest.raises(ConfigError, match="length 60 of case small is .* too short"):
        train.make_batch(dataclasses.replace(SMALL, length=60), SMALL.config(), seed=0)


@pytest.mark.slow
def test_a_measurement():
    """Alone: rates, floor and share of the peak fit each other."""
    result = train.run((SMALL,), rounds=2, compare="none")
    (row,) = result["phases"].values()
    assert list(result["phases"]) == ["small/step"]
    assert row["times"] == 2 and row["first"] > row["median"] > row["floor"] > 0
    assert row["mfu"] == pytest.approx(row["floor"] / row["median"])
    assert row["ratio_to_floor"] == pytest.approx(1 / row["mfu"])
    assert row["tokens_per_second"] == pytest.approx(320 / row["median"])
    assert "comparison" not in row and row["case"]["rows"] == 2


def test_an_unknown_comparison():
    with pytest.raises(ConfigError, match="'flax' is unknown"):
        train.run((SMALL,), compare="flax")


@pytest.mark.torch
@pytest.mark.slow
def test_pytorch_computes_the_same_loss():
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    (row,) = train.run((SMALL,), rounds=1, compare="transformers")["phases"].values()
    assert row["loss_difference"] < 1e-4 * row["loss"]
    assert row["comparison"]["times"] == 1
    ours, theirs = row["median"], row["comparison"]["median"]
    assert row["ratio_to_comparison"] == pytest.approx(ours / theirs)
