"""Exported programs: what they take, what they refuse, and that older ones are read."""

import dataclasses
import pathlib

import numpy as np
import pytest

from alpamayo_jax.errors import InputError
from alpamayo_jax.export import Artefact, Exported, Manifest, Port, Program, load
from alpamayo_jax.export import manifest as manifests

# Written by tests/export/make_old_export.py under jax 0.10.2, the oldest supported version.
OLD = pathlib.Path(__file__).parent / "made_by_jax_0_10_2"

ARTEFACT = Artefact(
    stage="double",
    format="onnx",
    file="double.onnx",
    precision="fp32",
    inputs=(Port("x", ("batch", 2), "float32"), Port("mask", ("batch",), "bool")),
    outputs=(Port("y", ("batch", 2), "float32"),),
    files={},
    sizes={},
)


@pytest.fixture
def program():
    return Program(ARTEFACT, lambda inputs: {"y": 2 * inputs["x"]})


def given(batch=3, **changes):
    return {"x": np.ones((batch, 2), np.float32), "mask": np.ones(batch, bool)} | changes


@pytest.mark.parametrize("batch", [1, 3])
def test_it_runs_for_any_size_that_is_free(program, batch):
    assert np.array_equal(program(**given(batch))["y"], np.full((batch, 2), 2.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.ones((3, 2))}, r"x of stage double must be float32 \['batch', 2\], got float64"),
        ({"x": np.ones((3, 4), np.float32)}, r"got float32 \[3, 4\]"),
        ({"x": np.ones(2, np.float32)}, r"got float32 \[2\]"),
        ({"mask": np.ones(2, bool)}, r"mask of stage double must be bool \['batch'\], got bool \[2\]"),
        ({"z": 1}, "has no input z"),
    ],
)
def test_other_inputs_are_refused(program, changes, message):
    with pytest.raises(InputError, match=message):
        program(**given(**changes))


def test_a_missing_input_is_named(program):
    with pytest.raises(InputError, match="stage double misses input mask"):
        program(x=np.ones((1, 2), np.float32))


def test_running_a_stage_takes_what_it_needs(tmp_path, program):
    exported = Exported(tmp_path, Manifest("onnx", "fp32", "", (ARTEFACT,), {}, {}))
    exported._programs["double"] = program
    assert exported.stages == ("double",) and "double" in exported
    out = exported.run("double", given(other=np.zeros(9)))
    assert out["y"].shape == (3, 2)
    with pytest.raises(InputError, match="no stage 'half'"):
        exported["half"]


def test_what_was_not_compared_is_said(tmp_path, caplog):
    manifests.write(tmp_path, Manifest("onnx", "fp32", "", (ARTEFACT,), {}, {}))
    load(tmp_path)
    assert "not valid: double" in caplog.text
    caplog.clear()
    valid = dataclasses.replace(ARTEFACT, valid=True)
    manifests.write(tmp_path, Manifest("onnx", "fp32", "", (valid,), {}, {}, valid=True))
    load(tmp_path)
    assert not caplog.text


def test_a_damaged_program_is_not_run(tmp_path):
    (tmp_path / "double.onnx").write_bytes(b"x")
    damaged = dataclasses.replace(ARTEFACT, files={"double.onnx": "0" * 64})
    manifests.write(tmp_path, Manifest("onnx", "fp32", "", (damaged,), {}, {}))
    with pytest.raises(InputError, match="checksum differs"):
        load(tmp_path)["double"]


@pytest.mark.smoke
@pytest.mark.parametrize("batch", [1, 2])
def test_programs_of_the_oldest_jax_run_in_this_one(batch):
    recorded = np.load(OLD / "recorded.npz", allow_pickle=False)
    exported = load(OLD)
    assert exported.manifest.versions["jax"] == "0.10.2"
    values = {name: recorded[name] for name in recorded.files}
    # Rows do not depend on each other: any batch gives the recorded rows.
    batched = {
        name: np.repeat(value, batch, axis=1 if name == "position_ids" else 0)
        for name, value in values.items()
        if not name.startswith("out_")
    }
    caches = [name for name in batched if name.startswith(("prefix_", "cache_k", "cache_v"))]
    batched |= {name: np.repeat(values[name], batch, axis=1) for name in caches}
    for stage in ("vision", "flow_step", "trajectory"):
        for name, array in exported.run(stage, batched).items():
            want = recorded[f"out_{stage}_{name}"]
            axis = 1 if name == "scene_deepstack" else 0
            np.testing.assert_allclose(array, np.repeat(want, batch, axis), rtol=1e-4, atol=1e-4)
