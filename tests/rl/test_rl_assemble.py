"""A stage of reinforcement learning from settings: adapters, meshes, the expert, measuring."""

import dataclasses
import functools
import importlib.util
import math
import pathlib

import jax
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.presets import preset
from alpamayo_jax.rl.assemble import check_learning, rollout_settings
from alpamayo_jax.rl.objectives import make_rl_objective
from alpamayo_jax.rl.rollout import rollout_program
from alpamayo_jax.rl.types import RolloutBatch
from alpamayo_jax.settings import MeshSettings, PrecisionSettings, RLSettings, StageSettings
from alpamayo_jax.train import lora
from alpamayo_jax.train.optimiser import make_optimiser
from alpamayo_jax.train.run import run_in_memory
from alpamayo_jax.train.stages import optimiser_config, stage_params, training_config
from alpamayo_jax.train.state import abstract_state
from alpamayo_jax.types import ModelInputs
from small_learning import RL, STAGE, leaves, lottery, small_learning, small_policy, write_clips


CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


def test_settings_of_rollouts():
    rl = RLSettings(num_samples=3, temperature=0.6, top_p=0.9, constrained=True, flow_steps=0)
    made = rollout_settings(rl, "flow")
    assert (made.actor, made.num_samples, made.temperature, made.top_p) == ("flow", 3, 0.6, 0.9)
    assert made.constrained and made.flow_steps is None
    assert rollout_settings(dataclasses.replace(rl, flow_steps=5), "tokens").flow_steps == 5


@pytest.mark.parametrize(
    "stage, rl, words",
    [
        ({"objective": "tokens"}, {}, "not one of grpo, grpo_expert"),
        ({"accumulate": 3}, {}, "does not split into 3"),
        ({}, {"num_samples": 1}, "num_samples is 1"),
        ({}, {"top_p": 0.0}, "top_p 0.0"),
        ({}, {"guard_drop": 0.0}, "drop 0.0"),
        ({"objective": "grpo_expert"}, {"flow_noise": 0.0}, "flow_noise 0.0"),
    ],
)
def test_what_makes_no_sense(stage, rl, words):
    with pytest.raises(ConfigError, match=words):
        check_learning(
            "s",
            dataclasses.replace(STAGE, **stage),
            dataclasses.replace(RL, **rl),
            small_policy().config,
        )


def test_adapters_off_are_the_start_in_the_same_arrays():
    kernel = {"kernel": np.ones((4, 6), np.float32)}
    config = lora.LoraConfig(rank=2, targets=("layer",))
    params = lora.add_adapters({"layer": kernel}, config, jax.random.key(0))
    params["layer"]["lora_b"] += 3
    off = lora.switched_off(params)
    assert off["layer"]["lora_a"] is params["layer"]["lora_a"]  # shared
    assert off["layer"]["kernel"] is params["layer"]["kernel"]
    merged = lora.merge(off)["layer"]["kernel"]
    np.testing.assert_array_equal(merged, kernel["kernel"])
    assert (lora.merge(params)["layer"]["kernel"] != kernel["kernel"]).all()


@pytest.mark.slow
def test_adapters_learn_with_their_start_as_the_reference(clips):
    stage = dataclasses.replace(STAGE, steps=2, lora_rank=2, learning_rate=1e-1)
    rl = dataclasses.replace(RL, batches_per_rollout=1, epochs=1)
    learning = small_learning(clips, stage, rl)
    state, history = run_in_memory(learning.training, log_every=1, progress=False)
    assert history.metrics["kl"][0] == pytest.approx(0, abs=1e-6) and history.metrics["kl"][1] > 1e-6
    before, after = leaves(learning.params()), leaves(state.params)
    moved = {name for name in after if (before[name] != after[name]).any()}
    assert moved and all("lora_" in name for name in moved)


@pytest.mark.slow
def test_the_expert_learns_alone_and_its_rollouts_are_whole(clips):
    stage = dataclasses.replace(STAGE, steps=3, objective="grpo_expert")
    rl = dataclasses.replace(RL, batches_per_rollout=1, epochs=1)
    learning = small_learning(clips, stage, rl)
    found = learning.measure(learning.params())
    assert found["trajectory_valid"] == 1 and math.isfinite(found["ade_most_likely"])
    state, history = run_in_memory(learning.training, log_every=1, progress=False)
    assert history.metrics["kl"][0] == pytest.approx(0, abs=1e-4)
    before, after = leaves(learning.params()), leaves(state.params)
    moved = {name for name in after if (before[name] != after[name]).any()}
    assert moved and not any("'vlm'" in name for name in moved)


@pytest.mark.slow
@pytest.mark.parametrize("copy_params", [False, True])
def test_a_mesh_learns_as_one_device_does(clips, copy_params):
    stage = dataclasses.replace(STAGE, steps=2, batch_size=4, learning_rate=1e-3)
    rl = dataclasses.replace(RL, batches_per_rollout=1, epochs=1, copy_params=copy_params)
    alone = small_learning(clips, stage, rl)
    split = small_learning(clips, stage, rl, mesh=MeshSettings(data=2, fsdp=2, tensor=2))
    one, two = (
        run_in_memory(made.training, log_every=1, progress=False) for made in (alone, split)
    )
    first = [history.metrics for _, history in (one, two)]
    # The loss itself is 0 but for rounding: advantages of a group sum to 0, and ratios are 1.
    for metrics in first:
        assert abs(metrics["loss"][0]) < 1e-6 and len(metrics["loss"]) == 2
    for name in ("grad_norm", "entropy", "reward", "num_tokens"):
        np.testing.assert_allclose(first[0][name][0], first[1][name][0], rtol=1e-4, err_msg=name)
    a, b = leaves(one[0].params), leaves(two[0].params)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], atol=5e-3, err_msg=name)
    measured = split.measure(two[0].params)
    assert measured["lottery"] == pytest.approx(alone.measure(one[0].params)["lottery"])


@pytest.mark.parametrize("lora_rank", [0, 16])
def test_the_released_size_fits_together_as_shapes(lora_rank):
    """The full-size configuration, without a number: rollouts, then the loss and its gradient."""
    spec = importlib.util.spec_from_file_location("grpo_8gpu", CONFIGS / "grpo_8gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    knobs = module.get_config()
    rl = RLSettings(**knobs.rl)
    stage = StageSettings(**knobs.stage.to_dict() | {"lora_rank": lora_rank})
    model = training_config(preset("r1_5_10b"), PrecisionSettings(**knobs.precision))
    check_learning("stage", stage, rl, model)
    settings, rows, length, patches = rollout_settings(rl, "tokens"), 4, knobs.data.max_length, 720
    shape = jax.ShapeDtypeStruct
    images, vision = 16, model.vision
    inputs = ModelInputs(
        input_ids=shape((rows, length), np.int32),
        attention_mask=shape((rows, length), bool),
        position_ids=shape((3, rows, length), np.int32),
        rope_delta=shape((rows,), np.int32),
        image_index=shape((rows, length), np.int32),
        pixel_values=shape((rows, images, patches, vision.patch_dim), np.float32),
        image_grid=shape((rows, images, 2), np.int32),
        camera_index=shape((rows, images), np.int32),
        frame_time=shape((rows, images), np.float32),
        ego_history_xyz=shape((rows, 16, 3), np.float32),
        ego_history_rot=shape((rows, 16, 3, 3), np.float32),
    )
    begin = functools.partial(stage_params, "stage", stage, PrecisionSettings(), rng=jax.random.key(0))
    params = jax.eval_shape(begin, param_shapes(model))
    out = jax.eval_shape(
        functools.partial(rollout_program, config=model, settings=settings),
        params, inputs, jax.random.key(0),
    )  # fmt: skip
    tokens = (rows, 12, 256 + 2 * 64 + 1)
    assert out.token_ids.shape == out.logprobs.shape == tokens
    assert out.trajectory.xyz.shape == (rows, 12, 64, 3)
    numbers, group = shape(tokens, np.float32), shape(tokens[:2], np.float32)
    batch = RolloutBatch(inputs, out.token_ids, out.mask, numbers, numbers, group, group)
    objective = make_rl_objective(rl, model, settings, remat=stage.remat)
    grads, metrics = jax.eval_shape(
        jax.grad(objective, has_aux=True), params, batch, jax.random.key(0)
    )
    assert {"loss_policy", "kl"} <= metrics.keys()
    assert jax.tree.map(lambda a: a.shape, grads) == jax.tree.map(lambda a: a.shape, params)
    # The state of training is split over 8 GPUs of 80 GB: parameters, gradients, two moments.
    optimiser = make_optimiser(
        optimiser_config("stage", dataclasses.replace(stage, objective="tokens")), params
    )
    like = abstract_state(params, optimiser)
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(like))
    assert held / 8 < 80e9


def test_the_lottery_has_something_to_win():
    assert lottery().weights == {"lottery": 1.0}
