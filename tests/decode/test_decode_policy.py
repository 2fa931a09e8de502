import jax
import numpy as np
import pytest

from alpamayo_jax.decode.policy import Policy, adopt_compressor, load_policy, new_policy
from alpamayo_jax.models.init import init_compressor, init_params, param_shapes
from alpamayo_jax.testing.tiny import (
    compressed,
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


@pytest.fixture
def quick_init(monkeypatch):
    quick = quick_jit(init_compressor.__wrapped__, static_argnums=0)
    monkeypatch.setattr("alpamayo_jax.decode.policy.init_compressor", quick)


def _same(one, two):
    leaves = zip(*map(jax.tree.leaves, (one, two)), strict=True)
    return all(a is b or np.array_equal(a, b) for a, b in leaves)


def _without_scene(params):
    return {**params, "vlm": {k: v for k, v in params["vlm"].items() if k != "scene"}}


@pytest.mark.parametrize("compressor", ["triplane", "flex"])
def test_a_new_compressor_is_random_and_the_rest_is_kept(compressor, quick_init):
    config = compressed(_CONFIG, compressor)
    before = jax.tree.map(lambda p: p.astype(np.float16), random_params(_CONFIG))
    after = adopt_compressor(before, _CONFIG, config, jax.random.key(1))
    wanted = jax.tree.map(lambda leaf: (leaf.shape, np.float16), param_shapes(config))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == wanted
    assert _same(_without_scene(after), before)
    other = adopt_compressor(before, _CONFIG, config, jax.random.key(2))
    assert not _same(after["vlm"]["scene"], other["vlm"]["scene"])
    # And without it again.
    assert _same(adopt_compressor(after, config, _CONFIG, jax.random.key(1)), before)


def test_a_compressor_that_stays_keeps_its_parameters(quick_init):
    flex = compressed(_CONFIG, "flex")
    params, rng = random_params(flex), jax.random.key(0)
    assert adopt_compressor(params, flex, flex, rng) is params
    assert adopt_compressor(random_params(_CONFIG), _CONFIG, _CONFIG, rng)
    # Another size is another compressor, and so is another kind.
    larger = compressed(_CONFIG, "flex", tokens_per_step=5)
    own = adopt_compressor(params, flex, larger, rng)["vlm"]["scene"]
    assert own["scene_tokens"].shape == (larger.scene.flex.num_tokens, 16)
    planes = compressed(_CONFIG, "triplane")
    assert "feature_proj" in adopt_compressor(params, flex, planes, rng)["vlm"]["scene"]


def test_a_compressor_survives_its_checkpoint(tmp_path):
    config = compressed(_CONFIG, "flex", prefix=True)
    own = Policy(config=config, params=random_params(config), tokenizer=tiny_tokenizer(config))
    own.save(tmp_path)
    loaded = load_policy(tmp_path)
    assert loaded.config.scene.flex == config.scene.flex
    assert loaded.config.vision.compressor == "flex"
    assert _same(loaded.params, own.params)
