"""How scripts hold a checkpoint's weights: as stored, rounded, in host memory."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax import policy_flags
from alpamayo_jax.convert.table import flatten
from alpamayo_jax.decode.offload import HOST
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.ops.number_formats import Quantised, dequantise
from alpamayo_jax.testing.tiny import random_params, tiny_config
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer

_CONFIG = tiny_config()
_LAYER = ("vlm", "language_model", "layers", "mlp", "up_proj", "kernel")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flags") / "checkpoint"
    Policy(_CONFIG, random_params(_CONFIG), tiny_tokenizer(_CONFIG)).save(folder)
    return folder


def _leaf(policy, path):
    leaf = policy.params
    for name in path:
        leaf = leaf[name]
    return leaf


def test_as_stored(checkpoint):
    policy = policy_flags.load(checkpoint)
    assert not any(isinstance(x, Quantised) for x in flatten(policy.params).values())
    assert all(x.sharding.memory_kind != HOST for x in jax.tree.leaves(policy.params))


@pytest.mark.parametrize("weights", policy_flags.WEIGHTS)
def test_rounded(checkpoint, weights):
    stored, policy = (_leaf(policy_flags.load(checkpoint, w), _LAYER) for w in (None, weights))
    assert policy.format == weights and policy.scale.shape == (*stored.shape[:-2], 1, 48)
    found, largest = dequantise(policy, jnp.float32), np.abs(stored).max(-2, keepdims=True)
    step = {"int8": 1 / 254, "fp8": 1 / 16}[weights]  # of the largest value of a channel
    assert 0 < np.abs(found - stored).max() and (np.abs(found - stored) <= 1.01 * step * largest).all()


def test_rounded_and_in_host_memory(checkpoint):
    found = _leaf(policy_flags.load(checkpoint, "int8", offload=True), _LAYER)
    assert found.values.sharding.memory_kind == HOST
    head = policy_flags.load(checkpoint, "int8", offload=True).params["vlm"]["lm_head"]["kernel"]
    assert head.sharding.memory_kind != HOST


def test_the_flags_say_so(checkpoint):
    values = dict(weights="fp8", offload=False, max_reasoning_tokens=0)
    given = policy_flags.PolicyFlags(
        **{name: types.SimpleNamespace(value=value) for name, value in values.items()}
    )
    assert _leaf(given.load(checkpoint), _LAYER).format == "fp8"
    assert SampleSettings(**given.sampling()).limit == 2
