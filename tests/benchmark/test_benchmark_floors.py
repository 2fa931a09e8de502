"""What a policy must compute and move, against counts of other kinds."""

import dataclasses

import jax
import pytest

from alpamayo_jax.benchmark import ahead, floors, policy
from alpamayo_jax.benchmark.floors import Peaks, Shapes, Work
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.presets import preset
from alpamayo_jax.testing.tiny import tiny_config
from alpamayo_jax.train.flops import program_flops

RELEASE = Shapes(images=16, patches=720, prompt=3000, tokens=40, steps=10)


def test_the_longer_of_computing_and_moving():
    peaks = Peaks(flops=10.0, bandwidth=2.0)
    assert Work(flops=100.0, bytes=2.0).seconds(peaks) == 10
    assert Work(flops=1.0, bytes=8.0).seconds(peaks) == 4
    assert Work(1.0, 2.0) + Work(3.0, 4.0) * 2 == Work(7.0, 10.0)


def test_the_release():
    """36 layers of 192.9M values, a head of 637.7M, an expert of 2.28B; 147 kB per cached token."""
    work = floors.phases(preset("r1_10b"), RELEASE, 1)
    weights = 2 * (36 * 192.9e6 + 637.7e6)
    assert work["decode_token"].bytes == pytest.approx(weights + 147_456 * 3020, rel=2e-3)
    assert work["flow_step"].bytes == pytest.approx(2 * 2.28e9 + 147_456 * 3040, rel=5e-3)
    assert work["prefill"].flops == pytest.approx(46e12, rel=0.06)
    assert work["vision"].flops == pytest.approx(12e12, rel=0.1)
    assert work["end_to_end"].flops == pytest.approx(
        work["prefill_with_vision"].flops
        + 40 * work["decode_token"].flops
        + 10 * work["flow_step"].flops
    )


def test_samples_share_the_weights_and_the_prompt():
    one, six = (floors.phases(preset("r1_10b"), RELEASE, count) for count in (1, 6))
    assert six["prefill"] == one["prefill"] and six["vision"] == one["vision"]
    assert six["decode_token"].flops == pytest.approx(6 * one["decode_token"].flops)
    assert six["decode_token"].bytes < 1.01 * one["decode_token"].bytes
    peaks = Peaks(989e12, 3.35e12)
    both = [floors.end_to_end_seconds(work, RELEASE, peaks) for work in (one, six)]
    assert both[0] < both[1] < 1.1 * both[0]


@pytest.mark.parametrize("tied", [False, True])
def test_operations_are_those_that_a_program_asks_for(tied):
    """Programs also compute what a mask hides, and nothing else beyond ours."""
    base = tiny_config()
    language = dataclasses.replace(base.language, tie_word_embeddings=tied)
    one = policy.Case(tiny_config(language=language), images=2, grid=(4, 6), length=80, tokens=4)
    work = floors.phases(one.config, one.shapes, 2)
    programs = ahead.programs(one, 2, apart=False)
    for phase in ("vision", "flow_step", "decode_token"):
        function, args = programs[phase]
        assert program_flops(function, *args) == pytest.approx(work[phase].flops, rel=0.03), phase
    function, args = programs["prefill"]
    c, length = one.config.language, one.length
    hidden = 2 * length * (length - 1) * c.num_heads * c.head_dim * c.num_layers
    assert program_flops(function, *args) == pytest.approx(work["prefill"].flops + hidden, rel=0.03)


def test_every_weight_is_read_once_per_decision():
    """The embedding aside, of which only rows are read."""
    config, shapes = tiny_config(), Shapes(images=1, patches=24, prompt=1, tokens=1, steps=1)
    work = floors.phases(config, shapes, 1)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(param_shapes(config)))
    rows = param_shapes(config)["vlm"]["language_model"]["embed_tokens"]["embedding"].size * 4
    layers = param_shapes(config)["vlm"]["language_model"]["layers"]
    twice = sum(leaf.size * 4 for leaf in jax.tree.leaves(layers))  # for prompt and token
    moved = work["vision"].bytes + work["decode_token"].bytes + work["flow_step"].bytes
    moved += work["prefill"].bytes
    assert size - rows + twice <= moved <= 1.2 * (size - rows + twice)


def test_peaks_of_this_machine():
    peaks = floors.measure_peaks(tiny_config())
    assert peaks.measured and 1e9 < peaks.flops < 1e16 and 1e8 < peaks.bandwidth < 1e14
