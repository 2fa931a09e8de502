"""A seed per observation: a row is drawn as it would be alone, whatever stands beside it."""

import functools

import jax
import numpy as np
import pytest

from alpamayo_jax.decode import act
from alpamayo_jax.decode import sample as sample_lib
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.testing.tiny import quick_jit, random_observation, random_params, tiny_config
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.types import InputError

_CONFIG = tiny_config()
_SETTINGS = SampleSettings(num_samples=2, max_new_tokens=4, flow_steps=2)


@functools.cache
def _policy():
    return Policy(config=_CONFIG, params=random_params(_CONFIG), tokenizer=tiny_tokenizer(_CONFIG))


def _draw(numbers, seed):
    observations = [random_observation(_CONFIG, number) for number in numbers]
    quick = quick_jit(
        sample_lib._sample.__wrapped__,
        static_argnames=("config", "settings", "score_trajectories"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_lib, "_sample", quick)
        return sample_lib.sample(_policy(), observations, seed=seed, settings=_SETTINGS)


def test_a_row_is_drawn_as_it_would_be_alone():
    alone = _draw([0, 1], seed=7)[0]
    swapped = _draw([1, 0], seed=[3, 7])
    np.testing.assert_array_equal(swapped[1].token_ids, alone.token_ids)
    np.testing.assert_allclose(swapped[1].xyz, alone.xyz, atol=1e-4)
    same = _draw([0, 0], seed=[7, 7])
    np.testing.assert_array_equal(same[0].token_ids, same[1].token_ids)
    other = _draw([0, 0], seed=[7, 8])
    assert np.abs(other[0].actions - other[1].actions).max() > 1e-2


def test_noise_of_a_row_needs_only_its_key():
    keys = jax.vmap(jax.random.key)(np.array([4, 9], np.uint32))
    both = act.initial_noise(keys, 2, _CONFIG, _SETTINGS)
    assert both.shape == (2, 2, _CONFIG.action.n_waypoints, 2)
    np.testing.assert_array_equal(
        both[1], act.initial_noise(jax.random.key(9), 1, _CONFIG, _SETTINGS)[0]
    )


def test_as_many_seeds_as_observations():
    with pytest.raises(InputError, match="1 seeds for 2"):
        sample_lib.sample(
            _policy(), [random_observation(_CONFIG, n) for n in (0, 1)], seed=[1],
            settings=_SETTINGS,
        )  # fmt: skip
