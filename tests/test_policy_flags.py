"""How scripts hold a checkpoint's weights: as stored, rounded, in host memory, layers apart."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax import policy_flags
from alpamayo_jax.config import ConfigError
from alpamayo_jax.convert.table import flatten
from alpamayo_jax.decode.offload import HOST
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.decode.streaming import Drive
from alpamayo_jax.layers.stack import Layers
from alpamayo_jax.ops.number_formats import Quantised, dequantise
from alpamayo_jax.testing.tiny import random_observation, random_params, tiny_config
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


def test_rounded_and_apart(checkpoint):
    together = _leaf(policy_flags.load(checkpoint, "int8"), _LAYER)
    found = _leaf(policy_flags.load(checkpoint, "int8", apart=True), _LAYER)
    assert isinstance(found, Layers) and found.shape == together.shape
    np.testing.assert_array_equal(found[1].values, together.values[1])


def _given(present=(), **values):
    values = dict(
        weights=None, offload=False, layers_apart=False, max_reasoning_tokens=None
    ) | values
    return policy_flags.PolicyFlags(
        **{
            name: types.SimpleNamespace(value=value, present=name in present)
            for name, value in values.items()
        }
    )


def test_the_flags_say_so(checkpoint):
    given = _given(weights="fp8", max_reasoning_tokens=0)
    assert _leaf(given.load(checkpoint), _LAYER).format == "fp8"
    assert SampleSettings(**given.sampling()).limit == 2
    assert isinstance(_leaf(_given(layers_apart=True).load(checkpoint), _LAYER), Layers)


def test_a_draft_block_of_one_makes_no_drafts(checkpoint):
    values = {name: types.SimpleNamespace(value=v) for name, v in
              (("streaming", "exact"), ("draft_block", 1))}  # fmt: skip
    given = policy_flags.StreamingFlags(**values)
    assert given.value == "exact"
    settings = SampleSettings(num_samples=1, max_new_tokens=3, **given.sampling())
    drive = Drive(policy_flags.load(checkpoint), settings, reuse=given.value)
    for seed in (0, 1):
        drive(random_observation(_CONFIG, 0), seed)
    assert drive.report.proposed == 0 and drive.report.computed_tokens < drive.report.prompt_tokens


def test_layers_in_host_memory_stay_together(checkpoint):
    by_default = _given(offload=True, layers_apart=True)
    assert _leaf(by_default.load(checkpoint), _LAYER).sharding.memory_kind == HOST
    asked_for = _given(["layers_apart"], offload=True, layers_apart=True)
    with pytest.raises(ConfigError, match="--offload .* does not go with --layers_apart"):
        asked_for.load(checkpoint)
