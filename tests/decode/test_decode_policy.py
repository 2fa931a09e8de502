import jax
import numpy as np
import pytest

from alpamayo_jax.decode.policy import Policy, load_policy, new_policy
from alpamayo_jax.models.init import init_params, param_shapes
from alpamayo_jax.testing.tiny import (
    quick_jit,
    random_observation,
    random_params,
    tiny_config,
)
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.types import InputError

_CONFIG = tiny_config()
_TEXT = "Keep lane since the road ahead is clear.<|cot_end|><i7><|traj_future_start|>"


@pytest.fixture
def policy():
    return Policy(config=_CONFIG, params=random_params(_CONFIG), tokenizer=tiny_tokenizer(_CONFIG))


def test_a_new_policy_has_random_parameters_and_the_tiny_tokenizer(monkeypatch):
    quick = quick_jit(init_params.__wrapped__, static_argnums=0)
    monkeypatch.setattr("alpamayo_jax.decode.policy.init_params", quick)
    policy = new_policy(_CONFIG, jax.random.key(0))
    assert policy.config is _CONFIG and policy.raw is None
    assert jax.tree.structure(policy.params) == jax.tree.structure(param_shapes(_CONFIG))
    assert policy.tokenizer.encode(_TEXT) == tiny_tokenizer(_CONFIG).encode(_TEXT)


def test_a_new_policy_takes_another_tokenizer(monkeypatch):
    monkeypatch.setattr("alpamayo_jax.decode.policy.init_params", lambda config, rng: {})
    own = tiny_tokenizer(_CONFIG)
    assert new_policy(_CONFIG, jax.random.key(0), own).tokenizer is own


def test_the_processor_is_that_of_the_policy(policy):
    assert policy.processor is policy.processor
    assert policy.processor.config is _CONFIG
    assert policy.processor.inputs([random_observation(_CONFIG)]).input_ids.shape[0] == 1


def test_saved_and_loaded_it_is_the_same(policy, tmp_path):
    policy.save(tmp_path / "first")
    loaded = load_policy(tmp_path / "first")
    assert loaded.config == _CONFIG
    for ours, theirs in zip(*map(jax.tree.leaves, (loaded.params, policy.params)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert loaded.tokenizer.encode(_TEXT) == policy.tokenizer.encode(_TEXT)
    # And again, with what was read from config.json.
    assert loaded.raw
    loaded.save(tmp_path / "second")
    first, second = (
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        for folder in (tmp_path / "first", tmp_path / "second")
    )
    assert first == second


def test_progress_and_type(policy, tmp_path):
    policy.save(tmp_path)
    seen = []
    loaded = load_policy(
        tmp_path, dtype="bfloat16", progress=lambda done, total: seen.append((done, total))
    )
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(loaded.params)} == {"bfloat16"}
    assert seen and seen[-1][0] == seen[-1][1] and seen == sorted(seen)


def test_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path / "nothing")):
        load_policy(tmp_path / "nothing")
