"""Plans: machines by name, sizes per device, what is replicated, whether it fits."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest

from alpamayo_jax import convert, presets
from alpamayo_jax.plan import job as jobs
from alpamayo_jax.plan import report
from alpamayo_jax.config import ConfigError
from alpamayo_jax.hardware import chip
from alpamayo_jax.plan.machine import parse_machine
from alpamayo_jax.data.windows import observe, target
from alpamayo_jax.settings import PrecisionSettings, StageSettings, VisionSettings
from alpamayo_jax.sharding import AxisRules, make_mesh, replicated
from alpamayo_jax.sim.camera import RIGS
from alpamayo_jax.sim.source import procedural_clip
from alpamayo_jax.testing.tiny import random_train_batch, tiny_config
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.train.optimiser import OptimiserConfig, make_optimiser
from alpamayo_jax.train.state import abstract_state, state_shardings
from alpamayo_jax.plan.virtual import virtual_devices

MACHINE = parse_machine("data:2,fsdp:2,tensor:2")


def job(preset, shape=dict(cameras=1, frames=2), **stage):
    return jobs.Job(preset, StageSettings(**dict(remat="full") | stage), **shape)


@pytest.fixture
def small(monkeypatch):
    """Preset "small": programs compile in seconds."""
    monkeypatch.setitem(presets.PRESETS, "small", tiny_config)
    return job("small")


@pytest.mark.parametrize("mesh, device, sizes, chip", [
    ("8xH100", "", (1, 8, 1, 1), "H100"),
    ("64xH100", "", (1, 64, 1, 1), "H100"),
    ("128xh200", "", (2, 64, 1, 1), "H200"),
    ("6xA100-80", "", (3, 2, 1, 1), "A100-80"),
    ("v5e-256", "", (4, 64, 1, 1), "v5e"),
    ("v5p-8", "", (1, 4, 1, 1), "v5p"),
    ("data:1,fsdp:8,tensor:1", "", (1, 8, 1, 1), "H100"),
    ("seq:2, tensor:4", "v6e", (1, 1, 4, 2), "v6e"),
])  # fmt: skip
def test_machines(mesh, device, sizes, chip):
    machine = parse_machine(mesh, device)
    assert tuple(machine.sizes.values()) == sizes
    assert machine.chip.name == chip and machine.num_devices == math.prod(sizes)


@pytest.mark.parametrize("mesh", [
    "", "8", "fsdp", "fsdp:0", "fsdp:-1", "fsdp:2,fsdp:2", "model:4", "8xH99", "0xH100", "v9z-8",
    "fsdp:8;tensor:2",
])  # fmt: skip
def test_machines_that_are_none(mesh):
    with pytest.raises(ConfigError):
        parse_machine(mesh)


def test_a_split_of_named_machines():
    machine = parse_machine("16xH100", split=dict(data=-1, fsdp=4, tensor=2, seq=1))
    assert machine.sizes == dict(data=2, fsdp=4, tensor=2, seq=1)
    assert parse_machine("fsdp:4", split=dict(data=-1)).sizes["fsdp"] == 4
    for split in (dict(data=3), dict(data=-1, fsdp=3), dict(data=-1, fsdp=-1)):
        with pytest.raises(ConfigError, match="does not fit 16 device"):
            parse_machine("16xH100", split=split)


@pytest.mark.parametrize("wrong", [
    dict(stage=StageSettings(objective="sleep")), dict(stage=StageSettings(batch_size=0)),
    dict(frames=0), dict(length=-1), dict(preset="none"), dict(length=300),
], ids=str)  # fmt: skip
def test_jobs_that_make_no_sense(wrong):
    with pytest.raises(ConfigError):
        dataclasses.replace(jobs.Job("r1_10b", StageSettings()), **wrong).batch(1)


def test_the_release_sees_3328_tokens():
    """16 images of 180 tokens each (320 x 576 pixels), as the released processor makes them."""
    batch = jobs.abstract_batch(presets.preset("r1_10b"), rows=2)
    assert batch.inputs.pixel_values.shape == (2, 16, 720, 1536)
    assert batch.inputs.input_ids.shape == (2, 3328)
    longer = jobs.abstract_batch(presets.preset("r1_10b"), rows=2, length=4096)
    assert longer.labels_mask.shape == (2, 4096)


def test_shapes_are_those_of_real_batches():
    config = tiny_config()
    real = random_train_batch(config, ((((4, 4),) * 2),) * 3, length=256)
    shapes = jobs.abstract_batch(config, 3, length=256, cameras=1, frames=2)
    assert jax.tree.structure(real) == jax.tree.structure(shapes)
    for a, b in zip(jax.tree.leaves(real), jax.tree.leaves(shapes)):
        assert a.dtype == b.dtype and a.ndim == b.ndim and a.shape[:1] == b.shape[:1]


@pytest.mark.parametrize("compressor, size", [
    ("triplane", (2, 3, 2, 1)), ("flex", (5,)), ("flex", (5, 1))
])  # fmt: skip
def test_shapes_are_those_of_real_compressed_batches(compressor, size):
    config = presets.with_compressor(presets.preset("tiny"), compressor, size)
    clip = procedural_clip(0, 0, seconds=12.0, cameras=RIGS[4], image_size=(192, 108))
    processor = Processor(config, tiny_tokenizer(config))
    seen = [observe(clip, 4.0, num_frames=2)]
    wanted, interleaved = [target(clip, 4.0)], config.scene.flex.prefix
    real = processor.train_batch(seen, wanted, pad_to=640)
    if interleaved:
        earlier = [observe(clip, 3.9, num_frames=1)], [target(clip, 3.9)]
        real = processor.interleaved_batch([earlier, (seen, wanted)], pad_to=640)
    shapes = jobs.abstract_batch(config, 1, 640, cameras=4, frames=2, interleaved=interleaved)
    assert jax.tree.structure(real) == jax.tree.structure(shapes)
    # An image of 192 x 108 pixels has as many tokens as a recorded one: 15.
    for a, b in zip(jax.tree.leaves(real), jax.tree.leaves(shapes)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def test_a_compressor_makes_shorter_rows():
    def length(compressor, size=(), **shape):
        model = presets.with_compressor(presets.preset("r1_10b"), compressor, size)
        return jobs.abstract_batch(model, 1, **shape).labels_mask.shape[1]

    # 4 steps of 180, 288 and 200 tokens and 2 around each, 368 of history, future and text.
    assert length("triplane", (8, 8, 8, 1)) == 1152 and length("triplane") == 1536
    assert length("flex", (200,)) == 1280 < length("per_image") == 3328
    # The number of cameras changes nothing but the images.
    assert length("triplane", cameras=7) == 1536
    with pytest.raises(ConfigError, match="10 frames per camera are more than the 9 time steps"):
        length("flex", frames=10)


@pytest.mark.parametrize("compressor, less, more", [
    ("triplane", (3, 4, 3, 1), (3, 4, 3, 0)),  # half the grid, all of it
    ("flex", (6,), (60,)),
])  # fmt: skip
def test_what_a_compressor_keeps_is_counted(small, compressor, less, more):
    """In rows of the same length: what the compressor itself keeps for the backward pass."""
    kept = [
        jobs.kept_bytes(
            dataclasses.replace(small, length=512, vision=VisionSettings(compressor, size)), MACHINE
        )
        for size in (less, more)
    ]
    assert 0 < kept[0] < kept[1]


def test_a_plan(small):
    result = report.make_plan(small, MACHINE)
    assert result["replicated_against_rules"] == []
    assert result["fits"] and result["devices"] == 8 and result["compile_seconds"] > 0
    assert set(result["collectives"]) >= {"all-gather", "all-reduce"}
    held = result["bytes_per_device"]
    assert held["total"] == pytest.approx(
        held["parameters"] + held["optimiser"] + held["batch"] + held["temporaries"], rel=0.02
    )
    # Only the language model and vision tower have moments: two per parameter, and a count.
    assert result["trained_parameters"] < result["parameters"]
    assert 2 * held["gradients"] <= held["optimiser"] <= 2 * held["gradients"] + 8
    every = 4 * result["parameters"]
    assert every / 4 <= held["parameters"] < every  # fsdp x tensor is 4; some parts stay whole
    assert sum(result["whole_by_rule"].values()) < held["parameters"]
    assert result["flops"] > 0


def test_more_rows_than_fit(small):
    """What does not fit is said to."""
    machine = dataclasses.replace(MACHINE, chip=dataclasses.replace(MACHINE.chip, memory_bytes=1e5))
    assert not report.make_plan(small, machine)["fits"]


@pytest.mark.slow
def test_stages_options_and_averages(small):
    flow = dataclasses.replace(
        job("small", objective="expert", accumulate=2, ema_decay=0.9, remat="none"),
        precision=PrecisionSettings(compute="bfloat16"),
    )
    result = report.make_plan(flow, parse_machine("fsdp:2,tensor:1"))
    held = result["bytes_per_device"]
    assert held["average"] == held["gradients"] > 0
    assert result["trained_parameters"] < result["parameters"] / 2


@pytest.mark.slow
def test_adapters(small):
    result = report.make_plan(job("small", lora_rank=4), parse_machine("fsdp:2"))
    assert result["trained_parameters"] < result["parameters"] / 8
    assert result["replicated_against_rules"] == []


def test_what_does_not_divide_is_named(small):
    with pytest.raises(ConfigError, match="input_ids: .* 'batch' of 8 does not divide over 3"):
        report.make_plan(small, parse_machine("fsdp:1,data:3"))
    with pytest.raises(ConfigError, match="(vlm|expert)/.*does not divide over 3"):
        report.make_plan(job("small", batch_size=3), parse_machine("fsdp:3"))
    with pytest.raises(ConfigError, match="9 devices are needed, JAX runs on 8"):
        report.make_plan(small, parse_machine("data:9"))
    with pytest.raises(ConfigError, match="match no parameter"):
        report.make_plan(job("small", frozen=(".*",)), MACHINE)


def test_remat_keeps_less(small):
    kinds = [job("small", remat=remat) for remat in ("none", "dots", "full")]
    sizes = [jobs.kept_bytes(one, MACHINE) for one in kinds]
    assert sizes[0] > sizes[1] > sizes[2] > 0
    assert jobs.kept_bytes(job("small", batch_size=16), MACHINE) == pytest.approx(
        2 * sizes[2], rel=0.1
    )
    assert jobs.kept_bytes(job("small", batch_size=16, accumulate=2), MACHINE) == sizes[2]


def _state(mesh):
    config = presets.preset("r1_10b")
    params = convert.param_shapes(config, jnp.float32)
    optimiser = make_optimiser(OptimiserConfig(learning_rate=1.0, num_steps=9), params)
    state = abstract_state(params, optimiser)
    return state, state_shardings(config, mesh, AxisRules(), optimiser)


def test_replication_is_found():
    mesh = make_mesh(fsdp=4, tensor=2)
    state, wanted = _state(mesh)
    assert report.replicated_against_rules(state, wanted, wanted) == []
    name = "params/expert/layers/mlp/up_proj/kernel"
    got = jax.tree_util.tree_map_with_path(
        lambda path, rule: replicated(mesh) if report.partition.path_name(path) == name else rule,
        wanted,
    )
    assert report.replicated_against_rules(state, wanted, got) == [name]
    assert report.replicated_against_rules(state, got, wanted) == []


def test_the_release_with_moments_is_sixteen_gigabytes_on_each_of_eight():
    mesh = make_mesh(fsdp=8)
    state, placed = _state(mesh)
    held = report.held_bytes(state, placed)
    assert held == pytest.approx(3 * 4 * 11_078_526_194 / 8, rel=0.001)
    whole = report.whole_by_rule(state.params, placed.params)
    assert sum(whole.values()) < 1e-3 * held
    assert "expert/layers/self_attn/q_norm/scale" in whole


@pytest.mark.parametrize("compiler, name, message", [
    ("tpu", "H100", "compiler 'tpu' is unknown; known: cpu, cuda"),
    ("cuda", "v5e", "compiler 'cuda' knows H100, H200, not v5e"),
])  # fmt: skip
def test_compilers_that_are_none(compiler, name, message):
    with pytest.raises(ConfigError, match=message):
        virtual_devices(compiler, chip(name), 2)


@pytest.mark.slow
def test_the_release_on_eight_devices():
    result = report.make_plan(job("r1_10b", {}), parse_machine("8xH100"))
    assert result["parameters"] == 11_078_526_194
    assert result["replicated_against_rules"] == [] and result["fits"]
    assert result["bytes_per_device"]["total"] > 16e9
