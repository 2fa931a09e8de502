"""The gate: what passes, what does not, and that a host program drives as the library does."""

import dataclasses

import jax
import numpy as np
import pytest

from alpamayo_jax.export import parity
from alpamayo_jax.export.driving import drive
from alpamayo_jax.export.parity import Reference, compare, noises
from alpamayo_jax.export.stages import Sizes, host_facts, sizes_of
from alpamayo_jax.testing.tiny import random_inputs, random_params, tiny_config

CONFIG = tiny_config()


class Recorded:
    """In place of the model: two stages with known outputs on every window."""

    config, sizes = CONFIG, Sizes(length=1, images=1, patches=1)

    def calls(self, inputs, noise):
        yield "trajectory", {"w": inputs}, {"xyz": np.full((1, 2), 8.0, np.float32)}
        tokens = np.array([[3, 4, 5]], np.int32)
        yield "policy", {"w": inputs}, {"token_ids": tokens, "xyz": np.float32([[1.0]])}


def outputs(stage, offset=0.0, ids=(3, 4, 5)):
    if stage == "trajectory":
        return {"xyz": np.full((1, 2), 8.0 + offset, np.float32)}
    return {"token_ids": np.array([ids], np.int32), "xyz": np.float32([[1.0 + offset]])}


def gate(run, **kwargs):
    kwargs = {"runner": "test", "names": ("trajectory", "policy")} | kwargs
    return compare(Recorded(), run, [0, 1], **kwargs)


def test_what_is_equal_passes():
    found = gate(lambda stage, values: outputs(stage))
    for each in found.values():
        assert each.passed and each.windows == 2 and set(each.errors.values()) == {0.0}
    assert found["policy"].tokens_identical is True
    assert found["trajectory"].tokens_identical is None
    assert found["policy"].reference.startswith("jax ")


@pytest.mark.parametrize(("offset", "passed"), [(5e-5, True), (3e-4, False)])
def test_float32_passes_within_a_ten_thousandth(offset, passed):
    found = gate(lambda stage, values: outputs(stage, offset))
    assert found["trajectory"].passed is passed
    assert found["trajectory"].errors["xyz"] == pytest.approx(offset, rel=0.05)


def test_the_worst_window_counts():
    found = gate(lambda stage, values: outputs(stage, 0.5 if values["w"] == 1 else 0.0))
    assert found["trajectory"].errors["xyz"] == pytest.approx(0.5)


def test_narrow_formats_are_judged_by_magnitude():
    run = lambda stage, values: outputs(stage, 0.4)  # noqa: E731
    found = gate(run, precision="fp8")
    assert found["trajectory"].passed  # 0.4 of 8
    assert found["trajectory"].errors["xyz"] == pytest.approx(0.05)
    assert not found["policy"].passed  # 0.4 of 1


def test_one_other_token_fails():
    found = gate(lambda stage, values: outputs(stage, ids=(3, 4, 6)), tolerance=100.0)
    assert found["policy"].tokens_identical is False
    assert not found["policy"].passed and found["trajectory"].passed
    assert found["policy"].errors["token_ids"] == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_number_never_passes(bad):
    found = gate(lambda stage, values: outputs(stage, bad), tolerance=1.0)
    assert not found["trajectory"].passed
    assert np.isfinite(found["trajectory"].errors["xyz"])


def test_another_shape_never_passes():
    run = lambda stage, values: {"xyz": np.zeros((1, 1))} if stage == "trajectory" else outputs(stage)  # noqa: E731,E501
    assert not gate(run, tolerance=1e3)["trajectory"].passed


def test_a_stage_that_did_not_run_does_not_pass():
    found = gate(lambda stage, values: outputs(stage), names=("trajectory", "vision"))
    assert not found["vision"].passed and not found["vision"].errors


class Amplifying(Recorded):
    """A model whose answer moves 10,000 times as far as its noise."""

    def run(self, stage, values):
        return {"actions": 1e4 * values["noise"]}

    def calls(self, inputs, noise):
        yield "flow_loop", {"noise": noise}, self.run("flow_loop", {"noise": noise})


@pytest.mark.parametrize(("share", "passed"), [(0.5, True), (3.0, False)])
def test_nobody_is_asked_for_more_digits_than_there_are(share, passed):
    model = Amplifying()

    def run(stage, values):
        noise = values["noise"]
        moved = noise * (1 + share * (parity.nudge(noise) / noise - 1))
        return model.run(stage, {"noise": moved.astype(np.float32)})

    found = compare(model, run, [0, 1], runner="test", names=("flow_loop",))["flow_loop"]
    assert found.passed is passed
    assert found.errors["actions"] > found.tolerance
    assert found.floors["actions"] > found.tolerance


def test_what_has_no_noise_has_no_floor():
    assert gate(lambda stage, values: outputs(stage))["trajectory"].floors == {}


def test_a_nudge_is_a_few_units_in_the_last_place():
    noise = np.float32([1.5, -2.0, 0.1])
    moved = parity.nudge(noise)
    assert moved.dtype == np.float32 and (moved != noise).all()
    np.testing.assert_allclose(moved, noise, rtol=1e-6)


def test_every_precision_has_a_tolerance():
    assert set(parity.TOLERANCES) == {"fp32", "bf16", "fp8", "int8", "nvfp4"}
    assert parity.TOLERANCES["fp32"] == 1e-4


def test_noise_is_the_same_every_time():
    first = noises(3, Recorded.sizes, 8)
    assert first.shape == (3, 1, 1, 8, 2) and first.dtype == np.float32
    np.testing.assert_array_equal(first, noises(3, Recorded.sizes, 8))
    assert np.abs(first[0] - first[1]).max() > 0.1
    assert np.abs(first - noises(3, Recorded.sizes, 8, seed=1)).max() > 0.1


@pytest.fixture(scope="module")
def reference():
    params = random_params(CONFIG)
    inputs = one_row(random_inputs(CONFIG))
    return Reference(CONFIG, params, sizes_of(inputs, samples=2, new_tokens=5)), inputs


def one_row(inputs):
    values = {
        f.name: getattr(inputs, f.name) for f in dataclasses.fields(inputs)
    }
    cut = lambda name, a: a[:, :1] if name == "position_ids" else a[:1]  # noqa: E731
    return dataclasses.replace(
        inputs, **{name: cut(name, a) for name, a in values.items() if a is not None}
    )


def test_a_host_program_drives_as_the_library_does(reference):
    model, inputs = reference
    noise = noises(1, model.sizes, CONFIG.action.n_waypoints)[0]
    want = model.sample(inputs, noise)
    got = drive(model.run, host_facts(CONFIG), inputs.named_arrays(), noise, limit=5)
    assert got["token_ids"].shape == (1, 2, 5)
    for sample in range(2):  # greedy: all samples say the same
        np.testing.assert_array_equal(got["token_ids"][:, sample], want["token_ids"])
        np.testing.assert_array_equal(got["end_index"][:, sample], want["end_index"])
    for name in ("actions", "xyz", "rot"):
        np.testing.assert_allclose(got[name], want[name], atol=2e-4)
    assert np.abs(want["actions"][0, 0] - want["actions"][0, 1]).max() > 1e-2


def test_the_single_program_is_the_library_too(reference):
    model, inputs = reference
    noise = noises(1, model.sizes, CONFIG.action.n_waypoints)[0]
    want = model.sample(inputs, noise)
    got = model.run("policy", {**inputs.named_arrays(), "noise": noise})
    np.testing.assert_array_equal(got["token_ids"], want["token_ids"])
    np.testing.assert_array_equal(got["end_index"], want["end_index"])
    for name in ("actions", "xyz", "rot"):
        np.testing.assert_allclose(got[name], want[name], atol=2e-4)


def test_every_stage_is_called_on_a_window(reference):
    model, inputs = reference
    noise = noises(1, model.sizes, CONFIG.action.n_waypoints)[0]
    called = [stage for stage, _, _ in model.calls(inputs, noise)]
    assert set(called) == set(model.stages)
    assert called.count("decode_step") <= 2 and called[-1] == "policy"
    assert jax.default_backend() in compare(
        model, model.run, [inputs], runner="itself", tolerance=1e-3
    )["vision"].reference
