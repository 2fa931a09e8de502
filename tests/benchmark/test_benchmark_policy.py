"""Suite "policy": phases, floors, the comparison, and programs that are only compiled."""

import math
import sys

import jax
import pytest

from alpamayo_jax.benchmark import ahead, first, policy
from alpamayo_jax.config import ConfigError
from alpamayo_jax.models.init import init_params
from alpamayo_jax.presets import preset
from alpamayo_jax.testing.tiny import tiny_config

ONE = policy.Case(tiny_config(), images=1, grid=(4, 4), length=80, tokens=3, steps=2)
PER_SAMPLE = ("decode_token", "flow_step", "trajectory", "end_to_end")


def _names(*counts):
    own = {f"{phase}/{count}_samples" for phase in PER_SAMPLE for count in counts}
    return {"vision", "prefill", "prefill_with_vision"} | own


@pytest.mark.slow
def test_phases_without_a_comparison():
    found = policy.run(ONE, samples=(2,), rounds=2, compare="none")
    rows = found["phases"]
    assert set(rows) == _names(2)
    for name, row in rows.items():
        assert row["times"] == 2 and 0 < row["floor"] and 0 < row["compile"], name
        assert row["spread"][0] <= row["median"] <= row["spread"][1]
        assert row["ratio_to_floor"] == pytest.approx(row["median"] / row["floor"])
        assert row["memory_mib"] > 0 and "comparison" not in row
    # A token and a step are parts of the whole.
    assert rows["decode_token/2_samples"]["median"] < rows["end_to_end/2_samples"]["median"]
    assert found["peak_memory"]["process_mib"] > 50 and found["difference"] == {}
    assert found["compile"] == pytest.approx(sum(row["compile"] for row in rows.values()))


@pytest.mark.torch
def test_beside_pytorch():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    found = policy.run(ONE, samples=(2,), rounds=1, compare="transformers")
    for name, row in found["phases"].items():
        ratio = row["median"] / row["comparison"]["median"]
        assert row["ratio_to_comparison"] == pytest.approx(ratio), name
        assert ("comparison_shared" in row) == name.startswith("end_to_end")
    assert found["difference"]["keys"] < 1e-4 and found["difference"]["velocity"] < 1e-3


@pytest.mark.parametrize("name, images, length", [
    ("r1_10b", 16, 3000), ("moderate", 4, 441), ("tiny", 2, 96),
])  # fmt: skip
def test_shapes_follow_the_size(name, images, length):
    one = policy.case(preset(name))
    assert (one.images, one.length) == (images, length)
    if name != "r1_10b":
        assert one.inputs().input_ids.shape == (1, length)


def test_a_prompt_that_is_too_short():
    with pytest.raises(ConfigError, match="50 tokens is too short: 56 are needed|too short"):
        policy.Case(tiny_config(), length=50).inputs()


def test_only_large_models_are_not_run():
    assert ahead.too_large(policy.case(preset("r1_10b")))
    assert not ahead.too_large(policy.case(preset("moderate")))


def test_programs_that_are_only_compiled(monkeypatch):
    cpu = lambda target: (ahead.virtual_devices("cpu", target, 1), "cpu")  # noqa: E731
    monkeypatch.setattr(ahead, "_compiler", cpu)
    found = ahead.run(ONE, samples=(2,))
    rows = found["phases"]
    assert set(rows) == {"vision", "prefill"} | {
        f"{phase}/2_samples" for phase in ("decode_token", "flow_step", "end_to_end")
    }
    for name, row in rows.items():
        assert row["median"] is None and row["status"] == "not measured", name
        assert row["floor"] > 0 and row["compile"] > 0 and row["memory_mib"] > 0
        if not name.startswith("end_to_end"):
            assert 0.9 < row["ratio_of_flops"] < 2
            assert row["program_bytes"] == pytest.approx(sum(row["moved"].values()))
            # At least what is needed once; on CPUs not much less, though it may stay in caches.
            assert row["ratio_of_bytes"] > 0.9
    assert found["compiled_for"] == "this CPU" and "Nothing was run" in found["notes"][0]
    assert not found["peaks"]["measured"]


def test_the_first_trajectory():
    rows = first.run(lambda: (ONE, init_params(ONE.config, jax.random.key(0))))["phases"]
    seconds = {name: row["median"] for name, row in rows.items()}
    total = seconds.pop("first_trajectory")
    assert seconds.pop("second_run") < seconds["compile"]
    assert total == pytest.approx(sum(seconds.values()))
    assert set(seconds) == {"imports", "parameters", "compile", "run"}
    assert first.process_start() < first._IMPORTED + 1
    assert math.isfinite(total)


def test_a_process_that_fails_says_why():
    with pytest.raises(first.ChildFailed, match="(?s)import nothing_of_this_name failed: .*No module"):
        first._child([sys.executable, "-c", "import nothing_of_this_name"])
    assert first.backend() == "cpu"
