"""Stages from settings: what trains, where it lies, how it begins and what is exported."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.policy import describe_policy, load_policy, new_policy
from alpamayo_jax.settings import MeshSettings, PrecisionSettings, StageSettings
from alpamayo_jax.train.assemble import Start, trained_policy
from alpamayo_jax.train.run import run_in_folder, run_in_memory
from alpamayo_jax.train.stages import check_reached, optimiser_config, training_config
from small_runs import (
    STAGE,
    assert_same_bits,
    folder,
    small_config,
    small_policy,
    small_training,
    write_clips,
)

TWO_STEPS = dataclasses.replace(STAGE, steps=2)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


def run(clips, stage, **options):
    """(training, state before, state after)."""
    training = small_training(clips, stage, **options)
    before = jax.device_get(training.create())
    return training, before, run_in_memory(training, progress=False)[0]


def moved(before, after):
    """Paths of the parameters that changed."""
    changed = jax.tree.map(lambda a, b: bool(np.any(np.asarray(a) != np.asarray(b))), before, after)
    flat = jax.tree_util.tree_flatten_with_path(changed)[0]
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")  # noqa: E731
    return {name(path) for path, value in flat if value}


class TestGroups:
    def groups(self, **knobs):
        return optimiser_config("stage", StageSettings(**knobs)).groups

    def test_tokens(self):
        assert self.groups() == ((r"vlm/.*", 1.0), (r".*", 0.0))
        slower = self.groups(vision_factor=0.1)
        assert slower == ((r"vlm/visual/.*", 0.1), (r"vlm/.*", 1.0), (r".*", 0.0))

    def test_expert_and_joint(self):
        assert self.groups(objective="expert") == ((r"vlm/.*", 0.0), (r".*", 1.0))
        assert self.groups(objective="joint") == ((r"vlm/.*", 1.0), (r".*", 1.0))

    def test_frozen_parts_come_first(self):
        frozen = self.groups(frozen=(r"vlm/lm_head/.*",), vision_factor=0.0)
        assert frozen[:2] == ((r"vlm/lm_head/.*", 0.0), (r"vlm/visual/.*", 0.0))

    def test_adapters_alone(self):
        assert self.groups(lora_rank=4) == ((r".*/lora_[ab]", 1.0), (r".*", 0.0))

    def test_the_schedule(self):
        stage = StageSettings(steps=100, warmup_fraction=0.25, beta2=0.9)
        config = optimiser_config("stage", stage)
        assert (config.num_steps, config.warmup_steps, config.beta2) == (100, 25, 0.9)

    @pytest.mark.parametrize(
        "objective, factors, reached",
        [
            ("tokens", {"vlm": {"a": 1.0}, "expert": {"b": 0.0}}, True),
            ("tokens", {"vlm": {"a": 0.0}, "expert": {"b": 1.0}}, False),
            ("expert", {"vlm": {"a": 0.5}, "expert": {"b": 0.0}}, False),
            ("joint", {"vlm": {"a": 0.5}, "expert": {"b": 0.0}}, True),
        ],
    )
    def test_a_loss_that_reaches_nothing(self, objective, factors, reached):
        stage = StageSettings(objective=objective)
        if reached:
            check_reached("s", stage, factors)
            return
        with pytest.raises(ConfigError, match="reaches nothing that trains"):
            check_reached("s", stage, factors)


def test_number_formats():
    model = training_config(small_config(), PrecisionSettings(params="", compute="bfloat16"))
    assert (model.precision.params, model.precision.compute) == ("float32", "bfloat16")


def test_adapters_train_alone_and_are_merged_for_the_export(clips, tmp_path):
    layers = r"vlm/language_model/layers/self_attn/[qv]_proj"
    stage = dataclasses.replace(
        TWO_STEPS, lora_rank=2, lora_layers=(layers,), ema_decay=0.0, learning_rate=0.05
    )
    training, before, after = run(clips, stage)
    changed = moved(before.params, after.params)
    assert changed and all("/lora_" in path for path in changed)
    exported = trained_policy(small_policy(), after)
    exported.save(tmp_path / "checkpoint")
    loaded = load_policy(tmp_path / "checkpoint")
    kernels = {path for path in moved(without_adapters(before.params), loaded.params)}
    assert kernels == {
        f"vlm/language_model/layers/self_attn/{name}_proj/kernel" for name in ("q", "v")
    }


def without_adapters(tree):
    return {
        key: without_adapters(value) if isinstance(value, dict) else value
        for key, value in tree.items()
        if not key.startswith("lora_")
    }


@pytest.mark.slow
def test_the_export_is_the_moving_average(clips):
    _, _, after = run(clips, TWO_STEPS)
    exported = trained_policy(small_policy(), after).params
    average = after.ema["vlm"]["lm_head"]["kernel"]
    np.testing.assert_array_equal(exported["vlm"]["lm_head"]["kernel"], average)
    assert_same_bits(exported["expert"], after.params["expert"])
    assert bool(jnp.any(after.params["vlm"]["lm_head"]["kernel"] != average))


@pytest.mark.slow
def test_a_mesh_changes_nothing_but_the_place(clips, tmp_path):
    """2 x 2 x 2 equals one device; its checkpoint goes on with one device."""
    stage = dataclasses.replace(STAGE, steps=4, batch_size=4)
    _, _, alone = run(clips, stage)
    mesh = MeshSettings(data=2, fsdp=2, tensor=2)
    split = small_training(clips, stage, mesh=mesh)
    where = split.like.params["vlm"]["language_model"]["layers"]["mlp"]["up_proj"]["kernel"]
    assert where.sharding.spec == jax.P(None, "fsdp", "tensor")

    def stop_after_two(*args):
        state, metrics = split.step(*args)
        if int(state.step) > 2:
            raise KeyboardInterrupt
        return state, metrics

    with pytest.raises(KeyboardInterrupt):
        broken = dataclasses.replace(split, step=stop_after_two)
        run_in_folder(broken, folder(tmp_path, save_every=2), progress=False)
    state = run_in_folder(small_training(clips, stage), folder(tmp_path), progress=False)
    assert int(state.step) == 4
    assert len(state.params["vlm"]["lm_head"]["kernel"].sharding.device_set) == 1
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(alone.params)):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4)


def test_a_start_from_a_checkpoint_directory(clips, tmp_path):
    """Parameters are read straight to where they belong, in the format of training."""
    policy = new_policy(small_config(), jax.random.key(9))
    policy.save(tmp_path / "checkpoint")
    described = describe_policy(tmp_path / "checkpoint")
    assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(described.params))
    start = Start(described, str(tmp_path / "checkpoint"), seed=0)
    stage = dataclasses.replace(TWO_STEPS, batch_size=8)
    alone = small_training(clips, stage, start=start).create()
    assert_same_bits(jax.device_get(alone.params), jax.device_get(policy.params))
    split = small_training(clips, stage, start=start, mesh=MeshSettings(fsdp=8)).create()
    kernel = split.params["vlm"]["language_model"]["layers"]["self_attn"]["q_proj"]["kernel"]
    assert len(kernel.sharding.device_set) == 8
    assert_same_bits(jax.device_get(split.params), jax.device_get(policy.params))


def test_a_policy_in_memory_keeps_its_arrays(clips):
    policy = new_policy(small_config(), jax.random.key(9))
    state = small_training(clips, TWO_STEPS, start=Start(policy, None, seed=0)).create()
    assert_same_bits(jax.device_get(state.params), jax.device_get(policy.params))


def test_narrow_parameters_begin_narrow(clips):
    narrow = jnp.dtype("bfloat16")
    precision = PrecisionSettings(params="bfloat16", compute="bfloat16")
    training = small_training(clips, TWO_STEPS, precision=precision)
    assert {leaf.dtype for leaf in jax.tree.leaves(training.like.params)} == {narrow}
    assert {leaf.dtype for leaf in jax.tree.leaves(training.create().params)} == {narrow}


@pytest.mark.slow
def test_what_is_frozen_can_be_narrow(clips):
    """Stage 1 trains wide masters; the expert, which it never reads, takes half the memory."""
    precision = PrecisionSettings(frozen="bfloat16", compute="bfloat16")
    _, before, after = run(clips, TWO_STEPS, precision=precision)
    types = {name: {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}
             for name, tree in after.params.items()}  # fmt: skip
    assert types.pop("vlm") == {"float32"}
    assert set().union(*types.values()) == {"bfloat16"}
    changed = moved(before.params, after.params)
    assert changed and all(path.startswith("vlm/") for path in changed)
    exported = trained_policy(small_policy(), after).params
    assert {leaf.dtype for leaf in jax.tree.leaves(exported)} == {jnp.dtype("float32")}


@pytest.mark.slow
def test_narrow_products_train_like_wide_ones(clips):
    """bfloat16 computation with float32 masters: the same losses to three digits."""
    stage = dataclasses.replace(STAGE, steps=6, learning_rate=1e-2)
    losses = []
    for compute in ("", "bfloat16"):
        training = small_training(clips, stage, precision=PrecisionSettings(compute=compute))
        state, history = run_in_memory(training, log_every=1, progress=False)
        losses.append(history.metrics["loss"])
        assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    wide, narrow = losses
    assert wide[-1] < 0.98 * wide[0] and wide != narrow
    np.testing.assert_allclose(narrow, wide, rtol=5e-3)


def test_flops_and_peak_are_known_when_asked_for(clips):
    training = small_training(clips, TWO_STEPS, count_flops=True)
    assert training.flops > 1e6 and training.peak > 1e6
    assert "measured" in training.peak_source
    assert small_training(clips, TWO_STEPS).flops is None


@pytest.mark.slow
def test_validation_is_the_mean_loss_of_the_same_batches(clips):
    training = small_training(clips, TWO_STEPS, validation_batches=2)
    state = training.create()
    first = training.validate(state)
    assert np.isfinite(first) and training.validate(state) == first
    batches = iter(training.batches)  # held out are the same clips here
    losses = [float(training.step(training.create(), next(batches), training.rng)[1]["loss"])
              for _ in range(2)]  # fmt: skip
    assert first == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"mesh": MeshSettings(data=3)}, "does not fit 8 device"),
        ({"mesh": MeshSettings(fsdp=8)}, "2 does not divide over 8 devices"),
    ],
)
def test_devices_that_do_not_fit(clips, options, words):
    with pytest.raises(ConfigError, match=words):
        small_training(clips, TWO_STEPS, **options)
