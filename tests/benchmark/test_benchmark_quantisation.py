"""Agreement of what two policies say and do, and the table of one tiny policy."""


import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.benchmark import quantisation
from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.presets import preset
from alpamayo_jax.data.sources import list_windows, make_source
from alpamayo_jax.models.init import init_params
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.types import Prediction

SLOW = "Slow down because the lead vehicle ahead is braking."
FAST = "Speed up since the road ahead is clear."


def prediction(text=SLOW, ids=(5, 6, 7, 0), moved=0.0):
    ids = np.array([ids], np.int32)
    xyz = np.zeros((1, 8, 3), np.float32)
    xyz[..., 1] = moved
    return Prediction(
        xyz=xyz,
        rot=np.broadcast_to(np.eye(3, dtype=np.float32), (1, 8, 3, 3)),
        actions=np.zeros((1, 8, 2), np.float32),
        reasoning=(text,),
        meta_action=("",),
        token_ids=ids,
        token_logprobs=np.where(ids > 0, -0.5, 0.0).astype(np.float32),
        reasoning_logprob=np.zeros(1, np.float32),
        ended=np.ones(1, bool),
    )


def test_the_same_agrees_in_everything():
    found = quantisation.agreement([prediction()] * 2, [prediction()] * 2)
    assert found == {
        "moved_m": 0.0, "tokens_same": 1.0, "reasoning_same": 1.0, "decisions_same": 1.0,
        "causes_same": 1.0,
    }  # fmt: skip


def test_differences_are_counted_by_window():
    want = [prediction(), prediction()]
    got = [prediction(), prediction(FAST, (5, 9, 7, 8), moved=0.5)]
    found = quantisation.agreement(want, got)
    assert found["moved_m"] == pytest.approx(0.25)
    assert found["tokens_same"] == pytest.approx((1 + 2 / 4) / 2)  # the longer one has four
    assert found["reasoning_same"] == found["decisions_same"] == 0.5
    assert found["causes_same"] == 0.5


def test_other_words_for_the_same_decision():
    said = SLOW.replace("Slow down", "Decelerate")
    found = quantisation.agreement([prediction()], [prediction(said)])
    assert found["reasoning_same"] == 0.0
    assert found["decisions_same"] == found["causes_same"] == 1.0


def test_precisions():
    assert quantisation.needs_ranges(["bf16", "int8"])
    assert not quantisation.needs_ranges(["bf16", "nvfp4", "fp8_weights"])
    with pytest.raises(ConfigError, match="precision 'int4' is unknown; known: bf16, fp8"):
        quantisation.needs_ranges(["int4"])


@pytest.mark.slow
def test_a_table():
    config = preset("tiny")
    params = jax.tree.map(jnp.asarray, init_params(config, jax.random.key(0)))
    policy = Policy(config=config, params=params, tokenizer=tiny_tokenizer(config))
    source = make_source("procedural", num_clips=1, seed=0)
    windows = list_windows(source, stride_s=2.0, num_frames=1)[:2]
    settings = SampleSettings(num_samples=2, max_new_tokens=4)
    rows = quantisation.compare(
        policy, source, windows, ["bf16", "int8_weights"], settings=settings, batch_size=2,
        num_frames=1,
    )  # fmt: skip
    assert [row["precision"] for row in rows] == ["as trained", "bf16", "int8_weights"]
    assert rows[0]["moved_m"] == 0.0 and rows[0]["tokens_same"] == 1.0
    assert rows[1]["weights_mib"] == pytest.approx(rows[0]["weights_mib"] / 2)
    assert rows[2]["weights_mib"] < rows[0]["weights_mib"]
    for row in rows[1:]:
        assert 0 < row["moved_m"] < 5.0
        assert abs(row["min_ade_2"] - rows[0]["min_ade_2"]) < 5.0
