"""The policy cut into programs: their ports, and that looped and unrolled ones agree."""

import dataclasses

import jax
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.errors import InputError
from alpamayo_jax.export.stages import (
    STAGES,
    host_facts,
    make_stages,
    policy_inputs,
    sizes_of,
)
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.presets import preset
from alpamayo_jax.testing.tiny import compressed, random_inputs, random_params, tiny_config
from alpamayo_jax.tokens.vocabulary import special_token_id

CONFIG = tiny_config()
INPUTS = random_inputs(CONFIG)
SIZES = dataclasses.replace(sizes_of(INPUTS, samples=2, new_tokens=4), batch=len(INPUTS.input_ids))


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


@pytest.fixture(scope="module", params=[False, True], ids=["looped", "unrolled"])
def stages(request, params):
    return make_stages(CONFIG, params, SIZES, unroll=request.param)


def example(spec, seed):
    rng = np.random.default_rng(seed)
    if spec.dtype == np.bool_:
        return rng.random(spec.shape) < 0.8
    if spec.dtype == np.int32:
        return rng.integers(0, 3, spec.shape).astype(np.int32)
    return rng.standard_normal(spec.shape).astype(np.float32)


def test_sizes_come_from_a_batch():
    batch, length = INPUTS.input_ids.shape
    _, images, patches, _ = INPUTS.pixel_values.shape
    assert (SIZES.batch, SIZES.length) == (batch, length)
    assert (SIZES.images, SIZES.patches) == (images, patches)
    assert (SIZES.samples, SIZES.new_tokens, SIZES.steps) == (2, 4, 0)


@pytest.mark.parametrize("stage", ["vision", "prefill", "decode_step", "flow_step", "trajectory"])
def test_with_and_without_loops_is_the_same(params, stage):
    looped = make_stages(CONFIG, params, SIZES, unroll=False, names=[stage])[stage]
    unrolled = make_stages(CONFIG, params, SIZES, unroll=True, names=[stage])[stage]
    given = {name: example(spec, i) for i, (name, spec) in enumerate(looped.inputs.items())}
    given |= {n: a for n, a in INPUTS.named_arrays().items() if n in given and n != "position_ids"}
    want = jax.jit(looped.function)(dict(looped.weights), given)
    got = jax.jit(unrolled.function)(dict(unrolled.weights), given)
    assert list(want) == list(looped.outputs) == list(unrolled.outputs)
    for name, array in want.items():
        assert array.shape == looped.outputs[name].shape
        assert np.abs(array).max() > 0
        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-5)


def test_unrolled_programs_have_no_scan_and_no_scatter(params):
    for name, stage in make_stages(CONFIG, params, SIZES, unroll=True).items():
        jaxpr = str(jax.make_jaxpr(stage.function)(stage.weight_shapes, dict(stage.inputs)))
        assert "scatter" not in jaxpr and "dynamic_update_slice" not in jaxpr, name
        # Left are the flow's steps, and tokens, of which `policy` has both.
        scans, whiles = jaxpr.count("= scan["), jaxpr.count("= while[")
        assert scans == (name in ("flow_loop", "policy")), name
        assert whiles == (name == "policy"), name


def test_weights_of_a_stage_are_what_it_reads(stages):
    assert not stages["trajectory"].weights
    assert all(name.startswith("vlm.visual.") for name in stages["vision"].weights)
    names = set(stages["policy"].weights)
    assert all(set(stage.weights) <= names for stage in stages.values())
    assert stages["vision"].weight_shapes.keys() == stages["vision"].weights.keys()


def test_caches_fit_from_stage_to_stage(stages):
    prefill, decode, flow = (stages[n] for n in ("prefill", "decode_step", "flow_step"))
    for name in ("prefix_k", "prefix_v"):
        assert prefill.outputs[name] == decode.inputs[name] == flow.inputs[name]
    for name in ("cache_k", "cache_v"):
        assert decode.outputs[f"next_{name}"] == decode.inputs[name] == flow.inputs[name]
    assert stages["vision"].outputs["scene_tokens"] == prefill.inputs["scene_tokens"]
    assert flow.outputs["velocity"].shape == stages["flow_loop"].outputs["actions"].shape
    assert stages["flow_loop"].outputs["actions"] == stages["trajectory"].inputs["actions"]


def test_ports_of_the_policy(stages):
    policy = stages["policy"]
    batch, waypoints = SIZES.batch, CONFIG.action.n_waypoints
    assert policy.outputs["xyz"].shape == (batch, 2, waypoints, 3)
    assert policy.outputs["rot"].shape == (batch, 2, waypoints, 3, 3)
    assert policy.outputs["token_ids"].shape == (batch, SIZES.new_tokens)
    assert policy.outputs["end_index"].shape == (batch,)
    assert "noise" in policy.inputs and "rope_delta" in policy.inputs


def test_inputs_of_the_policy_are_checked(stages):
    noise = np.zeros((SIZES.batch, 2, CONFIG.action.n_waypoints, 2), np.float32)
    given = policy_inputs(stages["policy"], INPUTS, noise)
    assert set(given) == set(stages["policy"].inputs)
    longer = dataclasses.replace(INPUTS, input_ids=np.zeros((SIZES.batch, SIZES.length + 1), int))
    with pytest.raises(InputError, match="input_ids is .* the program takes .* longer prompt"):
        policy_inputs(stages["policy"], longer, noise)


def test_compressors_ask_for_their_cameras():
    config = compressed(CONFIG, "flex")
    sizes = dataclasses.replace(SIZES, steps=2, step_images=2)
    stages = make_stages(config, param_shapes(config), sizes, unroll=True, names=["vision", "prefill"])
    assert {"camera_index", "frame_time", "step_images"} <= set(stages["vision"].inputs)
    assert "scene_deepstack" not in stages["prefill"].inputs  # its tokens have none
    tokens = config.scene.flex.num_tokens
    assert stages["vision"].outputs["scene_tokens"].shape[1] == tokens


def test_triplanes_are_not_unrolled():
    config = compressed(CONFIG, "triplane")
    with pytest.raises(ConfigError, match="triplane.*stablehlo"):
        make_stages(config, param_shapes(config), SIZES, unroll=True)


def test_an_unknown_stage(params):
    with pytest.raises(ConfigError, match="stage 'brake' is unknown; known: vision, prefill"):
        make_stages(CONFIG, params, SIZES, unroll=False, names=["brake"])


@pytest.mark.parametrize("name", ["r1_10b", "r1_5_10b"])
def test_the_released_model_as_shapes(name):
    config = preset(name)
    sizes = dataclasses.replace(
        SIZES, length=3072, images=16, patches=720, samples=6, new_tokens=256, batch=1
    )
    names = [stage for stage in STAGES if stage not in ("policy", "flow_loop")]
    stages = make_stages(config, param_shapes(config), sizes, unroll=False, names=names)
    assert stages["prefill"].outputs["prefix_k"].shape == (36, 1, 8, 3072, 128)
    assert stages["prefill"].outputs["prefix_k"].dtype == "bfloat16"
    assert stages["prefill"].outputs["logits"].shape == (1, config.language.vocab_size)
    assert stages["flow_step"].outputs["velocity"].shape == (1, 6, 64, 2)


def test_facts_for_the_host():
    facts = host_facts(CONFIG)
    assert facts["end_id"] == special_token_id(CONFIG, "traj_future_start")
    first, last = facts["no_reasoning_ids"]
    assert last - first == CONFIG.trajectory_tokens.traj_vocab_size
    assert facts["waypoints"] == CONFIG.action.n_waypoints
