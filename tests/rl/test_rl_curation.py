"""Which windows say most, against sums written out by hand."""

import math

import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.rl.curation import divergence, select

ALL = np.ones((1, 2), bool)


def test_two_samples_by_hand():
    logprobs, rewards = np.array([[math.log(3.0), 0.0]]), np.array([[0.0, math.log(2.0)]])
    model, wanted = (3 / 4, 1 / 4), (1 / 5, 4 / 5)  # beta 2 squares the 2
    want = sum(w * math.log(w / m) for w, m in zip(wanted, model))
    np.testing.assert_allclose(divergence(logprobs, rewards, 2.0, ALL), [want], rtol=1e-12)


def test_none_where_the_model_knows():
    rewards = np.array([[1.0, 3.0]])
    np.testing.assert_allclose(divergence(0.5 * rewards - 7.0, rewards, 0.5, ALL), [0], atol=1e-12)


def test_shifts_do_not_matter():
    rng = np.random.default_rng(0)
    logprobs, rewards = rng.normal(size=(2, 5, 4))
    valid = np.ones((5, 4), bool)
    want = divergence(logprobs, rewards, 3.0, valid)
    got = divergence(logprobs - 200.0, rewards + 11.0, 3.0, valid)
    np.testing.assert_allclose(got, want, rtol=1e-9)
    assert (want > 0).all()


def test_masked_samples_are_as_if_they_were_not_there():
    rng = np.random.default_rng(1)
    logprobs, rewards = rng.normal(size=(2, 3, 4))
    valid = np.array([[1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]], bool)
    logprobs[~valid], rewards[~valid] = np.nan, np.inf
    got = divergence(logprobs, rewards, 1.0, valid)
    kept = [0, 1, 3]
    want = divergence(logprobs[:1, kept], rewards[:1, kept], 1.0, np.ones((1, 3), bool))
    np.testing.assert_allclose(got[:1], want)
    np.testing.assert_array_equal(got[1:], 0)


def test_good_and_unlikely_says_more_than_bad_and_unlikely():
    likely = np.array([[0.0, -5.0]] * 2)
    got = divergence(likely, np.array([[0.0, 1.0], [1.0, 0.0]]), 5.0, np.ones((2, 2), bool))
    assert got[0] > got[1]


def test_the_best_and_some_others():
    scores = np.array([0.0, 5.0, 1.0, 4.0, 2.0, 3.0])
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(select(scores, 0.0, 3, rng), [1, 3, 5])
    seen = set()
    for _ in range(50):
        rows = select(scores, 0.5, 4, rng)
        assert len(set(rows)) == 4 and {1, 3} <= set(rows) and (np.diff(rows) > 0).all()
        seen |= set(rows.tolist())
    assert seen == set(range(6))
    assert set(select(scores, 1.0, 6, rng)) == set(range(6))


def test_the_same_seed_selects_the_same():
    scores = np.zeros(9)
    first, again = (select(scores, 0.5, 5, np.random.default_rng([3, 1])) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(select(scores, 0.0, 4, np.random.default_rng(0)), range(4))


@pytest.mark.parametrize(("share", "count"), [(0.5, 0), (0.5, 7), (-0.1, 3), (1.5, 3)])
def test_what_makes_no_sense(share, count):
    with pytest.raises(ConfigError, match="curation"):
        select(np.zeros(6), share, count, np.random.default_rng(0))
