"""Episodes and scores hold together."""

import dataclasses
import math

import numpy as np
import pytest
from reward_episodes import episodes, situation

from alpamayo_jax.rl.rewards.base import Scores


def test_shape():
    made = episodes([situation(), situation()], [["a", "b", "c"], ["", "e", "f"]])
    assert made.shape == (2, 3) and made.xyz.shape == (2, 3, 64, 3)


@pytest.mark.parametrize("change", [
    {"reasoning": (("a",), ("b", "c"))},
    {"situations": (situation(),)},
    {"ended": np.ones((2, 2), bool)},
    {"rot": np.zeros((2, 1, 64, 3))},
    {"num_tokens": np.ones(2, np.int32)},
])  # fmt: skip
def test_what_does_not_fit_is_refused(change):
    made = episodes([situation(), situation()], [["a"], ["b"]])
    with pytest.raises((AssertionError, ValueError)):
        dataclasses.replace(made, **change)


def test_only_what_was_measured_is_in_a_mean():
    values = np.array([[1.0, 2.0, 9.0, 7.0]], np.float32)
    valid = np.array([[True, True, False, True]])
    measured = np.array([[True, True, True, False]])
    assert Scores(values, valid, measured).mean() == 1.5
    assert math.isnan(Scores(values, ~valid & valid, measured).mean())
    with pytest.raises(AssertionError):
        Scores(values, valid[:, :2], measured)
